"""``approval-mail api``: the HTTP API, Swagger UI, and the pages that links in mails open."""

from __future__ import annotations

import sys

import click

from approval_mail import services
from approval_mail.cli import extras
from approval_mail.cli.output import log_as_a_server


@click.command("api", short_help="The HTTP API on one address.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8020, show_default=True, help="Port to listen on; 0: a free one."
)
@click.option(
    "--first-keys",
    is_flag=True,
    help="If APPROVAL_API_KEYS_FILE does not exist, make it with a key of each role, and a file with them in plain.",
)
def command(host: str, port: int, first_keys: bool) -> None:
    """Serve the HTTP API until it is stopped; try it out at http://localhost:8020/docs.

    Callers need a key of APPROVAL_API_KEYS_FILE (approval-admin key create). Without that setting only programs of
    this machine are served, without keys.
    """
    if first_keys and services.settings().approval_api_keys_file is None:
        raise click.UsageError("--first-keys makes the file that APPROVAL_API_KEYS_FILE names: set it")
    extras.require("api")
    from approval_mail.api import server  # noqa: PLC0415 the extra's modules, which other commands do without

    log_as_a_server()
    app = server.from_settings(host, first_keys=first_keys)
    try:
        listener = server.listen(host, port)
    except OSError as error:
        click.echo(f"{host}:{port} cannot be listened on: {error.strerror}; choose another: --port", err=True)
        sys.exit(1)
    server.serve(app, listener)
