-- What the clock asks for: requests past their deadline, reminders, requests that nobody may have been told of; and
-- forget what is older than history.
-- Keys: approval:<request> hashes, deadlines, reminders, unheard, finished, approvals, ids and
--       approvals:<status> zsets. ARGV: 2 most of each kind, 3 history
-- Answers {{request, ...}, {'<fraction> <request>', ...}, {request, ...}}
local most = tonumber(ARGV[2])
-- What is due in a zset, without what someone deleted by hand.
local function up_to_now(zset)
  local found = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', prefix .. zset, '-inf', now, 'LIMIT', 0, most)) do
    if redis.call('EXISTS', approval_key(string.match(member, '[^ ]+$'))) == 1 then
      found[#found + 1] = member
    else
      redis.call('ZREM', prefix .. zset, member)
    end
  end
  return found
end

local forgotten = redis.call('ZRANGEBYSCORE', prefix .. 'finished', '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, most)
for _, id in ipairs(forgotten) do
  remove_from({'approvals', 'ids'}, id)
  remove_from(ENDED, id)
end
return {up_to_now('deadlines'), up_to_now('reminders'), up_to_now('unheard')}
