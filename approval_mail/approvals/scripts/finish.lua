-- Give a pending request its final status, together with the event of it.
-- Keys: those of ask.lua, untold zset, channel ended.
-- ARGV: 2-16 what record_event reads, id '' for no event; 17 request id, 18 status, 19 nonce of this call, 20 responder,
--       21 reason, 22 the deadline that the event tells, 23 history
-- Answers {'done' | 'unknown' | 'ended' | 'changed' (another deadline) | 'late' | 'early', ms until the wake-up or -1,
--          its due time}
local own = 2 + RECORD_ARGS
local id, status, nonce, responder, reason, deadline, history = unpack(ARGV, own, own + 6)
local key = approval_key(id)
local found, by, expires, asked, fractions =
  unpack(redis.call('HMGET', key, 'status', 'finisher', 'expires', 'asked', 'fractions'))
if not found then return {'unknown', -1, 0} end
if by == nonce then return {'done', 0, now} end
if found ~= 'pending' then return {'ended', -1, 0} end
if expires ~= deadline then return {'changed', -1, 0} end
local over = tonumber(expires) <= now
if over and status ~= 'expired' then return {'late', -1, 0} end
if status == 'expired' and not over then return {'early', -1, 0} end

local refusal = write_despite_full_memory()
if refusal then return refusal end
local wake = ARGV[2] ~= '' and record_event(2) or {'', -1, 0}
redis.call('HSET', key, 'status', status, 'finisher', nonce, 'responder', responder, 'reason', reason, 'ended', now)
redis.call('ZREM', prefix .. 'approvals:pending', id)
redis.call('ZADD', prefix .. 'approvals:' .. status, asked, id)
remove_from({'deadlines', 'unheard', 'untold'}, id)
for _, fraction in ipairs(split(fractions or '')) do
  redis.call('ZREM', prefix .. 'reminders', fraction .. ' ' .. id)
end
redis.call('PEXPIRE', key, history)
redis.call('ZADD', prefix .. 'finished', now, id)
redis.call('PUBLISH', prefix .. 'ended', id)
return {'done', wake[2], wake[3]}
