-- Record an event once, and say whether gather must be woken.
-- Keys: event:<id> hash, recurring:<request> set, pending, urgent and claimed zsets, wake, room and window strings.
-- ARGV: 2... what record_event reads. Answers as it does.
return record_event(2)
