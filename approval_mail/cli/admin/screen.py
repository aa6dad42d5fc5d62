"""The terminal that a table is shown on."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import click

from approval_mail.cli.output import terminal_size

#: A screen of its own, no cursor, and no line goes on in the next.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _END_LINE, _END_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    """Lines that are drawn over those before them; leaves the terminal as it was."""

    def __enter__(self) -> Screen:
        click.echo(_ENTER, nl=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        click.echo(_LEAVE, nl=False)

    def show(self, lines: Sequence[str]) -> None:
        """Draw as many of ``lines`` as there is room for at the moment."""
        shown = (line + _END_LINE for line in lines[: terminal_size().lines])
        click.echo(_HOME + "\n".join(shown) + _END_SCREEN, nl=False)
