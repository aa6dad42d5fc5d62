-- Reopen an event's dead mails; its recipients are resolved again at the next claim, those already sent are skipped.
-- Keys: event:<id> hash, trace:<id> list, buried, dead, pending and urgent zsets. ARGV: 2 id.
-- Answers how many mails were reopened.
local id, key, reopened = ARGV[2], event_key(ARGV[2]), 0
for recipient, mail in pairs(mails_of(id)) do
  if mail.s == 'dead' then
    redis.call('HDEL', key, 'mail:' .. recipient)
    note(id, 'pending', recipient, 'reopened by an operator')
    reopened = reopened + 1
  end
end
if reopened == 0 then return 0 end
redis.call('ZREM', BURIED, id)
redis.call('HSET', key, 'resolved', '', 'since', now, 'rounds', 0, 'late', '1')
redis.call('ZREM', prefix .. 'dead', id)
-- While other mails of it are under way it stays where it is, and is claimed anew after them.
if not redis.call('ZSCORE', PENDING, id) and not redis.call('ZSCORE', CLAIMED, id) then
  redis.call('PERSIST', key)
  redis.call('PERSIST', trace_key(id))
  put_pending(id, now)
end
return reopened
