-- Take due events under a lease, in groups that each get a token; freeze who receives them.
-- Keys: pending, urgent and claimed zsets, event:<id> hashes, trace:<id> lists, channel hash.
-- ARGV: 2 lease, 3 groups, 4 events per group, 5 token, 6 default recipients, 7 history, 8 '1' for urgent ones alone
-- Answers {{token, record of the first event, id, id, ...}, ...}
local refusal = write_despite_full_memory()
if refusal then return refusal end
local groups, size = {}, tonumber(ARGV[4])
local from = ARGV[8] == '1' and URGENT or PENDING
local ids = redis.call('ZRANGEBYSCORE', from, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]) * size)
for _, id in ipairs(ids) do
  local key, free = event_key(id), true
  if redis.call('HGET', key, 'resolved') ~= '1' then
    local own = redis.call('HGET', key, 'to')
    for _, recipient in ipairs(split(own and own ~= '' and own or ARGV[6])) do
      redis.call('HSETNX', key, 'mail:' .. recipient, cjson.encode({s = 'open', a = 0, o = 0, t = now}))
    end
    redis.call('HSET', key, 'resolved', '1')
    free = settle_event(id, ARGV[7]) == ''
  end
  if free then
    local group = groups[#groups]
    if not group or #group > size + 1 then
      group = {ARGV[5] .. ':' .. (#groups + 1), redis.call('HGET', key, 'record') or ''}
      groups[#groups + 1] = group
    end
    take_pending(id)
    redis.call('ZADD', CLAIMED, now + tonumber(ARGV[2]), id)
    redis.call('HSET', key, 'token', group[1], 'begun', 0)
    note(id, 'claimed')
    group[#group + 1] = id
  end
end
-- A gather that may probe the held channel claims one group, which is the probe.
if groups[1] and redis.call('HGET', prefix .. 'channel', 'probing') == '1' then
  redis.call('HSET', prefix .. 'channel', 'probing', groups[1][1])
end
return groups
