-- The first step of every gather: clear the wake-up, bring back what lost its lease, look at the channel.
-- Keys: wake string, beat string, claimed zset, pending zset, event:<id> hashes, channel hash, history zsets.
-- ARGV: 2 '1' if beat called, 3 most events to bring back, 4 history, 5 how long a probe keeps others away
-- Answers {rescued, due, claimed, 'open' | 'held' | 'probe'}
redis.call('DEL', prefix .. 'wake')
if ARGV[2] == '1' then redis.call('SET', prefix .. 'beat', now) end

local lapsed = redis.call('ZRANGEBYSCORE', CLAIMED, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))
for _, id in ipairs(lapsed) do
  redis.call('HSET', event_key(id), 'late', '1')
  put_pending(id, now)
end
for _, finished in ipairs({'sent', 'dead', 'suppressed', 'buried'}) do
  redis.call('ZREMRANGEBYSCORE', prefix .. finished, '-inf', now - tonumber(ARGV[4]))
end

local channel, probe = 'open', tonumber(redis.call('HGET', prefix .. 'channel', 'probe'))
local due = redis.call('ZCOUNT', PENDING, '-inf', now)
if probe then
  channel = 'held'
  if now >= probe and due > 0 then
    channel = 'probe'
    redis.call('HSET', prefix .. 'channel', 'probe', now + tonumber(ARGV[5]))
  end
end
return {#lapsed, due, redis.call('ZCARD', CLAIMED), channel}
