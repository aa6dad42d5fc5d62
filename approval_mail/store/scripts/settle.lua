-- Settle one mail, mark the next one as being tried: one call per mail.
-- Keys: event:<id> and approval:<request> hashes, trace:<id> lists, and where the event then belongs.
-- ARGV: 2 token, 3 history, 4 most open tries,
--       5 id or '', 6 recipient, 7 verdict: sent | dead | failed | unknown | unspent, 8 code, 9 phase, 10 reason,
--       11 next id or '', 12 next recipient, 13 how long an urgent event may wait for a free worker, '' for ever
--       14 JSON of {type: true} for the types of which a late mail is pointless, 15 name of this call,
--       then pairs of a counter and what the verdict adds to it
-- Answers {final state of the settled event or '', 'go' | 'done' | 'moot: ...' | 'buried' | 'lost' | 'yield' | '' for
-- the next mail}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local token, history = ARGV[2], ARGV[3]
-- Answers a mail, nil if there is none, and the named fields of its event.
local function load(id, recipient, ...)
  local fields = redis.call('HMGET', event_key(id), 'mail:' .. recipient, ...)
  return fields[1] and decode_mail(fields[1]), unpack(fields, 2, 1 + select('#', ...))
end
-- A client that did not hear the answer calls again by the same name: nothing is counted twice.
local call = ARGV[15]

local state, id, recipient, verdict = '', ARGV[5], ARGV[6], ARGV[7]
local mail, holder, decidable, request
if id ~= '' then mail, holder, decidable, request = load(id, recipient, 'token', 'decidable', 'request') end
-- An operator may have reopened it meanwhile.
if id ~= '' and not mail and verdict == 'sent' and redis.call('EXISTS', event_key(id)) == 1 then
  mail = {s = 'open', a = 1, o = 1}
end
if mail and mail.k == call then
  if mail.s ~= 'open' then state = settle_event(id, history) end
-- A worker that lost its lease can settle nothing but an acceptance: that one is a fact.
elseif mail and mail.s ~= 'sent' and (verdict == 'sent' or (holder == token and mail.s == 'open')) then
  if verdict ~= 'unspent' then mail.c, mail.p, mail.r = ARGV[8], ARGV[9], ARGV[10] end
  if verdict ~= 'unknown' then mail.o = math.max(0, mail.o - 1) end
  if verdict == 'unspent' then mail.a = mail.a - 1 end
  if verdict == 'sent' or verdict == 'dead' then
    mail.s = verdict
    tally(token, verdict)
  end
  for i = 16, #ARGV, 2 do count_up(ARGV[i], ARGV[i + 1]) end
  if verdict == 'dead' then count_closed(id, recipient, mail) end
  if verdict == 'failed' or verdict == 'unknown' then note_failure(id, recipient, verdict, mail) end
  if verdict == 'sent' and decidable == '1' then note_told(request) end
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
local upcoming, next_holder, urgent, type, next_request, next_decidable =
  load(next_id, next_recipient, 'token', 'urgent', 'type', 'request', 'decidable')
if next_holder ~= token then return {state, 'lost'} end
if upcoming and upcoming.s == 'open' and upcoming.k == call then return {state, 'go'} end
if urgent ~= '1' and ARGV[13] ~= ''
  and redis.call('ZCOUNT', URGENT, '-inf', now - tonumber(ARGV[13])) > 0 then return {state, 'yield'} end
-- It may have been decided since the try began, while mails before it were sent.
local moot = next_decidable == '1' and cjson.decode(ARGV[14])[type] and ended(next_request)
if moot then
  close_open_mails(next_id, 'suppressed', '', moot, history)
  return {state, moot}
end
if not upcoming or upcoming.s ~= 'open' then return {state, 'done'} end
if upcoming.o >= tonumber(ARGV[4]) then
  upcoming.s = 'dead'
  upcoming.r = string.format('outcome unknown %d times; last: %s', upcoming.o, upcoming.r or 'the worker died')
  save_mail(next_id, next_recipient, upcoming)
  note(next_id, upcoming.s, next_recipient, upcoming.r, upcoming.c, upcoming.a)
  count_closed(next_id, next_recipient, upcoming)
  tally(token, 'dead')
  settle_event(next_id, history)
  return {state, 'buried'}
end
upcoming.o, upcoming.a, upcoming.k = upcoming.o + 1, upcoming.a + 1, call
save_mail(next_id, next_recipient, upcoming)
return {state, 'go'}
