-- Settle one mail, mark the next one as being tried: one call per mail.
-- Keys: event:<id> and approval:<request> hashes, trace:<id> lists, and where the event then belongs.
-- ARGV: 2 token, 3 history, 4 most open tries,
--       5 id or '', 6 recipient, 7 verdict: sent | dead | failed | unknown | unspent, 8 code, 9 phase, 10 reason,
--       11 next id or '', 12 next recipient, 13 how long an urgent event may wait for a free worker
--       14 JSON of {type: true} for the types of which a late mail is pointless, 15 name of this call
-- Answers {final state of the settled event or '', 'go' | 'done' | 'moot: ...' | 'buried' | 'lost' | 'yield' | '' for
-- the next mail}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local token, history = ARGV[2], ARGV[3]
local function held(id) return redis.call('HGET', event_key(id), 'token') == token end
-- A client that did not hear the answer calls again by the same name: nothing is counted twice.
local call = ARGV[15]

local state, id, recipient, verdict = '', ARGV[5], ARGV[6], ARGV[7]
local mail = id ~= '' and load_mail(id, recipient)
-- An operator may have reopened it meanwhile.
if id ~= '' and not mail and verdict == 'sent' and redis.call('EXISTS', event_key(id)) == 1 then
  mail = {s = 'open', a = 1, o = 1}
end
if mail and mail.k == call then
  if mail.s ~= 'open' then state = settle_event(id, history) end
-- A worker that lost its lease can settle nothing but an acceptance: that one is a fact.
elseif mail and mail.s ~= 'sent' and (verdict == 'sent' or (held(id) and mail.s == 'open')) then
  if verdict ~= 'unspent' then mail.c, mail.p, mail.r = ARGV[8], ARGV[9], ARGV[10] end
  if verdict ~= 'unknown' then mail.o = math.max(0, mail.o - 1) end
  if verdict == 'unspent' then mail.a = mail.a - 1 end
  if verdict == 'sent' or verdict == 'dead' then
    mail.s = verdict
    tally(token, verdict)
  end
  if verdict == 'sent' then
    local decidable, request = unpack(redis.call('HMGET', event_key(id), 'decidable', 'request'))
    if decidable == '1' then note_told(request) end
  end
  mail.k = call
  save_mail(id, recipient, mail)
  -- A try that failed leaves its event claimed, or deferred by what follows.
  if verdict ~= 'unspent' then
    local known = verdict == 'unknown' and 'outcome unknown: ' or ''
    note(id, mail.s == 'open' and 'claimed' or mail.s, recipient, known .. mail.r, mail.c, mail.a)
  end
  if mail.s ~= 'open' then state = settle_event(id, history) end
end

local next_id, next_recipient = ARGV[11], ARGV[12]
if next_id == '' then return {state, ''} end
if not held(next_id) then return {state, 'lost'} end
if redis.call('HGET', event_key(next_id), 'urgent') ~= '1'
  and redis.call('ZCOUNT', URGENT, '-inf', now - tonumber(ARGV[13])) > 0 then return {state, 'yield'} end
local type, request, decidable = unpack(redis.call('HMGET', event_key(next_id), 'type', 'request', 'decidable'))
-- It may have been decided since the try began, while mails before it were sent.
local moot = decidable == '1' and cjson.decode(ARGV[14])[type] and ended(request)
if moot then
  close_open_mails(next_id, 'suppressed', '', '', moot, history)
  return {state, moot}
end
local upcoming = load_mail(next_id, next_recipient)
if not upcoming or upcoming.s ~= 'open' then return {state, 'done'} end
if upcoming.k == call then return {state, 'go'} end
if upcoming.o >= tonumber(ARGV[4]) then
  upcoming.s = 'dead'
  upcoming.r = string.format('outcome unknown %d times; last: %s', upcoming.o, upcoming.r or 'the worker died')
  save_mail(next_id, next_recipient, upcoming)
  note_mail(next_id, next_recipient, upcoming)
  tally(token, 'dead')
  settle_event(next_id, history)
  return {state, 'buried'}
end
upcoming.o, upcoming.a, upcoming.k = upcoming.o + 1, upcoming.a + 1, call
save_mail(next_id, next_recipient, upcoming)
return {state, 'go'}
