-- Let the clock pass over what it cannot read. Keys: deadlines, unheard, untold and reminders zsets.
-- ARGV: 2... members of any of them
for i = 2, #ARGV do remove_from({'deadlines', 'unheard', 'untold', 'reminders'}, ARGV[i]) end
