"""``approval-mail metrics``: how things stand and what was counted, for Prometheus."""

from __future__ import annotations

import sys

import click

from approval_mail import services
from approval_mail.cli import extras
from approval_mail.cli.output import log_as_a_server


@click.command("metrics", short_help="Metrics for Prometheus, once or on one address.")
@click.option(
    "--serve", "port", type=click.IntRange(0, 65535), help="Serve them at /metrics on this port; 0: a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, with --serve.")
def command(port: int | None, host: str) -> None:
    """Print all metrics in Prometheus's text format; with --serve, have them scraped until it is stopped.

    They hold counts and seconds alone: no addresses and no requests. `approval-mail api` has them at /metrics as well.
    """
    extras.require("metrics")
    from approval_mail import metrics  # noqa: PLC0415 the extra's modules, which other commands do without

    if port is None:
        click.echo(metrics.exposition().decode(), nl=False)
    else:
        _serve(host, port)


def _serve(host: str, port: int) -> None:
    from approval_mail import metrics  # noqa: PLC0415
    from approval_mail.metrics import Scrapes, exporter  # noqa: PLC0415

    services.settings()
    log_as_a_server()
    try:
        server = exporter.Exporter(Scrapes(metrics.exposition), host, port)
    except OSError as error:
        click.echo(f"{host}:{port} cannot be listened on: {error.strerror}; choose another: --serve, --host", err=True)
        sys.exit(1)
    exporter.serve(server)
