-- Take due events under a lease, oldest first; who receives them and in which claims they go is settled by address.lua.
-- Keys: pending, urgent and claimed zsets, event:<id> hashes, trace:<id> lists, take:<call> string.
-- ARGV: 2 lease, 3 most events, 4 token, 5 '1' for urgent ones alone, 6 name of this call, known for a lease
-- A client that did not hear the answer calls again by the same name, and is answered of the same events.
-- Answers one row per event: {id, record, its own recipients or '', '1' if it is addressed, '1' if a round of it
-- failed, {recipient, language, zone}, ...} with the open mails of one that is addressed
local refusal = write_despite_full_memory()
if refusal then return refusal end
local from = ARGV[5] == '1' and URGENT or PENDING
local rows, taken, call = {}, {}, prefix .. 'take:' .. ARGV[6]

local function add_row(id)
  local record, to, resolved, rounds = unpack(redis.call('HMGET', event_key(id), 'record', 'to', 'resolved', 'rounds'))
  local row = {id, record or '', to or '', resolved == '1' and '1' or '', (tonumber(rounds) or 0) > 0 and '1' or ''}
  if resolved == '1' then
    for recipient, mail in pairs(mails_of(id)) do
      if mail.s == 'open' then row[#row + 1] = {recipient, mail.l or '', mail.z or ''} end
    end
  end
  rows[#rows + 1] = row
end

for _, id in ipairs(cjson.decode(redis.call('GET', call) or '[]')) do
  if redis.call('HGET', event_key(id), 'token') == ARGV[4] then add_row(id) end
end
if #rows > 0 then return rows end

local found = redis.call('ZRANGEBYSCORE', from, '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[3]))
for i = 1, #found, 2 do
  local id, due = found[i], found[i + 1]
  taken[#taken + 1] = id
  add_row(id)
  take_pending(id)
  redis.call('ZADD', CLAIMED, now + tonumber(ARGV[2]), id)
  redis.call('HSET', event_key(id), 'token', ARGV[4], 'begun', 0, 'due', due)
  note(id, 'claimed')
end
if #taken > 0 then redis.call('SET', call, cjson.encode(taken), 'PX', ARGV[2]) end
return rows
