"""API keys: made, kept as hashes in a file, and looked up in it; knows nothing of HTTP."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from approval_mail.errors import ApprovalMailError

logger = logging.getLogger(__name__)

#: What plain keys begin with, so that people and scanners for leaked secrets recognise one.
PREFIX = "am_"
#: Bytes of randomness in a key. So many cannot be guessed, which is why a plain SHA-256 keeps them well enough:
#: slow hashes are for what people think up.
_RANDOM_BYTES = 32
#: Characters. Longest text that is looked up at all; a key has 46.
_MAX_KEY = 200

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEADER = (
    "# API keys of approval-mail, one a line: name, role, SHA-256 of the key. Made by approval-admin key create.\n"
)


class KeysUnusable(ApprovalMailError):
    """The file of API keys cannot be read or has a damaged line, so it lets nobody in."""


class InvalidKeyName(ApprovalMailError, ValueError):
    """A key's name cannot be used, or is taken."""


class Role(str, enum.Enum):
    """What a key may do. Requesters and approvers read and extend too; everybody may read the metrics."""

    #: Asks and withdraws.
    REQUESTER = "requester"
    #: Approves and rejects.
    APPROVER = "approver"
    #: Reads the metrics and nothing else: what a monitoring system is given.
    OBSERVER = "observer"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the file."""

    #: Names the key in logs and commands.
    name: str
    role: Role
    #: SHA-256 of the plain key, hexadecimal.
    digest: str


class KeyFile:
    """The file of API keys, read again at each look-up: a revoked key ends at once.

    Commands rewrite it in one step and one after another, whoever else reads or writes it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The file as it was last read, and what stood in it; one value, for threads share it.
        self._last: tuple[bytes, tuple[Key, ...]] | None = None
        self._trouble = ""

    def find(self, plain: str) -> Key | None:
        """The key that this is; raises KeysUnusable. Every digest is compared, each in constant time."""
        digest = _digest(plain[:_MAX_KEY])
        found = None
        for key in self.current():
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def current(self) -> tuple[Key, ...]:
        """As `read` for a server, which logs when trouble begins and when it ends."""
        try:
            keys = self.read()
        except KeysUnusable as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.error("Nobody is let in: %s", error)
            raise
        if self._trouble:
            self._trouble = ""
            logger.info("%s can be used again", self.path)
        return keys

    def read(self) -> tuple[Key, ...]:
        """The keys in the file's order; raises KeysUnusable naming file and line."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError as error:
            raise KeysUnusable(
                f"{self.path} does not exist; make a key: "
                f"approval-admin key create --name NAME --role requester --file {self.path}"
            ) from error
        except OSError as error:
            raise KeysUnusable(f"{self.path} cannot be read: {error.strerror}; let this user read it") from error
        if not text.strip():
            # A rewrite by other means that was cut short; taking the last key out leaves the comment.
            raise KeysUnusable(
                f"{self.path} is empty; put back what stood in it, or make a key: "
                f"approval-admin key create --name NAME --role requester --file {self.path}"
            )
        last = self._last
        if last is None or last[0] != text:
            last = self._last = text, tuple(_parse(self.path, text))
        return last[1]

    def add(self, name: str, role: Role) -> str:
        """Append a key and answer it in plain, which is kept nowhere; makes the file if there is none."""
        if not _NAME.fullmatch(name):
            raise InvalidKeyName(
                f"--name {name[:80]!a} cannot be used; "
                "use 1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first"
            )
        with self._alone():
            text = self._existing()
            if any(key.name == name for key in _parse(self.path, text)):
                raise InvalidKeyName(
                    f"--name {name} is taken; choose another name, or revoke it: "
                    f"approval-admin key revoke {name} --file {self.path}"
                )
            plain = _make()
            _replace(self.path, text + _line(name, role, plain))
            return plain

    def revoke(self, name: str) -> bool:
        """Take a key's line out; False if there is none of this name. Comments and other lines stay."""
        with self._alone():
            self.read()
            lines = self._existing().splitlines(keepends=True)
            kept = [line for line in lines if line.split()[:1] != [name.encode()]]
            if len(kept) < len(lines):
                _replace(self.path, b"".join(kept))
            return len(kept) < len(lines)

    def make_first(self) -> Path | None:
        """Make the file with one key of each role unless it exists; answers where they stand in plain, or None.

        The plain keys are written first: whoever finds the key file finds them too, and a start that was cut short
        is made good by the next.
        """
        with self._alone():
            if self.path.exists():
                return None
            made = [(role, _make()) for role in Role]
            plain = self.path.with_name(f"{self.path.name}.first")
            _replace(plain, b"".join(f"{role} {key}\n".encode() for role, key in made))
            _replace(self.path, _HEADER.encode() + b"".join(_line(f"first-{role}", role, key) for role, key in made))
            return plain

    def _existing(self) -> bytes:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            text = b""
        if not text.strip():
            return _HEADER.encode()
        return text if text.endswith(b"\n") else text + b"\n"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other writers out; the folder is what is locked, for the file itself is replaced."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _make() -> str:
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()


def _line(name: str, role: Role, plain: str) -> bytes:
    return f"{name} {role} {_digest(plain)}\n".encode()


def _parse(path: Path, text: bytes) -> Iterator[Key]:
    names: dict[str, int] = {}
    for number, line in enumerate(text.split(b"\n"), start=1):
        words = line.decode("utf-8", "replace").split()
        if not words or words[0].startswith("#"):
            continue
        key = _key(words)
        if key is None:
            # Not shown: whoever damaged the line may have put a plain key there.
            raise KeysUnusable(
                f"{path}, line {number} is damaged: mend it, or take it out; "
                f"a line is a name, one of {', '.join(Role)}, and the SHA-256 of the key"
            )
        if key.name in names:
            raise KeysUnusable(f"{path}, lines {names[key.name]} and {number} have the same name: take one out")
        names[key.name] = number
        yield key


def _key(words: Sequence[str]) -> Key | None:
    if len(words) != 3 or not _NAME.fullmatch(words[0]) or not _DIGEST.fullmatch(words[2]):
        return None
    try:
        return Key(words[0], Role(words[1]), words[2])
    except ValueError:
        return None


def _replace(path: Path, text: bytes) -> None:
    """Put a file in another's place in one step; it keeps the other's owner and mode, a first one is its owner's."""
    path = path.resolve()
    written = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            if path.exists():
                before = path.stat()
                # An administrator's rewrite must not lock the server's own user out.
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o777)
            file.flush()
            os.fsync(descriptor)
        os.replace(written, path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
