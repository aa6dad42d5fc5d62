-- Put a pending request's deadline off, and all that hangs on it.
-- Keys: those of ask.lua, event:<id> hashes. ARGV: 2 request id, 3 deadline that is known, 4 new deadline,
--       5 nonce of this call, then pairs of event id and its record with the new deadline
-- Answers 'extended' | 'unknown' | 'ended' | 'late' | 'changed'
local id, known, later, nonce = unpack(ARGV, 2, 5)
local key = approval_key(id)
local status, expires, extender = unpack(redis.call('HMGET', key, 'status', 'expires', 'extender'))
if not status then return 'unknown' end
if extender == nonce then return 'extended' end
if status ~= 'pending' then return 'ended' end
if tonumber(expires) <= now then return 'late' end
if expires ~= known then return 'changed' end

redis.call('HSET', key, 'expires', later, 'extender', nonce)
plan_request(id)
for i = 6, #ARGV, 2 do
  if redis.call('EXISTS', event_key(ARGV[i])) == 1 then
    redis.call('HSET', event_key(ARGV[i]), 'record', ARGV[i + 1], 'expires', later)
  end
end
return 'extended'
