"""Who is calling: a valid key, or, where there is no key file, a program of this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import Scope

from approval_mail.api.failures import Failures
from approval_mail.api.keys import KeyFile, KeysUnusable, Role
from approval_mail.api.problems import Problem, keys_unusable
from approval_mail.loopback import is_local, is_loopback

#: What proxies add: with one in front, a request from this machine may be anybody's.
_TRACES_OF_PROXIES = ("Forwarded", "Via", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP")
#: And these, whatever follows.
_TRACES_BEGIN = "x-forwarded"
#: An Authorization header with a key in it (RFC 6750 section 2.1).
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is let in as."""

    #: The key's name, for logs.
    name: str
    roles: frozenset[Role]


class KeyHolders:
    """Lets in whoever shows a valid key."""

    def __init__(self, keys: KeyFile, failures: Failures) -> None:
        self._keys = keys
        self._failures = failures

    def admit(self, _scope: Scope, _headers: Headers) -> None:
        """Pages and documents are for everybody."""

    def caller(self, scope: Scope, headers: Headers, *, bearer: bool = False) -> Caller:
        """The holder of the request's key.

        Raises Problem: 401 without a valid key, 429 after too many such, 503 if the key file cannot be used.

        ``bearer``: without X-API-Key, the key may stand in Authorization.
        """
        plain = headers.get("X-API-Key", "")
        if bearer and "X-API-Key" not in headers and (found := _BEARER.fullmatch(headers.get("Authorization", ""))):
            plain = found[1]
        try:
            key = self._keys.find(plain)
        except KeysUnusable as error:
            raise keys_unusable() from error
        if key:
            return Caller(key.name, frozenset((key.role,)))
        count_failure(self._failures, scope, "X-API-Key")
        where = "in the header X-API-Key, or as Authorization: Bearer KEY" if bearer else "in the header X-API-Key"
        message = "this API key is not valid, or no longer" if plain else f"pass an API key {where}"
        challenge = 'ApiKey header="X-API-Key"'
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "unauthenticated",
            message,
            field="X-API-Key",
            headers={"WWW-Authenticate": f'Bearer realm="metrics", {challenge}' if bearer else challenge},
        )


class LocalPrograms:
    """Lets in programs of this machine, with every role, and no web page that someone on it looks at."""

    def admit(self, scope: Scope, headers: Headers) -> None:
        """Raises Problem for what does not come from this machine, or asks for a name that is not its own.

        A page elsewhere whose name was made to point here (DNS rebinding) still asks for that name.
        """
        if not is_loopback((scope.get("client") or ("127.0.0.1",))[0]):
            raise _stranger(None, "without API keys only this machine is served: set APPROVAL_API_KEYS_FILE")
        hosts = headers.getlist("Host")
        if len(hosts) != 1 or not is_local(hosts[0]):
            raise _stranger("Host", "without API keys only localhost, 127.0.0.1 and [::1] are served")
        if scope.get("http_version") == "1.0":  # As older proxies ask; others that tell nothing of themselves get by.
            raise _stranger(None, "without API keys HTTP/1.0, which proxies speak, is not served")
        for name in _TRACES_OF_PROXIES:
            if name in headers:
                raise _proxied(name)
        for name in headers:
            if name.lower().startswith(_TRACES_BEGIN):
                raise _proxied(name.title())

    def caller(self, _scope: Scope, headers: Headers, *, bearer: bool = False) -> Caller:
        """Raises Problem for a request that a page of another site, or of another port here, had a browser send."""
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise _stranger("Sec-Fetch-Site", "without API keys no other site's page is served")
        origin = headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != headers.get("Host"):
            raise _stranger("Origin", "without API keys no other site's page is served")
        return Caller("local", frozenset(Role))


def count_failure(failures: Failures, scope: Scope, field: str | None) -> None:
    """Count a failure of this client; raises Problem once there were too many."""
    seconds = failures.add((scope.get("client") or ("local",))[0])
    if seconds:
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_failures",
            f"too many failures from this address; try again in {seconds} s",
            field=field,
            headers={"Retry-After": str(seconds)},
        )


def _proxied(field: str) -> Problem:
    return _stranger(field, "without API keys nothing that came through a proxy is served")


def _stranger(field: str | None, message: str) -> Problem:
    return Problem(HTTPStatus.FORBIDDEN, "not_local", message, field=field)
