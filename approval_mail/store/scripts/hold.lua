-- Hold the channel: nothing is claimed until the next probe. Keys: channel hash.
-- ARGV: 2 reason, 3 next step, 4 first wait, 5 longest wait, 6 kind of trouble
-- Only the trouble that holds it and a failed probe lengthen the wait: other batches under way met the same trouble.
-- Answers {milliseconds until the next probe, '1' if this is news (newly held, or trouble of another kind)}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local key = CHANNEL
local news = redis.call('HGET', key, 'kind') ~= ARGV[6] and '1' or ''
local newly = redis.call('HSETNX', key, 'since', now) == 1
if newly then count_up('held') end
local probed = redis.call('HDEL', key, 'probing') == 1
redis.call('HSET', key, 'reason', ARGV[2], 'next_step', ARGV[3], 'kind', ARGV[6])
if newly or probed then
  local failures = redis.call('HINCRBY', key, 'failures', 1)
  local wait = math.min(tonumber(ARGV[4]) * 2 ^ math.min(failures - 1, 20), tonumber(ARGV[5]))
  redis.call('HSET', key, 'probe', now + wait)
end
return {math.max(0, tonumber(redis.call('HGET', key, 'probe')) - now), news}
