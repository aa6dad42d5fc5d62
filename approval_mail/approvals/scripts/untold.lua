-- Put on record that nobody was told of a pending request in half of its time. Keys: approval:<request> hash, unheard
-- and untold zsets. ARGV: 2 request id. Answers 1 to the one call that did: it tells.
local id = ARGV[2]
local status, told = unpack(redis.call('HMGET', approval_key(id), 'status', 'told'))
local mine = redis.call('ZREM', prefix .. 'unheard', id)
if mine == 0 or status ~= 'pending' or told then return 0 end
redis.call('HSET', approval_key(id), 'untold', '1')
redis.call('ZADD', prefix .. 'untold', now, id)
return 1
