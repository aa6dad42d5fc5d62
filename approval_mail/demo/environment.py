"""What the demo's processes are given: their settings and commands, and nothing of the user's own settings."""

from __future__ import annotations

import secrets
import shlex
import shutil
import sys
from collections.abc import MutableMapping
from pathlib import Path

#: Names that begin so are settings of this package or of Celery.
_SETTINGS = ("NOTIFICATION_", "APPROVAL_", "SMTP_", "EMAIL_", "REDIS_URL", "CELERY_")


def forget_settings(environ: MutableMapping[str, str]) -> None:
    """Remove every setting of the user's, which could send a demo mail to a real person.

    From the demo's own process as well: Celery reads CELERY_BROKER_URL past its configuration.
    """
    for name in [name for name in environ if name.startswith(_SETTINGS)]:
        del environ[name]


def settings(*, redis_url: str, smtp_port: int, api_port: int, language: str, folder: Path) -> dict[str, str]:
    """The demo's own settings, as the environment spells them; the links' secret is this run's alone."""
    return {
        "NOTIFICATION_ENABLED": "true",
        "NOTIFICATION_LANGUAGE": language,
        "NOTIFICATION_SPOOL_DIR": str(folder / "spool"),
        "REDIS_URL": redis_url,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp_port),
        "APPROVAL_PUBLIC_URL": f"http://127.0.0.1:{api_port}",
        "APPROVAL_LINK_SECRET": secrets.token_hex(32),
    }


def celery(program: str) -> list[str]:
    """The command of ``celery -A approval_mail <program>`` in this Python; its log tells what it does."""
    return [sys.executable, "-m", "celery", "-A", "approval_mail", program, "--loglevel=INFO"]


def api(port: int) -> list[str]:
    """The command of ``approval-mail api`` in this Python."""
    return [sys.executable, "-c", "from approval_mail.cli import main; main()", "api", "--port", str(port)]


def admin(*arguments: str) -> list[str]:
    """The command of ``approval-admin`` in this Python."""
    return [sys.executable, "-c", "from approval_mail.cli.admin import main; main()", *arguments]


def request_command(redis_url: str) -> str:
    """A shell command that asks once more, with a request of its own at each run, and waits for the answer.

    Pasted after the demo's end, it finds no Redis and so does not reach the user's own workers.
    """
    return (
        f"REDIS_URL={redis_url} NOTIFICATION_ENABLED=true \\\n"
        f"  {shlex.quote(_own_name())} request --user you --tool git_push \\\n"
        "  --argument branch=main --wait"
    )


def _own_name() -> str:
    """``approval-admin`` where a shell finds this installation's by that name, else its whole path."""
    beside = Path(sys.executable).with_name("approval-admin")
    found = shutil.which("approval-admin")
    return "approval-admin" if found and Path(found).samefile(beside) else str(beside)
