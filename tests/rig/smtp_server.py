"""A real SMTP server that follows a script, and journals each accepted mail before it replies."""

from __future__ import annotations

import base64
import contextlib
import email
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import ClassVar

from tests.rig.redis_server import free_port


@dataclass
class Mail:
    """One mail that the server took."""

    recipient: str
    sender: str
    content: bytes
    #: The connection that brought it, counted from 1.
    connection: int
    at: float

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=policy.default)  # type: ignore[return-value]

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"])

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])


@dataclass
class Rule:
    """At ``step``, ``times`` times: say ``reply`` or do ``act`` instead of what is usual."""

    step: str
    reply: str = ""
    act: Callable[[Connection], None] | None = None
    recipient: str = ""
    times: int = 1_000_000


@dataclass
class SMTPServer:
    """Listens on ``host``. Steps are banner, ehlo, starttls, auth, mail, rcpt, data, content, dot, quit, noop."""

    #: Whether commands may come in groups (RFC 2920), as most servers allow.
    pipelining: ClassVar[bool] = True
    #: Answer DATA as usual also where no recipient was accepted.
    lenient: bool = False
    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    starttls: bool = True
    #: Passwords by user.
    users: dict[str, str] = field(default_factory=dict)
    #: Access tokens by user.
    tokens: dict[str, str] = field(default_factory=dict)
    journal: Path | None = None
    host: str = "127.0.0.1"
    #: One that no outgoing connection takes while this is stopped.
    port: int = field(default_factory=free_port)
    mails: list[Mail] = field(default_factory=list)
    #: Every line that a client sent, data aside.
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    #: Each connection, as CONNECT, and each line of ``commands`` with when it came, by time.monotonic().
    heard: list[tuple[float, str]] = field(default_factory=list)
    #: Seconds before each reply to a final dot.
    slowness: float = 0
    _rules: list[Rule] = field(default_factory=list)

    def start(self) -> SMTPServer:
        self._listener = socket.create_server((self.host, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse further connections; those that are open are cut."""
        if self._listener.fileno() >= 0:
            # A blocked accept() keeps the port listening until it is woken.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for connection in list(self._open):
            connection.cut()

    def __post_init__(self) -> None:
        self._open: set[Connection] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> SMTPServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def on(
        self,
        step: str,
        reply: str = "",
        *,
        act: Callable[[Connection], None] | None = None,
        recipient: str = "",
        times: int = 1_000_000,
    ) -> None:
        self._rules.append(Rule(step, reply, act, recipient, times))

    def behave(self) -> None:
        """Forget every rule."""
        self._rules.clear()

    def rule(self, step: str, recipient: str) -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if rule.step == step and rule.times > 0 and rule.recipient in ("", recipient):
                    rule.times -= 1
                    return rule
        return None

    def keep(self, mail: Mail) -> None:
        with self._lock:
            if self.journal:
                with self.journal.open("a") as file:
                    file.write(f"{mail.recipient} {mail.message_id}\n")
            self.mails.append(mail)

    def open_connections(self) -> int:
        return len(self._open)

    def to(self, recipient: str) -> list[Mail]:
        return [mail for mail in self.mails if mail.recipient == recipient]

    def moments(self, beginning: str) -> list[float]:
        """When what begins like this was heard: a verb with what follows it, or CONNECT."""
        return [at for at, what in self.heard if what.upper().startswith(beginning.upper())]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self.heard.append((time.monotonic(), "CONNECT"))
            connection = Connection(self, sock, self.connections)
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            with contextlib.suppress(OSError):  # The client went away.
                connection.serve()
        except ValueError:
            if not connection.closed:  # By the script, or by `stop`: its file can no longer be read.
                raise
        finally:
            self._open.discard(connection)
            connection.cut()


class Connection:
    """The server's side of one SMTP session."""

    def __init__(self, server: SMTPServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.secured = self.closed = False
        self.sender = self.recipient = ""
        #: How far the transaction has come: nothing yet, the sender, or a recipient is accepted.
        self._transaction = self._said = ""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = sock.makefile("rb")

    def say(self, text: str) -> None:
        self._said = text
        self.sock.sendall(text.encode("utf-8", "surrogateescape") + b"\r\n")

    def secure(self) -> None:
        assert self.server.tls is not None
        self.sock = self.server.tls.wrap_socket(self.sock, server_side=True)
        self.file = self.sock.makefile("rb")
        self.secured = True

    def cut(self) -> None:
        self.closed = True
        for act in (lambda: self.sock.shutdown(socket.SHUT_RDWR), self.file.close, self.sock.close):
            with contextlib.suppress(OSError, ValueError):
                act()

    def reset(self) -> None:
        """Close with a TCP RST."""
        self.closed = True
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.sock.close()

    def answer(self, step: str, usual: str) -> bool:
        """Reply as the rules say, else as usual; answers whether that was a reply below 400."""
        rule = self.server.rule(step, self.recipient)
        if rule and rule.act:
            rule.act(self)
            return False
        text = rule.reply if rule else usual
        self.say(text)
        return text[:1] in "23"

    def serve(self) -> None:  # noqa: PLR0912 - one branch per command
        if self.server.implicit_tls:
            self.secure()
        if not self.answer("banner", "220 test ESMTP"):
            return
        while line := self.file.readline():
            command = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self.server.commands.append(command)
            self.server.heard.append((time.monotonic(), command))
            verb = command.split(" ")[0].upper()
            if verb == "EHLO":
                self.answer("ehlo", self._features())
            elif verb == "STARTTLS":
                if self.answer("starttls", "220 go ahead"):
                    self.secure()
            elif verb == "AUTH":
                self._auth(command)
            elif verb == "MAIL":
                self.sender = re.findall(r"<(.*?)>", command)[0]
                self.answer("mail", "250 ok")
                self._transaction = "mail" if self._said.startswith("2") else ""
            elif verb == "RCPT":
                self.recipient = re.findall(r"<(.*?)>", command)[0]
                if not self._transaction:
                    self.say("503 5.5.1 MAIL first")
                else:
                    self.answer("rcpt", "250 ok")
                    self._transaction = "rcpt" if self._said.startswith("2") else self._transaction
            elif verb == "DATA":
                if self._transaction != "rcpt" and not self.server.lenient:
                    self.say("554 5.5.1 no valid recipients")
                elif self.answer("data", "354 go ahead"):
                    self._data()
                    self._transaction = ""
            elif verb == "QUIT":
                self.answer("quit", "221 bye")
                return
            else:
                self.answer(verb.lower(), "250 ok")

    def _features(self) -> str:
        features = ["test", "SIZE 10485760", "8BITMIME"] + ["PIPELINING"] * self.server.pipelining
        if self.server.tls and self.server.starttls and not self.secured:
            features.append("STARTTLS")
        mechanisms = ["PLAIN", "LOGIN"] * bool(self.server.users) + ["XOAUTH2"] * bool(self.server.tokens)
        if mechanisms:
            features.append(f"AUTH {' '.join(mechanisms)}")
        return "\r\n".join([*(f"250-{feature}" for feature in features[:-1]), f"250 {features[-1]}"])

    def _auth(self, command: str) -> None:
        _, mechanism, response = command.split(" ")
        said = base64.b64decode(response).decode()
        if mechanism == "XOAUTH2":
            user, token = re.fullmatch("user=(.*)\x01auth=Bearer (.*)\x01\x01", said).groups()  # type: ignore[union-attr]
            good = self.server.tokens.get(user) == token
            if not good:
                self._explain()
        else:
            # A client that turns to LOGIN, which this server does not know further, says its user alone.
            user, password = said.split("\0")[1:] if "\0" in said else (said, None)
            good = password is not None and self.server.users.get(user) == password
        self.answer("auth", "235 welcome" if good else "535 5.7.8 Username and Password not accepted")

    def _explain(self) -> None:
        """Say what is wrong with a token as XOAUTH2 does, in a challenge that the client answers with an empty line."""
        fault = json.dumps({"status": "400", "schemes": "Bearer", "scope": "https://mail.example.com/"})
        self.say(f"334 {base64.b64encode(fault.encode()).decode()}")
        answer = self.file.readline().decode().rstrip("\r\n")
        self.server.commands.append(answer)

    def _data(self) -> None:
        rule = self.server.rule("content", self.recipient)
        if rule and rule.act:
            rule.act(self)
            return
        lines = []
        while (line := self.file.readline()) != b".\r\n":
            if not line:
                return
            lines.append(line[1:] if line.startswith(b".") else line)
        time.sleep(self.server.slowness)
        mail = Mail(self.recipient, self.sender, b"".join(lines), self.number, time.time())
        rule = self.server.rule("dot", self.recipient)
        if not rule or rule.act or rule.reply.startswith("250"):
            self.server.keep(mail)
        if rule and rule.act:
            rule.act(self)
        else:
            self.say(rule.reply if rule else "250 taken")
