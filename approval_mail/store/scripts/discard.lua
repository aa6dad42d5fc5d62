-- Turn an event's dead mails into suppressed ones.
-- Keys: event:<id> hash, trace:<id> list, buried, and where the event then belongs.
-- ARGV: 2 id, 3 reason, 4 history. Answers how many mails were discarded.
local refusal = write_despite_full_memory()
if refusal then return refusal end
local id, discarded = ARGV[2], 0
for recipient, mail in pairs(mails_of(id)) do
  if mail.s == 'dead' then
    mail.s, mail.r = 'suppressed', ARGV[3]
    save_mail(id, recipient, mail)
    note(id, mail.s, recipient, mail.r)
    count_closed(id, recipient, mail)
    discarded = discarded + 1
  end
end
if discarded > 0 then settle_event(id, ARGV[4]) end
return discarded
