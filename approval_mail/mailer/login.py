"""The login: by a password or by an access token, and in the clear only where that was chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from approval_mail.errors import ChannelTrouble
from approval_mail.mailer.channel import Channel
from approval_mail.mailer.oauth import read_token
from approval_mail.mailer.trouble import trouble
from approval_mail.mailer.wire import Wire


def log_in(channel: Channel, wire: Wire, step: Callable[[str, Callable[[], Any]], Any]) -> None:
    """Log in by ``step(phase, act)``, which runs ``act`` as a step; raises ChannelTrouble, or what a step raises."""
    if not wire.secured and channel.use_tls is not False:
        raise _impossible(
            channel,
            "the server offers no TLS, and credentials do not travel in the clear",
            f"use the server's TLS port, or set SMTP_USE_TLS=false if {channel.credential} may travel in the clear",
        )
    offered = " ".join(wire.offered_logins()) or "no login"
    if channel.uses_token:
        if "XOAUTH2" not in wire.offered_logins():
            raise _impossible(
                channel,
                f"the server takes no access token: it offers {offered}, not XOAUTH2",
                f"use SMTP_PASSWORD in place of {channel.credential}, or this service's own SMTP_HOST",
            )
        # A step of its own: the lease is kept before it and after it, and the login has its whole deadline. The
        # server waits meanwhile, no longer than for any client that is slow.
        token = step("auth", lambda: read_token(channel))
        step("auth", lambda: wire.log_in_with_token(channel.user, token))
    elif not step("auth", lambda: wire.log_in(channel.user, channel.password)):
        raise _impossible(
            channel,
            f"no login is possible: the server offers {offered}",
            "unset SMTP_USER and SMTP_PASSWORD if this server wants none, or use SMTP_OAUTH_TOKEN_FILE or "
            "SMTP_OAUTH_TOKEN_COMMAND if it offers XOAUTH2",
        )


def _impossible(channel: Channel, what: str, next_step: str) -> ChannelTrouble:
    return trouble(channel, "auth", what, permanent=True, next_step=next_step)
