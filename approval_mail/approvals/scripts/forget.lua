-- Let the clock pass over what it cannot read. Keys: deadlines, unheard, untold and reminders zsets.
-- ARGV: 2... members of any of them
for i = 2, #ARGV do
  for _, zset in ipairs({'deadlines', 'unheard', 'untold', 'reminders'}) do
    redis.call('ZREM', prefix .. zset, ARGV[i])
  end
end
return #ARGV - 1
