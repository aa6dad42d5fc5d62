"""Who gets the mails about an event, by the rules that an operator wrote. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from approval_mail.addresses import Recipient
from approval_mail.events import ApprovalEvent
from approval_mail.fields import MAX_RECIPIENTS
from approval_mail.routing import syntax
from approval_mail.routing.rules import Entry, Rule

#: Stand in for a rule's name: nobody's rule, but EMAIL_TO; the event itself.
DEFAULT_ROUTE = ""
BY_THE_EVENT = syntax.RESERVED_NAME
#: The phase of mails that are dead because everybody was left out.
PHASE = "routing"


@dataclass(frozen=True, slots=True)
class Choice:
    """One who gets a mail, and why."""

    recipient: Recipient
    #: Name of the rule, DEFAULT_ROUTE or BY_THE_EVENT.
    rule: str


@dataclass(frozen=True, slots=True)
class Routing:
    """What becomes of one event."""

    choices: tuple[Choice, ...]
    #: Of the mails to them: ``open``; ``suppressed``: switched off; ``dead``: all of them were left out.
    state: str = "open"
    #: Why it is not open.
    reason: str = ""
    #: PHASE if it is dead.
    phase: str = ""
    #: One line for each entry of a rule that named nobody, or not all that its field holds.
    warnings: tuple[str, ...] = ()


class Routes:
    """The rules in their order; false if there are none.

    A rule that matches an event adds those whom it names, and ends the search unless it says ``go_on``.
    """

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        #: As the file has them.
        self.rules = tuple(rules)

    @classmethod
    def parse(cls, text: str, source: str) -> Routes:
        """Read TOML; raises InvalidRoutes with every problem, each of which names ``source`` and a line."""
        return cls(syntax.read(text, source))

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def languages(self) -> frozenset[str]:
        """Those that rules name."""
        return frozenset(rule.language for rule in self.rules if rule.language)

    def route(self, event: ApprovalEvent, default: Sequence[str]) -> Routing:
        """Decide about one event, of which ``default`` (EMAIL_TO) are told where nothing else is said; never raises.

        Who decides is the host's choice: an event with ``email_to`` goes there, whomever rules name.
        """
        matching = self._matching(event)
        unruled = tuple(
            Choice(Recipient(address), BY_THE_EVENT if event.email_to else DEFAULT_ROUTE)
            for address in event.email_to or default
        )
        if matching and matching[-1].off:
            return Routing(unruled, "suppressed", f"switched off by rule '{matching[-1].name}'")
        warnings: list[str] = []
        if event.email_to:
            chosen = _worded(unruled, matching)
        else:
            chosen = _chosen(event, matching, default, warnings) or unruled
        known = {choice.recipient.address.lower() for choice in chosen}
        besides = (Choice(Recipient(one), BY_THE_EVENT) for one in event.also_to if one.lower() not in known)
        chosen += _worded(tuple(besides), matching)
        unknown: list[str] = []
        barred = _barred(event, matching, unknown)
        if unknown and event.kind.asks:
            # Somebody who must not decide could be among those who are told.
            reason = (
                f"{unknown[0]}, so whom to leave out is not known; mend that, then: approval-mail dead retry EVENT_ID"
            )
            return Routing(chosen[:MAX_RECIPIENTS], "dead", reason, PHASE, tuple(warnings))
        warnings += unknown
        told = tuple(choice for choice in chosen if choice.recipient.address.lower() not in barred)
        if not told:
            return Routing(chosen[:MAX_RECIPIENTS], "dead", _nobody_left(chosen, barred), PHASE, tuple(warnings))
        if len(told) > MAX_RECIPIENTS:
            warnings.append(f"the rules name {len(told)} recipients; the first {MAX_RECIPIENTS} are told")
        return Routing(told[:MAX_RECIPIENTS], warnings=tuple(warnings))

    def _matching(self, event: ApprovalEvent) -> list[Rule]:
        """The rules that count, in their order; one that switches off is the last."""
        found = []
        for rule in self.rules:
            if rule.matches(event):
                found.append(rule)
                if not rule.go_on:
                    break
        return found


def _worded(choices: tuple[Choice, ...], matching: Sequence[Rule]) -> tuple[Choice, ...]:
    """The same people in the language and zone of the first rule that names anybody."""
    first = next((rule for rule in matching if not rule.names_nobody), None)
    if first is None:
        return choices
    return tuple(
        Choice(Recipient(choice.recipient.address, first.language, first.timezone), choice.rule) for choice in choices
    )


def _chosen(
    event: ApprovalEvent, matching: Sequence[Rule], default: Sequence[str], warnings: list[str]
) -> tuple[Choice, ...]:
    """Whom the rules name, each once, as the first of them words it."""
    found: dict[str, Choice] = {}
    for rule in matching:
        if rule.names_nobody:
            continue
        addresses = default if rule.to is None else _addresses(event, rule, "to", rule.to, warnings)
        for address in addresses:
            choice = Choice(Recipient(address, rule.language, rule.timezone), rule.name)
            found.setdefault(address.lower(), choice)
    return tuple(found.values())


def _barred(event: ApprovalEvent, matching: Sequence[Rule], warnings: list[str]) -> dict[str, str]:
    """Who is left out, in lower case, with the name of the rule that says so."""
    found: dict[str, str] = {}
    for rule in matching:
        for address in _addresses(event, rule, "leave_out", rule.leave_out, warnings):
            found.setdefault(address.lower(), rule.name)
    return found


def _addresses(event: ApprovalEvent, rule: Rule, key: str, entries: Sequence[Entry], warnings: list[str]) -> list[str]:
    found = []
    for entry in entries:
        addresses, fault = entry.addresses(event)
        found += addresses
        if fault:
            warnings.append(f"rule '{rule.name}': {key} '{entry.text}': {fault}")
    return found


def _nobody_left(chosen: Sequence[Choice], barred: dict[str, str]) -> str:
    if not chosen:
        return "nobody is named; set EMAIL_TO, then: approval-mail dead retry EVENT_ID"
    names = dict.fromkeys(barred[choice.recipient.address.lower()] for choice in chosen)
    rules = " and ".join(f"'{name}'" for name in names)
    who = f"rule {rules} leaves" if len(names) == 1 else f"rules {rules} leave"
    return (
        f"{who} out everyone who would be told; let a rule name somebody else, then: approval-mail dead retry EVENT_ID"
    )
