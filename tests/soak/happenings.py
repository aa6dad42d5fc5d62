"""What happens to a system in use, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.soak.stage import Stage


@dataclass(frozen=True, slots=True)
class Happening:
    """One of them."""

    #: Of the soak's length.
    part: float
    what: str
    do: Callable[[Stage], None]
    #: Needs a version that has a file of routes.
    of_routes: bool = False


_EDIT = ("template edited", Stage.edit_template)
_BREAK = ("template broken", Stage.break_template)
_MEND = ("template mended", Stage.edit_template)
_TERM = ("worker restarted, SIGTERM", Stage.restart_worker)
_KILL = ("worker killed -9 and started", Stage.kill_worker)
_BEAT = ("beat restarted", Stage.restart_beat)
_HUP = ("settings reloaded, SIGHUP", Stage.reload_settings)
_ROUTES = ("routes edited", Stage.edit_routes, True)
_BREAK_ROUTES = ("routes broken", Stage.break_routes, True)
_MEND_ROUTES = ("routes mended", Stage.edit_routes, True)

#: The second half is one long life of the worker: what grows slowly shows in it.
_WHOLE = (
    Happening(0.05, *_EDIT),
    Happening(0.07, *_ROUTES),
    Happening(0.10, *_TERM),
    Happening(0.13, *_BREAK),
    Happening(0.16, *_MEND),
    Happening(0.20, *_KILL),
    Happening(0.25, *_BEAT),
    Happening(0.30, *_HUP),
    Happening(0.35, *_EDIT),
    Happening(0.40, *_TERM),
    Happening(0.45, *_KILL),
    Happening(0.50, *_HUP),
    Happening(0.55, *_BREAK_ROUTES),
    Happening(0.58, *_MEND_ROUTES),
    Happening(0.60, *_EDIT),
    Happening(0.65, *_BREAK),
    Happening(0.70, *_MEND),
    Happening(0.75, *_BEAT),
    Happening(0.80, *_EDIT),
    Happening(0.85, *_ROUTES),
)
#: Each once: more than half of a minute is the worker's last life.
_SHORT = (
    Happening(0.05, *_EDIT),
    Happening(0.10, *_KILL),
    Happening(0.18, *_TERM),
    Happening(0.28, *_HUP),
    Happening(0.38, *_BEAT),
    Happening(0.45, *_BREAK),
    Happening(0.50, *_MEND),
    Happening(0.55, *_ROUTES),
)
#: Seconds; shorter ones hold the short programme.
_LONG = 600


def programme(seconds: float, *, has_routes: bool) -> list[Happening]:
    """What a soak of this length holds, in order."""
    return [one for one in (_WHOLE if seconds >= _LONG else _SHORT) if has_routes or not one.of_routes]
