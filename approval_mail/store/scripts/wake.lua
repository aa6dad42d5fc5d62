-- Ask for a wake-up for the work that remains. Keys: wake and room strings, pending, urgent and claimed zsets.
-- ARGV: 2 shortest wait, 3 longest wait, 4 batch size, 5 batch timeout, 6 how long an urgent event may wait,
--       7 wake-up's lifetime
-- A full batch goes at once, a part of one after the batch timeout, an urgent event once it has waited so long; what is
-- due later goes when it is, what is claimed may come back when its lease ends: whatever comes first.
-- Where there is no room for what is due, it waits until there is, or until a gather may look for some again.
-- Answers {milliseconds until the wake-up or -1, its due time}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local wait = math.huge
local function at_the_latest(time) wait = math.min(wait, math.max(0, time - now)) end
local function first_of(key, after)
  return tonumber(redis.call('ZRANGEBYSCORE', key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
end

local room, room_for_urgent = has_room()
local due = redis.call('ZCOUNT', PENDING, '-inf', now)
if due > 0 then at_the_latest(now + tonumber(ARGV[5])) end
if due >= tonumber(ARGV[4]) then at_the_latest(room and now or now + until_room()) end
local urgent = first_of(URGENT, '-inf')
if urgent and urgent <= now then
  at_the_latest(math.max(urgent + tonumber(ARGV[6]), room_for_urgent and now or now + until_room()))
end
for _, first in ipairs({first_of(PENDING, string.format('(%d', now)) or math.huge, first_of(CLAIMED, '-inf') or math.huge}) do
  at_the_latest(first)
end
if wait == math.huge then return NO_WAKE end
wait = math.max(tonumber(ARGV[2]), math.min(wait, tonumber(ARGV[3])))
return ask_wake(math.ceil(wait), tonumber(ARGV[7]))
