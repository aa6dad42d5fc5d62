-- Note down to how many claimed events a gather finds room for others. Keys: room string.
-- ARGV: 2 for any, 3 for urgent ones, 4 the note's lifetime
local refusal = write_despite_full_memory()
if refusal then return refusal end
redis.call('SET', prefix .. 'room', ARGV[2] .. ' ' .. ARGV[3], 'PX', ARGV[4])
