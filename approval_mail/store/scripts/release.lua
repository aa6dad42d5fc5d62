-- Give claimed events back unspent: due as they were.
-- Keys: event:<id> hashes, trace:<id> lists, claimed and pending zsets.
-- ARGV: 2 token, 3 '1' to keep those of which a try has begun, 4... event ids. Answers how many were given back.
local refusal = write_despite_full_memory()
if refusal then return refusal end
local given = 0
for i = 4, #ARGV do
  local held, begun, due = unpack(redis.call('HMGET', event_key(ARGV[i]), 'token', 'begun', 'due'))
  if held == ARGV[2] and (ARGV[3] == '' or begun == '0') then
    put_pending(ARGV[i], tonumber(due) or now)
    note(ARGV[i], 'pending', '', 'given back untried')
    given = given + 1
  end
end
return given
