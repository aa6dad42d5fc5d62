-- Ask for a wake-up for the work that remains. Keys: wake string, pending zset, claimed zset.
-- ARGV: 2 shortest wait, 3 longest wait, 4 '1' if only what is due now counts, 5 wake-up's lifetime
-- Answers milliseconds until the wake-up, or -1 if none is needed or one due no later is outstanding.
local next_due
for _, key in ipairs({PENDING, CLAIMED}) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[2] then next_due = math.min(next_due or math.huge, tonumber(first[2])) end
end
if not next_due or (ARGV[4] == '1' and next_due > now) then return -1 end
local wait = math.max(tonumber(ARGV[2]), math.min(next_due - now, tonumber(ARGV[3])))
return ask_wake(math.ceil(wait), tonumber(ARGV[5]))
