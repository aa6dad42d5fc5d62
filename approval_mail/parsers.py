"""The text of a setting to its value; each parser raises ValueError with the rule that the text breaks."""

from __future__ import annotations

import shlex
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from zoneinfo import ZoneInfo

from approval_mail.addresses import is_address, split_addresses, split_sender
from approval_mail.fields import MAX_RECIPIENTS, fraction

_TRUE = frozenset(("true", "1", "yes", "on"))
_FALSE = frozenset(("false", "0", "no", "off"))


def boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("use true or false")


def number(low: float, high: float, kind: type[int] | type[float], unit: str) -> Callable[[str], Any]:
    def parse(text: str) -> int | float:
        rule = f"use a {'whole ' if kind is int else ''}number from {low:.10g} to {high:.10g}{unit}"
        try:
            value = kind(text)
        except ValueError as error:
            raise ValueError(rule) from error
        if not low <= value <= high:
            raise ValueError(rule)
        return value

    return parse


def host(text: str) -> str:
    if any(character.isspace() or character in "/@:" for character in text) and text.count(":") < 2:
        raise ValueError("use a host name or an IP address alone; the port goes to SMTP_PORT")
    return text


def sender(text: str) -> str:
    if split_sender(text) is None:
        raise ValueError("use one address, name@example.com or Name <name@example.com>")
    return text


def recipients(text: str) -> tuple[str, ...]:
    addresses = split_addresses(text)
    for address in addresses:
        if not is_address(address):
            raise ValueError("use addresses like name@example.com, comma separated")
    if not 1 <= len(addresses) <= MAX_RECIPIENTS:
        raise ValueError(f"use 1 to {MAX_RECIPIENTS} addresses")
    return tuple(addresses)


def ascii(text: str) -> str:
    if not text.isascii():
        raise ValueError("use ASCII characters; smtplib sends no others at login")
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"use {' or '.join(choices)}")
        return text

    return parse


def zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("use a zone of the IANA database such as Asia/Seoul") from error


def existing_file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError("use a file that exists")
    return path


def path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def command(text: str) -> tuple[str, ...]:
    """A command line's words; whether its program exists is for the host that runs it to tell."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError("close every quote of the command line") from error
    if not words or not words[0]:
        raise ValueError("use a command line that begins with a program")
    return tuple(words)


def redis_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("redis", "rediss") and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("use redis://host:port/database or rediss://")
    _check_tls(text)
    return text


def broker_url(text: str) -> str:
    # kombu takes several, parted by semicolons. What it says of one that it cannot read would show a password's part.
    if not all("://" in url and _has_a_sound_port(url) for url in text.split(";")):
        raise ValueError("use a URL such as redis://host:6379/1 or amqp://host//; write / in a password as %2F")
    _check_tls(text)
    return text


def _has_a_sound_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def split_tls(url: str) -> tuple[str, dict[str, Any]]:
    """A URL without its ``ssl_`` options, and these by redis-py's names; empty where the URL means no TLS.

    Certificate and host name are verified unless the options say otherwise: by themselves kombu and py-amqp look at
    less.
    """
    bare, _, query = url.partition("?")
    options: dict[str, Any] = dict(parse_qsl(query))
    if urlsplit(url).scheme not in _OVER_TLS:
        return url, {}
    found = {name: options.pop(name) for name in list(options) if name.startswith(_TLS_PREFIX)}
    reqs = found["ssl_cert_reqs"] = found.get("ssl_cert_reqs", "required").removeprefix("CERT_").lower()
    found["ssl_check_hostname"] = reqs != "none" and found.get("ssl_check_hostname", "true").lower() not in _FALSE
    return bare + (f"?{urlencode(options)}" if options else ""), found


_OVER_TLS = ("rediss", "amqps")
_TLS_PREFIX = "ssl_"
#: Options of a URL that name a file; the first one a private CA.
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _check_tls(url: str) -> None:
    parts = urlsplit(url)
    given = {name: text for name, text in parse_qsl(parts.query) if name.startswith(_TLS_PREFIX)}
    if given and parts.scheme not in _OVER_TLS:
        raise ValueError(f"{min(given)} needs rediss:// or amqps://")
    for name in TLS_FILES:
        if name in given and not Path(given[name]).is_file():
            raise ValueError(f"{name} names {given[name]!r}, and there is no such file")
    if given.get("ssl_cert_reqs", "required") not in ("none", "optional", "required", *ssl.VerifyMode.__members__):
        raise ValueError("ssl_cert_reqs: use required, optional or none")


def fractions(text: str) -> tuple[str, ...]:
    """Fractions between 0 and 1, each once, in rising order, as `fields.fraction` writes them."""
    try:
        found = {fraction(part) for part in text.split(",")}
    except ValueError as error:
        raise ValueError("use fractions between 0 and 1, comma separated, such as 0.5,0.8") from error
    return tuple(sorted(found, key=float))


def words(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ValueError("use words, comma separated")
    return found


def public_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or parts.scheme not in ("http", "https") or parts.query or parts.fragment or parts.username:
        raise ValueError(
            "use the address that approvers reach approval-mail api at, such as https://approve.example.com"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("use ASCII characters; write an internationalised name in its xn-- form")
    return text.rstrip("/")


#: Characters. What `openssl rand -hex 16` prints.
_MIN_SECRET = 32


def link_secrets(text: str) -> tuple[str, ...]:
    """Secrets, comma separated or one a line; the first one signs."""
    found = tuple(part.strip() for part in text.replace("\n", ",").split(",") if part.strip())
    if not found or any(len(secret) < _MIN_SECRET for secret in found):
        raise ValueError(f"use at least {_MIN_SECRET} characters for each secret, such as openssl rand -hex 32 prints")
    return found


def recipient_patterns(text: str) -> tuple[str, ...]:
    """Addresses, and ``@domain`` for every address of a domain."""
    found = words(text)
    if not all(is_address(f"x{pattern}" if pattern.startswith("@") else pattern) for pattern in found):
        raise ValueError("use addresses, or @example.com for all of a domain, comma separated")
    return found
