-- Say who receives the events that were taken, unless that was said before, and hand them to their claims.
-- Keys: event:<id> hashes, trace:<id> lists, channel hash, and where an event with nothing to send then belongs.
-- ARGV: 2 token of the take, 3 history,
--       4 JSON list of [id, token of its claim, open | suppressed | dead, phase, reason,
--         [[recipient, language, zone], ...], true if it was addressed before it was taken]
-- Answers the ids of those that have mails to send.
local refusal = write_despite_full_memory()
if refusal then return refusal end
local open, first = {}, nil
for _, row in ipairs(cjson.decode(ARGV[4])) do
  local id, token, state, phase, reason, recipients, addressed = unpack(row)
  local key = event_key(id)
  local holder, resolved = unpack(redis.call('HMGET', key, 'token', 'resolved'))
  -- A client that did not hear the answer calls again: what this call has handed to its claim is still to be sent.
  if holder == ARGV[2] or holder == token then
    redis.call('HSET', key, 'token', token)
    local left = true
    -- One that was addressed, and is not any more, was reopened since it was taken: what is open of it goes out, and
    -- then it is gathered anew for the rest.
    if resolved ~= '1' and not addressed then
      redis.call('HSET', key, 'resolved', '1')
      for _, recipient in ipairs(recipients) do
        local address, language, zone = unpack(recipient)
        local mail = {s = 'open', a = 0, o = 0, t = now}
        if language ~= '' then mail.l = language end
        if zone ~= '' then mail.z = zone end
        redis.call('HSETNX', key, 'mail:' .. address, cjson.encode(mail))
      end
      if state == 'open' then
        left = settle_event(id, ARGV[3]) == ''
      else
        close_open_mails(id, state, phase, reason, ARGV[3])
        left = false
      end
    end
    if left then
      open[#open + 1] = id
      first = first or token
    end
  end
end
-- A gather that may probe the held channel makes one claim, which is the probe; one without any event is by the take's
-- own token.
if redis.call('HGET', CHANNEL, 'probing') == '1' then
  redis.call('HSET', CHANNEL, 'probing', first or ARGV[2])
end
return open
