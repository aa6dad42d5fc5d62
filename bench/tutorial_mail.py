"""The same mail as tutorials send it: a Jinja2 environment, MIMEMultipart and smtplib, without this project's code."""

from __future__ import annotations

import json
import os
import shlex
import smtplib
import ssl
from datetime import datetime, timezone
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid
from functools import cache
from pathlib import Path
from typing import Any

import css_inline
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

_TEMPLATES = Path(__file__).parents[1] / "templates" / "emails"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([_TEMPLATES / "en", _TEMPLATES]),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shell"] = shlex.quote
    environment.filters["lines"] = lambda text: Markup(
        str(escape(text)).replace("  ", "&nbsp; ").replace("\n", "<br>\n")
    )
    return environment


@cache
def _inliner() -> css_inline.CSSInliner:
    return css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)


@cache
def _tls() -> ssl.SSLContext | None:
    authority = os.environ.get("SMTP_TLS_CA_FILE")
    return ssl.create_default_context(cafile=authority) if authority else None


def connect() -> smtplib.SMTP:
    """A new connection, logged in if there is a user."""
    smtp = smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"]), timeout=10)
    tls = _tls()
    if tls:
        smtp.starttls(context=tls)
    if os.environ.get("SMTP_USER"):
        smtp.login(os.environ["SMTP_USER"], os.environ["SMTP_PASSWORD"])
    return smtp


def compose(fields: dict[str, Any]) -> MIMEMultipart:
    """The mail of an approval_requested, HTML and text."""
    values = _values(fields)
    mail = MIMEMultipart("alternative")
    mail["Subject"] = f"[Approval needed] {fields['tool_name']}"
    mail["From"] = os.environ["EMAIL_FROM"]
    mail["To"] = fields["email_to"]
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain="bench.example")
    text = _environment().get_template("approval_requested.txt").render(values)
    page = _environment().get_template("approval_requested.html").render(values)
    mail.attach(MIMEText(text, "plain", "utf-8"))
    mail.attach(MIMEText(_inliner().inline(page), "html", "utf-8"))
    return mail


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    expires = datetime.fromisoformat(fields["expires_at"])
    minutes = int((expires - now).total_seconds() // 60)
    return {
        **fields,
        "event_type": "approval_requested",
        "arguments_text": json.dumps(fields["arguments"], indent=2),
        "requested_at": f"{datetime.fromisoformat(fields['requested_at']):%Y-%m-%d %H:%M:%S UTC}",
        "expires_at": f"{expires:%Y-%m-%d %H:%M:%S UTC}",
        "timestamp": f"{now:%Y-%m-%d %H:%M:%S UTC}",
        "time_left": f"{minutes // 60} h {minutes % 60} min",
    }
