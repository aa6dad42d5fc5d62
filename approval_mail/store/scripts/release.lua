-- Give claimed events back unspent: due at once. Keys: event:<id> hashes, trace:<id> lists, claimed and pending zsets.
-- ARGV: 2 token, 3... event ids. Answers how many were given back.
local given = 0
for i = 3, #ARGV do
  if redis.call('HGET', event_key(ARGV[i]), 'token') == ARGV[2] then
    put_pending(ARGV[i], now)
    note(ARGV[i], 'pending', '', 'given back untried')
    given = given + 1
  end
end
return given
