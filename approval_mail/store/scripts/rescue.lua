-- The first step of every gather: clear the wake-up, bring back what lost its lease, look at the channel.
-- Keys: wake, beat and room strings, claimed, pending and urgent zsets, event:<id> hashes, channel hash, history zsets.
-- ARGV: 2 '1' if beat called, 3 most events to bring back, 4 history, 5 how long a probe keeps others away,
--       6 how long ago still counts as lately, 7 due time of the wake-up that started this gather or 0, 8 max age
-- Answers {rescued, due, urgent ones among them, claimed, finished lately, 'open' | 'held' | 'probe',
--          1 if the last gather left a note of room, else 0, ids of those that died of age}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local wake = tonumber(redis.call('GET', prefix .. 'wake'))
if wake and (wake <= now + SLACK or wake == tonumber(ARGV[7])) then redis.call('DEL', prefix .. 'wake') end
if ARGV[2] == '1' then redis.call('SET', prefix .. 'beat', now) end

local lapsed = redis.call('ZRANGEBYSCORE', CLAIMED, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))
local dead = {}
for _, id in ipairs(lapsed) do
  local became = defer_event(id, 0, 0, tonumber(ARGV[8]), 'its lease ran out', ARGV[4])
  if became == 'dead' then dead[#dead + 1] = id end
end
if #lapsed > 0 then count_up('rescued', #lapsed) end
redis.call('ZREMRANGEBYSCORE', BURIED, '-inf', now - tonumber(ARGV[4]))
local lately = 0
for _, finished in ipairs({'sent', 'dead', 'suppressed'}) do
  redis.call('ZREMRANGEBYSCORE', prefix .. finished, '-inf', now - tonumber(ARGV[4]))
  lately = lately + redis.call('ZCOUNT', prefix .. finished, now - tonumber(ARGV[6]), '+inf')
end

local channel, probe = 'open', tonumber(redis.call('HGET', CHANNEL, 'probe'))
local due = redis.call('ZCOUNT', PENDING, '-inf', now)
if probe then
  channel = 'held'
  if now >= probe then
    channel = 'probe'
    redis.call('HSET', CHANNEL, 'probe', now + tonumber(ARGV[5]), 'probing', '1')
  end
end
local urgent = redis.call('ZCOUNT', URGENT, '-inf', now)
return {
  #lapsed, due, urgent, redis.call('ZCARD', CLAIMED), lately, channel, redis.call('EXISTS', prefix .. 'room'),
  dead,
}
