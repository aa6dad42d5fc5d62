-- Tell whether a wake-up is to be sent for the end of the leases now given, once a lease. Keys: watch string.
-- ARGV: 2 lease
-- Answers 1 to the one call that is to send it, else 0.
local refusal = write_despite_full_memory()
if refusal then return refusal end
return redis.call('SET', prefix .. 'watch', '1', 'NX', 'PX', ARGV[2]) and 1 or 0
