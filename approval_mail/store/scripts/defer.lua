-- Make claimed events pending again at a later time. Keys: event:<id> hashes, claimed and pending zsets, history zsets.
-- ARGV: 2 token, 3 urgent wait, 4 max age, 5 history, 6 '1' if this spends a round, '' if the channel is to blame,
--       7 reason, then pairs of id and wait
-- Answers {deferred, dead}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local counts = {deferred = 0, dead = 0}
for i = 8, #ARGV, 2 do
  local id = ARGV[i]
  if redis.call('HGET', event_key(id), 'token') == ARGV[2] then
    if ARGV[6] == '1' then redis.call('HINCRBY', event_key(id), 'rounds', 1) end
    local became = defer_event(id, tonumber(ARGV[i + 1]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[7], ARGV[5])
    if became == 'deferred' then
      tally(ARGV[2], 'deferred')
      if ARGV[6] == '' then redis.call('SADD', prefix .. 'parked', id) end
    end
    counts[became] = counts[became] + 1
  end
end
return {counts.deferred, counts.dead}
