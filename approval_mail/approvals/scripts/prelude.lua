-- Put after the store's prelude, before every script of this folder.

-- Where a request is once it has ended.
local ENDED = {'finished', 'approvals:approved', 'approvals:rejected', 'approvals:expired', 'approvals:cancelled'}

local function remove_from(zsets, id)
  for _, zset in ipairs(zsets) do redis.call('ZREM', prefix .. zset, id) end
end

-- When a pending request's deadline, its reminders and the look whether anybody was told of it are due.
-- Reminders that were sent, and a request already known to be untold, stay as they are.
local function plan_request(id)
  local asked, expires, fractions, mailed, reminded, told, untold = unpack(redis.call('HMGET', approval_key(id),
    'asked', 'expires', 'fractions', 'mailed', 'reminded', 'told', 'untold'))
  redis.call('ZADD', prefix .. 'deadlines', expires, id)
  if mailed ~= '1' then return end
  if not told and not untold then redis.call('ZADD', prefix .. 'unheard', math.floor((asked + expires) / 2), id) end
  for _, fraction in ipairs(split(fractions or '')) do
    if tonumber(fraction) > tonumber(reminded or 0) then
      local due = math.floor(asked + (expires - asked) * tonumber(fraction))
      redis.call('ZADD', prefix .. 'reminders', due, fraction .. ' ' .. id)
    end
  end
end
