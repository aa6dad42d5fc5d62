-- Record an event once, and say whether gather must be woken.
-- Keys: event:<id> hash, pending and urgent zsets, wake string, window string.
-- ARGV: 2 id, 3 record, 4 type, 5 request id, 6 nonce of this hook call, 7 expires or '', 8 recipients or '',
--       9 '1' if late, 10 '1' if urgent, 11 batch size, 12 batch timeout, 13 urgent timeout, 14 wake-up's lifetime
-- Answers {'recorded' | 'again' | 'duplicate', milliseconds until the wake-up or -1, its due time}
local id, nonce, lifetime = ARGV[2], ARGV[6], tonumber(ARGV[14])
local known = redis.call('HGET', event_key(id), 'nonce')
if known == nonce then return {'again', 0, now} end
if known then return {'duplicate', -1, 0} end
local function recorded(wake) return {'recorded', wake[1], wake[2]} end

redis.call('HSET', event_key(id), 'record', ARGV[3], 'type', ARGV[4], 'request', ARGV[5], 'nonce', nonce,
  'expires', ARGV[7], 'to', ARGV[8], 'late', ARGV[9], 'urgent', ARGV[10], 'recorded', now, 'since', now)
if ARGV[9] == '1' then redis.call('HSET', event_key(id), 'replayed', '1') end
put_pending(id, now)

if redis.call('ZCOUNT', PENDING, '-inf', now) >= tonumber(ARGV[11]) then
  return recorded(ask_wake(0, lifetime))
end
if ARGV[10] ~= '1' then return recorded(ask_wake(tonumber(ARGV[12]), lifetime)) end

-- The first urgent event goes at once; those of the next window ride together at its end.
local window = redis.call('PTTL', prefix .. 'window')
if window > 0 then return recorded(ask_wake(window, lifetime)) end
local urgent_timeout = tonumber(ARGV[13])
if urgent_timeout > 0 then redis.call('SET', prefix .. 'window', '1', 'PX', urgent_timeout) end
return recorded(ask_wake(0, lifetime))
