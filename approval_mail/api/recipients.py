"""Whom the API's callers may have mails sent to: whoever gets a mail with links can decide."""

from __future__ import annotations

from collections.abc import Iterable

from approval_mail.addresses import is_address, split_addresses
from approval_mail.api.problems import Problem, invalid


class Recipients:
    """The addresses, and ``@domain`` for all of a domain, that ``email_to`` may have; case does not matter."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = frozenset(pattern.casefold() for pattern in patterns)

    def require(self, email_to: Iterable[str]) -> None:
        """Raises Problem for an address that is none of them; what is no address at all is for the desk to refuse."""
        # Joined and split as the desk does it: one text may hold several.
        for address in split_addresses(",".join(email_to)):
            if is_address(address) and not self._include(address.casefold()):
                raise _refused(address)

    def _include(self, address: str) -> bool:
        return address in self._patterns or f"@{address.rpartition('@')[2]}" in self._patterns


def _refused(address: str) -> Problem:
    return invalid(
        "email_to",
        f"email_to: {address} is not among those that APPROVAL_API_RECIPIENTS lets callers name; leave it out, "
        "or have the operator add it there",
    )
