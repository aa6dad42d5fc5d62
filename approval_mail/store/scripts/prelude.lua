-- Put before every script. ARGV[1]: key prefix, e.g. approval_mail:{store}:
-- All times are milliseconds of the store's own clock, so that no worker's clock can steal a lease.
local prefix = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- URGENT holds those of PENDING for which someone waits, with the same due times.
local PENDING, URGENT = prefix .. 'pending', prefix .. 'urgent'
local CLAIMED, BURIED = prefix .. 'claimed', prefix .. 'buried'
local CHANNEL = prefix .. 'channel'

-- The first write of every script that leads work to its end, rather than bring more. For lack of memory Redis refuses
-- a script's writes only until one that needs none has gone through. So an accepted mail is put on record, lest it be
-- sent again, and what has ended frees its memory in time.
-- Answers nil, or what Redis refuses it for (READONLY, say), for the script to return: in its own words, before which
-- Redis 6.2 puts others, so that a client would not know them.
local function write_despite_full_memory()
  local answer = redis.pcall('DEL', prefix .. 'nothing')
  if type(answer) == 'table' and answer.err then
    return {err = (string.gsub(answer.err, '^@user_script: %d+: %-', ''))}
  end
end

local function event_key(id) return prefix .. 'event:' .. id end
local function trace_key(id) return prefix .. 'trace:' .. id end

local function split(text)
  local parts = {}
  for part in string.gmatch(text, '[^,]+') do parts[#parts + 1] = part end
  return parts
end

-- A mail is one hash field, `mail:<recipient>`, holding {s: state, a: attempts, o: open tries,
-- c: SMTP code, p: phase, r: reason, t: time of the last change, k: name of the call that settled or began it last}.
-- A damaged one counts as dead: whether it was sent is not known.
local STATES = {open = true, sent = true, dead = true, suppressed = true}
local function decode_mail(text)
  local sound, mail = pcall(cjson.decode, text)
  if sound and type(mail) == 'table' and STATES[mail.s] and type(mail.a) == 'number' and type(mail.o) == 'number' then
    return mail
  end
  return {s = 'dead', a = 0, o = 0, p = 'record', r = 'the record of this mail is damaged', t = now}
end

local function save_mail(id, recipient, mail)
  mail.t = now
  redis.call('HSET', event_key(id), 'mail:' .. recipient, cjson.encode(mail))
end

-- All mails of an event as {recipient = mail}.
local function mails_of(id)
  local fields, mails = redis.call('HGETALL', event_key(id)), {}
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 5) == 'mail:' then mails[string.sub(fields[i], 6)] = decode_mail(fields[i + 1]) end
  end
  return mails
end

-- One more line of what happened to an event or to one mail of it: the time, then a JSON list of state, recipient,
-- reason, SMTP code and attempt, each '' where there is none. A held channel defers what waits for it every minute,
-- perhaps each time in other words of the server's: that is noted once.
local MAX_TRACE = 1000
local function note(id, state, recipient, reason, code, attempt)
  local key = trace_key(id)
  local row = cjson.encode({state, recipient or '', reason or '', code or '', attempt or ''})
  local last = state == 'deferred' and redis.call('LINDEX', key, -1)
  if last and string.match(last, '^%d+ %["deferred"') then return end
  if redis.call('RPUSH', key, string.format('%d %s', now, row)) > MAX_TRACE then redis.call('LPOP', key) end
end

-- Counters for good, fields of one hash: a name and its labels with tabs between (counters.py). What cannot be counted,
-- for a value that is no number, say, or a Redis user that may not, is done all the same.
local function count_up(name, by) redis.pcall('HINCRBY', prefix .. 'counters', name, by or 1) end

-- The last failures, for whoever looks at the whole: the time, then a JSON list. Of no weight for any event either.
local MAX_FAILURES = 50
local function note_failure(id, recipient, result, mail)
  local row = cjson.encode({id, recipient, result, mail.c or '', mail.p or '', mail.r or ''})
  redis.pcall('LPUSH', prefix .. 'failures', string.format('%d %s', now, row))
  redis.pcall('LTRIM', prefix .. 'failures', 0, MAX_FAILURES - 1)
end

-- A mail has just become dead or suppressed.
local function count_closed(id, recipient, mail)
  if mail.s == 'suppressed' then return count_up('suppressed\t' .. mail.r) end
  count_up('dead\t' .. (mail.p and mail.p ~= '' and mail.p or 'unknown'))
  note_failure(id, recipient, 'dead', mail)
end

-- What became of the mails of one claim, for the summary that conclude logs.
local function tally(token, word)
  if not token or token == '' then return end
  local key = prefix .. 'tally:' .. token
  if redis.call('HINCRBY', key, word, 1) == 1 then redis.call('PEXPIRE', key, 900000) end
end

local function put_pending(id, due)
  redis.call('ZREM', CLAIMED, id)
  redis.call('HDEL', event_key(id), 'token', 'begun', 'due')
  redis.call('ZADD', PENDING, due, id)
  if redis.call('HGET', event_key(id), 'urgent') == '1' then redis.call('ZADD', URGENT, due, id) end
end

local function take_pending(id)
  redis.call('ZREM', PENDING, id)
  redis.call('ZREM', URGENT, id)
end

local function approval_key(request) return prefix .. 'approval:' .. request end

-- Why a mail about a request that the approvals store keeps is pointless now, nil if it is not.
local function ended(request)
  local status, expires = unpack(redis.call('HMGET', approval_key(request), 'status', 'expires'))
  if not status then return 'moot: the request is no longer on record' end
  -- A deadline that is damaged has passed, as it has for whoever decides.
  if status == 'expired' or (status == 'pending' and (tonumber(expires) or 0) <= now) then return 'moot: expired' end
  if status ~= 'pending' then return 'moot: already ' .. status end
end

-- Some mail server has accepted a mail about this request: somebody can know of it.
local function note_told(request)
  if redis.call('EXISTS', approval_key(request)) == 0 then return end
  if redis.call('HSETNX', approval_key(request), 'told', now) == 1 then
    redis.call('ZREM', prefix .. 'unheard', request)
    redis.call('ZREM', prefix .. 'untold', request)
  end
end

-- Move an event to where its mails say it belongs; answers its final state, or '' while any is open.
local function settle_event(id, history)
  local key, found = event_key(id), {}
  for _, mail in pairs(mails_of(id)) do found[mail.s] = true end
  if found.dead then redis.call('ZADD', BURIED, 'NX', now, id) else redis.call('ZREM', BURIED, id) end
  if found.open then return '' end
  local resolved, recurs, request, type = unpack(redis.call('HMGET', key, 'resolved', 'recurs', 'request', 'type'))
  if resolved ~= '1' then
    put_pending(id, now)
    return ''
  end
  local state = found.dead and 'dead' or found.sent and 'sent' or 'suppressed'
  take_pending(id)
  redis.call('ZREM', CLAIMED, id)
  for _, other in ipairs({'sent', 'dead', 'suppressed'}) do
    if other ~= state then redis.call('ZREM', prefix .. other, id) end
  end
  redis.call('HDEL', key, 'token', 'begun', 'due')
  if redis.call('ZADD', prefix .. state, now, id) == 1 then count_up('finished\t' .. (type or '') .. '\t' .. state) end
  redis.call('PEXPIRE', key, history)
  redis.call('PEXPIRE', trace_key(id), history)
  if recurs == '1' then redis.call('PEXPIRE', prefix .. 'recurring:' .. request, history) end
  return state
end

-- Give every open mail of an event its final state, and the event its own; answers how many mails there were.
-- `before`, if given, answers of a mail what went before that in words, and its SMTP code, '' for each that there is not.
local function close_open_mails(id, state, phase, reason, history, before)
  local token, closed = redis.call('HGET', event_key(id), 'token'), 0
  for recipient, mail in pairs(mails_of(id)) do
    if mail.s == 'open' then
      local last, code = '', ''
      if before then last, code = before(mail) end
      mail.s, mail.c, mail.p, mail.r = state, code, phase, last ~= '' and reason .. '; last: ' .. last or reason
      save_mail(id, recipient, mail)
      note(id, state, recipient, mail.r, code)
      count_closed(id, recipient, mail)
      tally(token, state)
      closed = closed + 1
    end
  end
  settle_event(id, history)
  return closed
end

-- Pending again at a later time, or dead once older than max_age; answers 'deferred' or 'dead'. `own`: its mails have
-- failed, each for its own reason; else `reason` is all there is to say.
local function defer_event(id, wait, urgent_wait, max_age, reason, history, own)
  local key = event_key(id)
  local since = tonumber(redis.call('HGET', key, 'since')) or now
  -- One that was never claimed has its first attempt coming, however old it is.
  local give_up = redis.call('HGET', key, 'resolved') == '1' and since + max_age or math.huge
  if now >= give_up then
    close_open_mails(id, 'dead', 'deferral', string.format('not delivered within %d s', max_age / 1000), history,
      function(mail)
        if not own then return reason, '' end
        if not mail.r then return '', '' end
        return (mail.p and mail.p ~= '' and mail.p .. ': ' or '') .. mail.r, mail.c or ''
      end)
    return 'dead'
  end
  local expires = tonumber(redis.call('HGET', key, 'expires'))
  if expires and expires > now then wait = math.min(wait, urgent_wait) end
  redis.call('HSET', key, 'late', '1')
  put_pending(id, math.min(now + wait, give_up))
  note(id, wait > 0 and 'deferred' or 'pending', '', reason)
  return 'deferred'
end

-- Answers {milliseconds until a wake-up that must be sent, its due time}, or NO_WAKE if one due no later is
-- outstanding. The wake-up names its due time, so that the gather it starts takes back this flag and no other.
local NO_WAKE, SLACK = {-1, 0}, 50
local function ask_wake(wait, lifetime)
  local due, outstanding = now + wait, tonumber(redis.call('GET', prefix .. 'wake'))
  if outstanding and outstanding <= due + SLACK then return NO_WAKE end
  redis.call('SET', prefix .. 'wake', string.format('%d', due), 'PX', wait + lifetime)
  return {wait, due}
end

-- Whether a gather would find room to claim anything, and to claim urgent events: the last one left a note if it had to
-- leave some pending for want of it, which holds for a second. Whoever makes room asks for another.
local function has_room()
  local left = redis.pcall('GET', prefix .. 'room')
  local from, urgent_from = string.match(type(left) == 'string' and left or '', '^(%d+) (%d+)$')
  if not from then return true, true end
  -- Not by ZCARD, which a Redis user for hosts alone need not have.
  local claimed = redis.call('ZCOUNT', CLAIMED, '-inf', '+inf')
  return claimed <= tonumber(from), claimed <= tonumber(urgent_from)
end

-- Milliseconds until a key expires, 0 if it is not there. `most` is the longest that it was ever given: a clock that was
-- set back would have it stay for longer.
local function left_of(name, most) return math.max(0, math.min(redis.call('PTTL', prefix .. name), most)) end

-- Milliseconds until a gather may look for room again; timing.ROOM_EVERY at the most.
local function until_room() return left_of('room', 1000) end

-- Record an event once. ARGV from `first`: id, record, type, request id, nonce of this call, expires or '',
-- recipients or '', how long it waited in the spool or '', then '1' or '' for urgent, recurs and decidable, then batch
-- size, batch timeout, urgent timeout, wake-up's lifetime.
-- Answers {'recorded' | 'again' | 'duplicate', milliseconds until the wake-up or -1, its due time}
local RECORD_ARGS = 15
local function record_event(first)
  local id, record, type, request, nonce, expires, to, waited, urgent, recurs, decidable = unpack(ARGV, first, first + 10)
  local batch_size, batch_timeout, urgent_timeout, lifetime = unpack(ARGV, first + 11, first + 14)
  local known = redis.call('HGET', event_key(id), 'nonce')
  if known == nonce then return {'again', 0, now} end
  if known then
    count_up('duplicate\t' .. type)
    return {'duplicate', -1, 0}
  end
  local function recorded(wake) return {'recorded', wake[1], wake[2]} end

  redis.call('HSET', event_key(id), 'record', record, 'type', type, 'request', request, 'nonce', nonce,
    'expires', expires, 'to', to, 'late', waited ~= '' and '1' or '', 'urgent', urgent, 'recorded', now, 'since', now)
  if waited ~= '' then redis.call('HSET', event_key(id), 'replayed', waited) end
  if decidable == '1' then redis.call('HSET', event_key(id), 'decidable', '1') end
  if recurs == '1' then
    redis.call('HSET', event_key(id), 'recurs', '1')
    redis.call('SADD', prefix .. 'recurring:' .. request, id)
    redis.call('PERSIST', prefix .. 'recurring:' .. request)
  end
  redis.call('ZADD', PENDING, now, id)
  if urgent == '1' then redis.call('ZADD', URGENT, now, id) end
  count_up('recorded\t' .. type)

  local room, room_for_urgent = has_room()
  if room and redis.call('ZCOUNT', PENDING, '-inf', now) >= tonumber(batch_size) then
    return recorded(ask_wake(0, tonumber(lifetime)))
  end
  if urgent ~= '1' then return recorded(ask_wake(tonumber(batch_timeout), tonumber(lifetime))) end

  -- The first urgent event goes at once; those of the next window ride together at its end, and
  -- where there is no room for them they wait until a gather may look for some again.
  local window = left_of('window', tonumber(urgent_timeout))
  if not room_for_urgent then window = math.max(window, until_room()) end
  if window > 0 then return recorded(ask_wake(window, tonumber(lifetime))) end
  if tonumber(urgent_timeout) > 0 then redis.call('SET', prefix .. 'window', '1', 'PX', urgent_timeout) end
  return recorded(ask_wake(0, tonumber(lifetime)))
end
