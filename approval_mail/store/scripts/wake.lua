-- Ask for a wake-up for the work that remains. Keys: wake and room strings, pending, urgent and claimed zsets.
-- ARGV: 2 shortest wait, 3 longest wait, 4 batch size, 5 batch timeout, 6 how long an urgent event may wait,
--       7 wake-up's lifetime
-- An urgent event that has waited and a full batch go at once, a part of a batch after the batch timeout; else the
-- next due time or end of a lease counts.
-- Where there is no room for them, they wait until there is, or until a gather may look for some again.
-- Answers {milliseconds until the wake-up or -1, its due time}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local wait = math.huge
local function at_the_latest(time) wait = math.min(wait, math.max(0, time - now)) end

local due = redis.call('ZCOUNT', PENDING, '-inf', now)
local room, room_for_urgent = has_room()
local waited = redis.call('ZCOUNT', URGENT, '-inf', now - tonumber(ARGV[6])) > 0
if due > 0 then
  at_the_latest(now + tonumber(ARGV[5]))
  local full = due >= tonumber(ARGV[4])
  if room and full or room_for_urgent and waited then
    at_the_latest(now)
  elseif full or waited then
    at_the_latest(now + math.max(0, redis.call('PTTL', prefix .. 'room')))
  end
else
  for _, key in ipairs({PENDING, CLAIMED}) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    if first then at_the_latest(tonumber(first)) end
  end
end
if wait == math.huge then return NO_WAKE end
wait = math.max(tonumber(ARGV[2]), math.min(wait, tonumber(ARGV[3])))
return ask_wake(math.ceil(wait), tonumber(ARGV[7]))
