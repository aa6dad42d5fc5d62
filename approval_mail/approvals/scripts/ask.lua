-- Put a request on record together with its event, once. What is due when: see `ApprovalStore`.
-- Keys: approval:<request> hash, approvals and approvals:<status> zsets, ids, deadlines, unheard and reminders zsets,
--       and what record_event writes.
-- ARGV: 2-16 what record_event reads, id '' for no event; 17 request id, 18 nonce of this call, 19 asked, 20 expires,
--       21 record, 22 fractions of the reminders, comma separated
-- Answers {'asked' | 'exists', milliseconds until the wake-up or -1, its due time}
local own = 2 + RECORD_ARGS
local id, nonce, asked, expires, record, fractions = unpack(ARGV, own, own + 5)
local key = approval_key(id)
local known = redis.call('HGET', key, 'nonce')
if known == nonce then return {'asked', 0, now} end
if known then return {'exists', -1, 0} end

local wake = {'', -1, 0}
if ARGV[2] ~= '' then
  wake = record_event(2)
  if wake[1] == 'duplicate' then return {'exists', -1, 0} end
end
redis.call('HSET', key, 'status', 'pending', 'nonce', nonce, 'asked', asked, 'expires', expires, 'record', record,
  'fractions', fractions, 'mailed', ARGV[2] ~= '' and '1' or '')
redis.call('ZADD', prefix .. 'approvals', asked, id)
redis.call('ZADD', prefix .. 'approvals:pending', asked, id)
redis.call('ZADD', prefix .. 'ids', 0, id)
-- The id may be one that was used before history began.
remove_from(ENDED, id)
plan_request(id)
return {'asked', wake[2], wake[3]}
