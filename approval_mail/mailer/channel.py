"""The SMTP server with its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

#: Implicit TLS (RFC 8314 section 3.3).
_IMPLICIT_TLS_PORT = 465
#: Ports on which TLS is required unless it is switched off.
_TLS_PORTS = (_IMPLICIT_TLS_PORT, 587)


@dataclass(frozen=True, slots=True)
class Channel:
    """The SMTP server with its settings."""

    host: str
    port: int
    #: True: TLS is required. False: none. None: required on 465 and 587, elsewhere used when offered.
    use_tls: bool | None
    ca_file: Path | None
    user: str
    password: str = field(repr=False)
    #: Seconds; total deadline of one step.
    timeout: float
    #: EMAIL_FROM; its address is the envelope's sender.
    sender: str
    #: In place of a password: the file that holds the access token, or the command that prints it.
    token_file: Path | None = None
    token_command: tuple[str, ...] = field(default=(), repr=False)

    @property
    def implicit_tls(self) -> bool:
        return self.port == _IMPLICIT_TLS_PORT and self.use_tls is not False

    @property
    def tls_required(self) -> bool:
        return self.port in _TLS_PORTS if self.use_tls is None else self.use_tls

    @property
    def uses_token(self) -> bool:
        return bool(self.token_file or self.token_command)

    @property
    def credential(self) -> str:
        """Name of the setting that what is shown at login comes from."""
        if not self.uses_token:
            return "SMTP_PASSWORD"
        return "SMTP_OAUTH_TOKEN_FILE" if self.token_file else "SMTP_OAUTH_TOKEN_COMMAND"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
