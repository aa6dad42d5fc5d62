-- While the channel is held: defer what is due until the next probe.
-- Keys: as in defer.lua, the channel hash and the parked set.
-- ARGV: 2 most events, 3 max age, 4 history
-- Answers {how many events were deferred, ids of those that died of age}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local channel = redis.call('HMGET', CHANNEL, 'probe', 'reason', 'probing')
local probe = tonumber(channel[1])
-- Another gather is about to claim what it probes with: without it there would be no probe for the length of a lease.
if not probe or channel[3] == '1' then return {0, {}} end
local wait = math.max(0, probe - now)
local deferred, dead = 0, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', PENDING, '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  if defer_event(id, wait, wait, tonumber(ARGV[3]), channel[2], ARGV[4]) == 'deferred' then
    redis.call('SADD', prefix .. 'parked', id)
    deferred = deferred + 1
  else
    dead[#dead + 1] = id
  end
end
return {deferred, dead}
