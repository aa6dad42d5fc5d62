-- Begin one try of a claim: a redelivered copy of a try that began before gets nothing.
-- Keys: event:<id> and approval:<request> hashes, claimed zset; a moot event moves to the suppressed zset.
-- ARGV: 2 token, 3 number of the try from 0, 4 lease, 5 history, 6 JSON of {moot: {type: true}, outcomes: {type:
--       word}}, 7 name of this call, 8... event ids
-- Answers one row per event: {'open', id, record, rounds, time, when it happened, {recipient, language, zone,
-- open tries}, ...}, {'suppressed', id, reason} or {'damaged', id}, which is dead
local refusal = write_despite_full_memory()
if refusal then return refusal end
local token, try, rules = ARGV[2], tonumber(ARGV[3]), cjson.decode(ARGV[6])

-- A request of the approvals store is looked up at every try, what hosts tell of theirs once it is late.
local function moot(key, late)
  local type, request, expires, decidable = unpack(redis.call('HMGET', key, 'type', 'request', 'expires', 'decidable'))
  if not rules.moot[type] then return nil end
  if decidable == '1' then return ended(request) end
  if not late then return nil end
  for outcome, word in pairs(rules.outcomes) do
    if redis.call('EXISTS', event_key(request .. ':' .. outcome)) == 1 then return 'moot: already ' .. word end
  end
  if tonumber(expires) and tonumber(expires) <= now then return 'moot: expired' end
end

local rows, last = {}, {}
for i = 8, #ARGV do
  local id, key = ARGV[i], event_key(ARGV[i])
  local held, begun, late, record, rounds, recorded, replayed =
    unpack(redis.call('HMGET', key, 'token', 'begun', 'late', 'record', 'rounds', 'recorded', 'replayed'))
  local tries, call = string.match(begun or '', '^(%d+):?(.*)$')
  -- A client that did not hear the answer calls again by the same name.
  if held == token and (tonumber(tries) <= try or call == ARGV[7]) then
    redis.call('HSET', key, 'begun', (try + 1) .. ':' .. ARGV[7])
    if rounds and not string.match(rounds, '^%d+$') then
      rounds = '0'
      redis.call('HSET', key, 'rounds', rounds)
    end
    local reason = moot(key, late == '1' or try > 0)
    if reason then
      close_open_mails(id, 'suppressed', '', reason, ARGV[5])
      rows[#rows + 1] = {'suppressed', id, reason}
    else
      redis.call('ZADD', CLAIMED, now + tonumber(ARGV[4]), id)
      local happened = (tonumber(recorded) or now) - (tonumber(replayed) or 0)
      local row, doubtful = {'open', id, record or '', rounds or '0', now, happened}, false
      for recipient, mail in pairs(mails_of(id)) do
        if mail.s == 'open' then
          row[#row + 1] = {recipient, mail.l or '', mail.z or '', mail.o}
          doubtful = doubtful or mail.o > 0
        end
      end
      if #row == 6 then  -- Those that were left are damaged, and so closed.
        if settle_event(id, ARGV[5]) == 'dead' then rows[#rows + 1] = {'damaged', id} end
      else
        local where = doubtful and last or rows
        where[#where + 1] = row
      end
    end
  end
end
-- What may have killed its worker before waits until its neighbours are sent.
for _, row in ipairs(last) do rows[#rows + 1] = row end
return rows
