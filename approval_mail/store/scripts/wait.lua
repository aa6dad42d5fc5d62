-- How long a claim waits while the channel is held; the claim that probes it does not. Keys: channel hash.
-- ARGV: 2 token
-- Answers {milliseconds until the next probe or -1 if the claim may try the channel, why it is held}
local probe, probing, reason = unpack(redis.call('HMGET', CHANNEL, 'probe', 'probing', 'reason'))
if not probe or probing == ARGV[2] then return {-1, ''} end
return {math.max(0, tonumber(probe) - now), reason or ''}
