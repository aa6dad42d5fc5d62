-- Record the reminder of a request that is still pending; earlier ones that are due as well are passed over.
-- Keys: approval:<request> hash, reminders zset, and what record_event writes.
-- ARGV: 2-16 what record_event reads; 17 request id, 18 fraction, 19 the deadline that the event tells
-- Answers {'reminded' | 'no', ms until the wake-up or -1, its due time}
local own = 2 + RECORD_ARGS
local id, fraction, deadline = unpack(ARGV, own, own + 2)
local status, expires, fractions = unpack(redis.call('HMGET', approval_key(id), 'status', 'expires', 'fractions'))
if status ~= 'pending' or tonumber(expires) <= now then
  redis.call('ZREM', prefix .. 'reminders', fraction .. ' ' .. id)
  return {'no', -1, 0}
end
if expires ~= deadline then return {'no', -1, 0} end
local due = redis.call('ZSCORE', prefix .. 'reminders', fraction .. ' ' .. id)
if not due or tonumber(due) > now then return {'no', -1, 0} end
local last = fraction
for _, other in ipairs(split(fractions or '')) do
  local when = redis.call('ZSCORE', prefix .. 'reminders', other .. ' ' .. id)
  if when and tonumber(when) <= now and tonumber(other) > tonumber(last) then last = other end
end
if last ~= fraction then
  redis.call('ZREM', prefix .. 'reminders', fraction .. ' ' .. id)
  return {'no', -1, 0}
end
for _, other in ipairs(split(fractions or '')) do
  if tonumber(other) <= tonumber(fraction) then redis.call('ZREM', prefix .. 'reminders', other .. ' ' .. id) end
end
redis.call('HSET', approval_key(id), 'reminded', fraction)
local wake = record_event(2)
return {'reminded', wake[2], wake[3]}
