-- Ask for a wake-up for the work that remains. Keys: wake and room strings, pending, urgent and claimed zsets.
-- ARGV: 2 shortest wait, 3 longest wait, 4 batch size, 5 batch timeout, 6 how long an urgent event may wait,
--       7 wake-up's lifetime
-- An urgent event that has waited and a full batch go at once if there is room, a part of a batch after the batch timeout; else the
-- next due time or end of a lease counts.
-- Answers {milliseconds until the wake-up or -1, its due time}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local wait
local due = redis.call('ZCOUNT', PENDING, '-inf', now)
local urgent = redis.call('ZCOUNT', URGENT, '-inf', now - tonumber(ARGV[6]))
local any, for_urgent = has_room()
if any and due >= tonumber(ARGV[4]) or for_urgent and urgent > 0 then
  wait = 0
elseif due > 0 then
  wait = tonumber(ARGV[5])
else
  for _, key in ipairs({PENDING, CLAIMED}) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then wait = math.min(wait or math.huge, math.max(0, tonumber(first[2]) - now)) end
  end
end
if not wait then return NO_WAKE end
wait = math.max(tonumber(ARGV[2]), math.min(wait, tonumber(ARGV[3])))
return ask_wake(math.ceil(wait), tonumber(ARGV[7]))
