"""What may be raised, with what hosts and operators do about it; errors of one part alone stand with that part."""

from __future__ import annotations


class ApprovalMailError(Exception):
    """The base of all errors of this package."""


class InvalidEvent(ApprovalMailError, ValueError):
    """An event's field is missing or malformed; the message names the field and the mend."""

    def __init__(self, field: str, message: str, value: str = "") -> None:
        super().__init__(field, message)  # Both, so that Celery can rebuild it from a task's result.
        #: Name of the field, as the hook's caller spells it.
        self.field = field
        self.message = message
        #: What ``message`` shows of the value at fault; empty if nothing.
        self._value = value

    def masked(self) -> InvalidEvent:
        """The same without the value at fault, for logs and results that others read."""
        return InvalidEvent(self.field, self.message.replace(self._value, "****") if self._value else self.message)

    def __str__(self) -> str:
        return self.message


class InvalidSettings(ApprovalMailError):
    """One or more settings cannot be used; the message lists every problem."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        #: One sentence per problem: name, masked value, source, rule.
        self.problems = problems


class InvalidRoutes(InvalidSettings):
    """The file of NOTIFICATION_ROUTES cannot be used; one sentence per problem: file, line, rule, mend."""


class InvalidRecord(ApprovalMailError):
    """A record read back from Redis or the spool is not what was written."""


class ChannelTrouble(ApprovalMailError):
    """The SMTP server cannot be reached, trusted or logged in to, whichever mail is sent.

    ``phase`` is the SMTP step, ``code`` the reply code or None, ``permanent`` tells whether an
    operator has to act, ``next_step`` says what to do.
    """

    def __init__(self, reason: str, *, phase: str, code: int | None, permanent: bool, next_step: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.phase = phase
        self.code = code
        self.permanent = permanent
        self.next_step = next_step

    @property
    def kind(self) -> str:
        """The trouble without the server's words, which may hold the time or the session's number."""
        return f"{self.phase} {self.code}: {self.next_step}" if self.code else self.reason


class TemplateFailed(ApprovalMailError):
    """A mail could not be rendered, not even from the packaged template."""


class LeaseLost(ApprovalMailError):
    """Another worker may hold these events now; nothing more may be sent for them here."""


class SpoolUnavailable(ApprovalMailError):
    """The spool's folder cannot be written, or is full; ``next_step`` says what to do."""

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(reason)
        self.next_step = next_step


class TryAgain(ApprovalMailError):
    """Some mails of a batch failed in a way that may pass: what Celery's autoretry waits for."""


class InvalidLink(ApprovalMailError):
    """A link's signature is not ours, or no longer."""
