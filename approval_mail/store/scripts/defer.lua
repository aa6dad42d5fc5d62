-- Make claimed events pending again at a later time. Keys: event:<id> hashes, claimed and pending zsets, history zsets.
-- ARGV: 2 token, 3 urgent wait, 4 max age, 5 history, 6 '1' if this spends a round, '' if the channel is to blame,
--       7 reason, then pairs of id and wait
-- Answers {how many were deferred, ids of those that died of age}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local own, deferred, dead = ARGV[6] == '1', 0, {}
for i = 8, #ARGV, 2 do
  local id = ARGV[i]
  if redis.call('HGET', event_key(id), 'token') == ARGV[2] then
    if own then redis.call('HINCRBY', event_key(id), 'rounds', 1) end
    local wait, urgent_wait, max_age = tonumber(ARGV[i + 1]), tonumber(ARGV[3]), tonumber(ARGV[4])
    if defer_event(id, wait, urgent_wait, max_age, ARGV[7], ARGV[5], own) == 'deferred' then
      tally(ARGV[2], 'deferred')
      if not own then redis.call('SADD', prefix .. 'parked', id) end
      deferred = deferred + 1
    else
      dead[#dead + 1] = id
    end
  end
end
return {deferred, dead}
