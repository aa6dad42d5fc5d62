-- Note down to how many claimed events a gather finds room for others, or take the note away. Keys: room string.
-- ARGV: 2 for any and 3 for urgent ones, '' where nothing waits for room, 4 the note's lifetime
local refusal = write_despite_full_memory()
if refusal then return refusal end
if ARGV[2] == '' then
  redis.call('DEL', prefix .. 'room')
else
  redis.call('SET', prefix .. 'room', ARGV[2] .. ' ' .. ARGV[3], 'PX', ARGV[4])
end
