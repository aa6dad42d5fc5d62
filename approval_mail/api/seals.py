"""What a form carries, against CSRF: a signed double submit that is for one browser and one link. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from itsdangerous import Signer


class Seals:
    """Makes and compares the seals of one installation; the first of ``secrets`` seals, all of them are believed."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signer = Signer(
            list(reversed(secrets)),
            salt="approval_mail.form",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def make(self, cookie: str, token: str) -> str:
        return self._signer.get_signature(f"{cookie}.{token}").decode("ascii")

    def match(self, seal: str, cookie: str, token: str) -> bool:
        """Whether ``seal`` was made for these two; compared in constant time."""
        return self._signer.verify_signature(f"{cookie}.{token}", seal)
