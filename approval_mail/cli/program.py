"""What the programs have in common: errors that operators can mend become one sentence and an exit code."""

from __future__ import annotations

import errno
from typing import Any

import click

from approval_mail.api.keys import InvalidKeyName, KeysUnusable
from approval_mail.approvals.errors import ApprovalExists, ApprovalsUnavailable, NotPending, UnknownApproval
from approval_mail.cli.output import ending
from approval_mail.errors import InvalidEvent, InvalidRecord, InvalidSettings
from approval_mail.fields import plain
from approval_mail.store import StoreError


class Program(click.Group):
    """Exit codes: 0 well, 1 found trouble, 2 wrong usage or settings."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"context_settings": {"help_option_names": ["-h", "--help"]}, **options})

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidSettings as error:
            click.echo("\n".join(error.problems), err=True)
            ctx.exit(2)
        except (InvalidEvent, InvalidKeyName, KeysUnusable) as error:
            click.echo(str(error), err=True)
            ctx.exit(2)
        except NotPending as error:
            click.echo(f"{ending(error.approval)}; nothing was changed", err=True)
            ctx.exit(1)
        except (InvalidRecord, ApprovalsUnavailable, UnknownApproval, ApprovalExists) as error:
            click.echo(plain(str(error)), err=True)
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
