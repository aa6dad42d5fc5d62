"""What the demo's processes are given: their settings and commands, and nothing of the user's own settings."""

from __future__ import annotations

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


def settings(*, redis_url: str, smtp_port: int, language: str, folder: Path) -> dict[str, str]:
    """The demo's own settings, as the environment spells them."""
    return {
        "NOTIFICATION_ENABLED": "true",
        "NOTIFICATION_LANGUAGE": language,
        "NOTIFICATION_SPOOL_DIR": str(folder / "spool"),
        "REDIS_URL": redis_url,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp_port),
    }


def celery(program: str) -> list[str]:
    """The command of ``celery -A approval_mail <program>`` in this Python; its log tells what it does."""
    return [sys.executable, "-m", "celery", "-A", "approval_mail", program, "--loglevel=INFO"]


def emit_command(redis_url: str, folder: Path) -> str:
    """A shell command that causes one more mail, with a request id of its own at each run.

    It names the demo's spool: pasted after the demo's end, it must not reach the user's own workers.
    """
    return (
        f"REDIS_URL={redis_url} NOTIFICATION_ENABLED=true \\\n"
        f"  NOTIFICATION_SPOOL_DIR={shlex.quote(str(folder / 'spool'))} \\\n"
        f"  {shlex.quote(_own_name())} emit approval_requested \\\n"
        "  --field request_id=demo-$(date +%s) --field user_id=you \\\n"
        "  --field tool_name=git_push"
    )


def _own_name() -> str:
    """``approval-mail`` where a shell finds this very program by that name, else its whole path."""
    beside = Path(sys.executable).with_name("approval-mail")
    found = shutil.which("approval-mail")
    return "approval-mail" if found and Path(found).samefile(beside) else str(beside)
