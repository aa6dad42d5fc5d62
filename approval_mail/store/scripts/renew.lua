-- Extend the lease of what a token still holds. Keys: claimed zset, event:<id> hashes, channel hash.
-- ARGV: 2 token, 3 lease, 4... event ids. Answers how many events the token still holds; of a probe without any, 1.
local refusal = write_despite_full_memory()
if refusal then return refusal end
local kept = 0
for i = 4, #ARGV do
  if redis.call('HGET', event_key(ARGV[i]), 'token') == ARGV[2] then
    redis.call('ZADD', CLAIMED, now + tonumber(ARGV[3]), ARGV[i])
    kept = kept + 1
  end
end
-- A probe keeps the others away from the held channel as long as it lasts.
if (kept > 0 or #ARGV < 4) and redis.call('HGET', CHANNEL, 'probing') == ARGV[2] then
  redis.call('HSET', CHANNEL, 'probe', now + tonumber(ARGV[3]))
  kept = math.max(kept, 1)
end
return kept
