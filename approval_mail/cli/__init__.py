"""``approval-mail``: what operators ask and tell the pipeline. Exit codes: 0 well, 1 trouble, 2 usage or settings."""

from __future__ import annotations

import errno
import logging
from typing import Any

import click

from approval_mail import __version__
from approval_mail.cli import check, dead, demo, emit, inbox, preview, send_test, spool, status, templates, trace
from approval_mail.errors import InvalidEvent, InvalidRecord, InvalidSettings
from approval_mail.store import StoreError


class _Program(click.Group):
    """Turns what operators can mend into one sentence on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidSettings as error:
            click.echo("\n".join(error.problems), err=True)
            ctx.exit(2)
        except InvalidEvent as error:
            click.echo(str(error), err=True)
            ctx.exit(2)
        except InvalidRecord as error:
            click.echo(str(error), err=True)
            ctx.exit(1)
        except UnicodeEncodeError as error:
            click.echo(f"this terminal's encoding, {error.encoding}, cannot show all of it: use UTF-8", err=True)
            ctx.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # Click knows what to do: whoever read the output has gone.
            click.echo(f"{error.filename or 'the output'}: {error.strerror or error}", err=True)
            ctx.exit(1)
        except StoreError as error:
            click.echo(f"Redis cannot be used ({error}): check REDIS_URL and that the server is running", err=True)
            ctx.exit(1)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Mails the person whose permission is asked. Settings come from the environment, then from ./.env."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


for module in (demo, check, preview, templates, send_test, inbox, emit, status, trace, dead, spool):
    main.add_command(module.command)
