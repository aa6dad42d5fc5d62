"""Faults that may be planted in the code by hand, and the test that tells: what docs/reliability.md lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Edit:
    """One place of a file, as it is and as the fault has it."""

    path: str
    good: str
    bad: str


@dataclass(frozen=True, slots=True)
class Plant:
    """A mistake that a developer could make."""

    name: str
    #: The test that fails for it.
    test: str
    edits: tuple[Edit, ...]

    def plant(self, checkout: Path) -> None:
        """Make the mistake; raises ValueError where the code is no longer what it was written for."""
        for edit in self.edits:
            path = checkout / edit.path
            text = path.read_text("utf-8")
            if text.count(edit.good) != 1:
                raise ValueError(f"{self.name}: {edit.path} has not exactly one {edit.good!r}")
            path.write_text(text.replace(edit.good, edit.bad), "utf-8")


_STORE = "approval_mail/store/scripts"
_SENDING = "approval_mail/sending.py"

PLANTS = (
    Plant(
        "lease token not compared",
        "tests/integration/test_store.py::test_a_worker_that_lost_its_lease_can_settle_nothing_but_an_acceptance",
        (
            Edit(
                f"{_STORE}/settle.lua",
                "(holder == token and mail.s == 'open')",
                "(holder and mail.s == 'open')",
            ),
            Edit(f"{_STORE}/settle.lua", "next_holder ~= token", "not next_holder"),
        ),
    ),
    Plant(
        "mails settled only at the batch's end",
        "tests/integration/test_delivery.py::test_an_accepted_mail_is_settled_as_it_is_accepted",
        (
            Edit(
                _SENDING,
                "        spent: Parcel | None = None\n",
                "        spent: Parcel | None = None\n        late = []\n",
            ),
            Edit(_SENDING, "settled=settled, upcoming=mail, ", "upcoming=mail, "),
            Edit(
                _SENDING,
                "            settled, spent = None, parcel\n",
                "            late += [settled] if settled else []\n            settled, spent = None, parcel\n",
            ),
            Edit(
                _SENDING,
                "        if settled:\n",
                "        for one in late:\n            self._store.settle(token, settled=one)\n        if settled:\n",
            ),
        ),
    ),
    Plant(
        "5xx retried",
        "tests/integration/test_delivery.py::test_a_permanent_refusal_is_dead_at_once_and_the_others_are_sent",
        (
            Edit(
                "approval_mail/mailer/transaction.py",
                '"dead" if 500 <= error.code <= 599 else "failed"',
                '"failed"',
            ),
        ),
    ),
    Plant(
        "certificate not verified",
        "tests/integration/test_mailer.py::test_an_untrusted_certificate_stops_everything_before_the_login",
        (
            Edit(
                "approval_mail/mailer/tls.py",
                "ssl.create_default_context(cafile=str(ca_file) if ca_file else None)",
                "ssl._create_unverified_context()",
            ),
        ),
    ),
    Plant(
        "duplicate not recognised",
        "tests/integration/test_store.py::test_an_event_told_twice_is_one_event",
        (Edit(f"{_STORE}/prelude.lua", "    return {'duplicate', -1, 0}\n", ""),),
    ),
)
