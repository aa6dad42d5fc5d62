"""The live page of ``approval-mail status --watch``; the one part that needs the extra ``watch``."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator

from rich.console import Console, ConsoleDimensions
from rich.live import Live

from approval_mail import services
from approval_mail.cli.live.looks import Lookout
from approval_mail.cli.live.page import Page
from approval_mail.cli.live.trend import Trend
from approval_mail.cli.output import terminal_size
from approval_mail.stopping import ended_by_signals

#: Seconds between two looks at the keyboard and what was found.
_TICK = 0.1
#: Seconds after which a page is drawn again although nothing was found: it may have to say so, or the window has
#: another size.
_DRAW_AGAIN = 0.5


def show(trend: Trend, *, interval: float) -> None:
    """Draw the page every ``interval`` seconds until q, Ctrl-C or SIGTERM; the terminal is left as it was found."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # What an encoding cannot show is no reason to end.
    console = Console(force_terminal=True, highlight=False, markup=False, emoji=False)
    page = Page(console, services.settings().timezone, interval)
    # A line in between would tear the page, and all that could be logged is on it.
    logging.disable(logging.CRITICAL)
    try:
        with (
            ended_by_signals(),
            _keys() as keys,
            Lookout(interval) as lookout,
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            _draw(live, page, trend, lookout, keys)
    except KeyboardInterrupt:
        return
    finally:
        logging.disable(logging.NOTSET)


def _draw(live: Live, page: Page, trend: Trend, lookout: Lookout, keys: int | None) -> None:
    drawn_at = -_DRAW_AGAIN
    while not _is_told_to_end(keys):
        found = False
        while news := lookout.news():
            trend.add(news)
            found = True
        now = time.monotonic()
        if found or now >= drawn_at + _DRAW_AGAIN:
            page.console.size = ConsoleDimensions(*terminal_size())
            live.update(page.draw(trend.view(now)), refresh=True)
            drawn_at = now


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The keyboard, which gives each key at once and does not show it; None if there is none."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        mode = termios.tcgetattr(keyboard)
        # Ctrl-Z would leave the shell with a page and a dead keyboard.
        mode[6][termios.VSUSP] = bytes([os.fpathconf(keyboard, "PC_VDISABLE") & 0xFF])
        termios.tcsetattr(keyboard, termios.TCSANOW, mode)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)


def _is_told_to_end(keys: int | None) -> bool:
    """Whether q is pressed, or the terminal has gone, within a tick."""
    if keys is None:
        time.sleep(_TICK)
        return False
    if not select.select([keys], [], [], _TICK)[0]:
        return False
    try:
        pressed = os.read(keys, 1024)
    except OSError:
        return True
    return not pressed or b"q" in pressed.lower()
