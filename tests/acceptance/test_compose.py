"""docker-compose.yml's own commands and settings as processes: all but the engine is real."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.rig import containers
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

SERVICES = containers.services({})
PASSWORD = "any-password"
LOGIN = "operator:any:password"
#: A container has the image's programs first on its path.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


class Stack:
    """Services of the file, moved to this machine: only hosts, ports and folders are others."""

    def __init__(self, folder: Path, moved: Mapping[str, str], flower_port: int) -> None:
        self._folder = folder
        self._moved = moved
        self._machine = {
            "PATH": PATH,
            "HOME": str(folder),
            "HOSTNAME": socket.gethostname(),
            "FLOWER_PORT": str(flower_port),
        }
        self.running: list[Program] = []

    def environment(self, name: str) -> dict[str, str]:
        found = containers.image_environment() | containers.environment(SERVICES[name], {})
        return {variable: self._move(value) for variable, value in found.items()} | self._machine

    def start(self, name: str) -> Program:
        command = [self._move(word) for word in SERVICES[name]["command"]]
        program = Program(*command, folder=self._folder, settings=self.environment(name), name=name)
        self.running.append(program)
        return program

    def is_healthy(self, name: str) -> bool:
        """Run the service's health check as the engine would, inside its container."""
        kind, *test = SERVICES[name]["healthcheck"]["test"]
        command = [self._move(word) for word in (["/bin/sh", "-c", *test] if kind == "CMD-SHELL" else test)]
        check = subprocess.run(
            command, cwd=self._folder, env=self.environment(name), capture_output=True, timeout=60, check=False
        )
        return check.returncode == 0

    def _move(self, text: str) -> str:
        return re.sub("|".join(map(re.escape, self._moved)), lambda found: self._moved[found[0]], text)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with the options of the file's Redis."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder, *SERVICES["redis"]["command"][1:]).start()
    yield server
    server.kill()


@pytest.fixture
def flower_port() -> int:
    return free_port()


@pytest.fixture
def api_port() -> int:
    return free_port()


@pytest.fixture
def stack(
    redis_server: RedisServer, smtp: SMTPServer, tmp_path: Path, flower_port: int, api_port: int
) -> Iterator[Stack]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "smtp_password").write_text(f"{PASSWORD}\n")
    (secrets / "flower_basic_auth").write_text(f"{LOGIN}\n")
    stack = Stack(
        tmp_path,
        {
            "redis://redis:6379/0": redis_server.url,
            "mailhog": "127.0.0.1",
            "1025": str(smtp.port),
            ":5555": f":{flower_port}",
            "8020": str(api_port),
            # A test serves this machine alone.
            "0.0.0.0": "127.0.0.1",
            "/run/secrets": str(secrets),
            "/var/lib": str(tmp_path / "state"),
        },
        flower_port,
    )
    yield stack
    for program in stack.running:
        program.kill()


@pytest.fixture
def settings(stack: Stack) -> dict[str, str]:
    """An application that shares the worker's settings."""
    return stack.environment("worker")


def test_redis_keeps_what_it_acknowledged(redis_server: RedisServer) -> None:
    with redis_server.client as client:
        assert client.config_get("maxmemory-policy", "appendonly") == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }


def test_worker_and_beat_send_a_mail_with_the_secrets_login_and_are_healthy(
    stack: Stack, emit: Callable[..., list[str]], smtp: SMTPServer
) -> None:
    smtp.users["approval-mail"] = PASSWORD
    worker = stack.start("worker").ready()
    stack.start("beat")

    assert emit([("approval_requested", "abc12345")]) == ["accepted"]

    wait_for(lambda: smtp.mails, saying="a mail")
    [mail] = smtp.mails
    assert (mail.recipient, mail.subject) == ("operator@localhost", "[승인 필요] git_commit 도구")
    login = base64.b64encode(f"\0approval-mail\0{PASSWORD}".encode()).decode()
    assert f"AUTH PLAIN {login}" in smtp.commands

    wait_for(lambda: stack.is_healthy("beat"), saying="a healthy beat")
    wait_for(lambda: stack.is_healthy("worker"), saying="a healthy worker")
    assert worker.stop() == 0
    assert not stack.is_healthy("worker")


def test_flower_is_healthy_and_shows_nothing_without_the_secrets_login(stack: Stack, flower_port: int) -> None:
    stack.start("flower")
    wait_for(lambda: stack.is_healthy("flower"), saying="a healthy Flower")

    url = f"http://127.0.0.1:{flower_port}/workers"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=10)
    refused.value.close()
    assert refused.value.code == 401

    login = base64.b64encode(LOGIN.encode()).decode()
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Authorization": f"Basic {login}"}), timeout=10
    ) as answer:
        assert answer.status == 200


def test_the_api_is_healthy_and_has_a_key_of_each_role(stack: Stack, tmp_path: Path, api_port: int) -> None:
    program = stack.start("api")
    wait_for(lambda: stack.is_healthy("api"), saying="a healthy API")
    first = tmp_path / "state" / "approval_mail" / "api_keys.first"
    assert str(first) in program.output()
    keys = dict(line.split() for line in first.read_text().splitlines())
    assert not any(key in program.output() for key in keys.values())

    def call(path: str, key: str, body: bytes | None = None) -> int:
        headers = {"X-API-Key": key, "X-User-ID": "kim", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{api_port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)

    assert call("/api/approvals", keys["requester"], b'{"tool_name": "git_commit", "request_id": "abc12345"}') == 201
    assert call("/api/approvals/abc12345/approve", keys["approver"], b"{}") == 200
    assert program.stop() == 0

    stack.start("api")
    wait_for(lambda: stack.is_healthy("api"), saying="a healthy API again")
    assert call("/api/stats", keys["requester"]) == 200
