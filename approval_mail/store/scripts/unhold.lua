-- The channel works again: what waited for it alone is due now.
-- Keys: channel hash, parked set, pending and urgent zsets, trace:<id> lists.
-- ARGV: 2 most events to bring back in one call
-- Answers {'1' if it was held, milliseconds that it was held, 1 if more are parked}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local since = tonumber(redis.call('HGET', CHANNEL, 'since'))
redis.call('DEL', CHANNEL)
for _, id in ipairs(redis.call('SPOP', prefix .. 'parked', tonumber(ARGV[2]))) do
  if redis.call('ZADD', PENDING, 'XX', 'CH', now, id) == 1 then note(id, 'pending', '', 'the channel works again') end
  redis.call('ZADD', URGENT, 'XX', now, id)
end
return {since and '1' or '', since and now - since or 0, redis.call('EXISTS', prefix .. 'parked')}
