"""The mail server of a soak: a process of its own that keeps no mail, and is at times as moody as real ones.

``python -m tests.soak.mail_server FOLDER`` prints its port, and writes to ``FOLDER/journal`` a line for each mail that
it takes (recipient and Message-ID) and to ``FOLDER/editions`` each edition of a template the first time it is seen.
"""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

from tests.rig.smtp_server import Connection, Mail, Rule, SMTPServer
from tests.soak.host import GONE, LATER

#: One in so many, counted over all connections: told to come back later, cut before the sender is accepted, sent away
#: with a 421, and reset in the middle of the content. None of them is ever taken, so none explains a duplicate.
GREYLISTED, CUT, SENT_AWAY, RESET = 53, 211, 307, 503

_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(<[^>]*>)", re.MULTILINE | re.IGNORECASE)
_EDITION = re.compile(rb"^Subject: .*edition (\d+)", re.MULTILINE)


class _Nothing(list[Any]):
    """A list that keeps nothing."""

    def append(self, item: Any) -> None:
        del item


class MoodyServer(SMTPServer):
    """`SMTPServer` with a fixed temper in place of a script."""

    def __init__(self, folder: Path) -> None:
        super().__init__(mails=_Nothing(), commands=_Nothing(), heard=_Nothing())
        self._journal = (folder / "journal").open("ab", buffering=0)
        self._editions = (folder / "editions").open("ab", buffering=0)
        self._seen: set[bytes] = set()
        self._counts: dict[str, int] = {}

    def rule(self, step: str, recipient: str) -> Rule | None:
        with self._lock:
            number = self._counts[step] = self._counts.get(step, 0) + 1
        if step == "rcpt" and recipient == GONE:
            return Rule(step, "550 5.1.1 no such user")
        if step == "rcpt" and (recipient == LATER or number % GREYLISTED == 0):
            return Rule(step, "451 4.7.1 greylisted, come back later")
        if step == "mail" and number % CUT == 0:
            return Rule(step, act=Connection.cut)
        if step == "mail" and number % SENT_AWAY == 0:
            return Rule(step, act=_send_away)
        if step == "content" and number % RESET == 0:
            return Rule(step, act=Connection.reset)
        return None

    def keep(self, mail: Mail) -> None:
        found = _MESSAGE_ID.search(mail.content)
        with self._lock:
            self._journal.write(mail.recipient.encode() + b" " + (found[1] if found else b"-") + b"\n")
            edition = _EDITION.search(mail.content)
            if edition and edition[1] not in self._seen:
                self._seen.add(edition[1])
                self._editions.write(edition[1] + b"\n")


def _send_away(connection: Connection) -> None:
    connection.say("421 4.3.2 closing for a moment")
    connection.cut()


if __name__ == "__main__":
    server = MoodyServer(Path(sys.argv[1])).start()
    print(f"port {server.port}", flush=True)
    threading.Event().wait()
