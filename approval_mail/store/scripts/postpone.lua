-- While the channel is held: defer what is due until the next probe. Keys: as in defer.lua, the channel hash and the parked set.
-- ARGV: 2 most events, 3 max age, 4 history
-- Answers how many events were deferred or died of age.
local channel = redis.call('HMGET', prefix .. 'channel', 'probe', 'reason')
local probe = tonumber(channel[1])
if not probe then return 0 end
local wait = math.max(0, probe - now)
local ids = redis.call('ZRANGEBYSCORE', PENDING, '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  if defer_event(id, wait, wait, tonumber(ARGV[3]), channel[2], ARGV[4]) == 'deferred' then
    redis.call('SADD', prefix .. 'parked', id)
  end
end
return #ids
