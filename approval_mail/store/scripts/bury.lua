-- Make all open mails of a claimed event dead. Keys: event:<id> hash, and where the event then belongs.
-- ARGV: 2 token, 3 id, 4 phase, 5 reason, 6 history. Answers how many mails were closed.
local refusal = write_despite_full_memory()
if refusal then return refusal end
local id = ARGV[3]
if redis.call('HGET', event_key(id), 'token') ~= ARGV[2] then return 0 end
return close_open_mails(id, 'dead', ARGV[4], ARGV[5], ARGV[6])
