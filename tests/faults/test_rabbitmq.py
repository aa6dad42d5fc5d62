"""RabbitMQ as the broker, Redis as store and result backend; runs where rabbitmq-server is installed."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import trustme

from approval_mail import hooks
from approval_mail.settings import Settings
from tests.faults.world import World
from tests.rig.proxy import Proxy
from tests.rig.rabbitmq import RabbitMQ
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.stopwatch import Stopwatch
from tests.rig.tls_front import TLSFront
from tests.rig.waiting import wait_for

#: Seconds. The promise: a hook returns within this whatever the broker does.
BOUND = 0.5


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    made = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def rabbitmq(node: RabbitMQ) -> RabbitMQ:
    """The node, at work and without queues of earlier tests."""
    if not node.answers():
        node.kill()
        node.start()
    node.delete("approval_mail")
    return node


@pytest.fixture
def over_rabbitmq(world: World, rabbitmq: RabbitMQ) -> World:
    world.settings["CELERY_BROKER_URL"] = rabbitmq.url
    return world


def command(world: World, *words: str) -> str:
    """Run a program of ours or Celery's to its end; answers what it printed."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=world.folder,
        env=world.settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


NOTIFY = """
from approval_mail.tasks import notify
names = {"request_id": "notified", "user_id": "kim", "tool_name": "git_commit"}
print(notify.delay("approval_rejected", names).get(timeout=30), end="")
"""
OURS = "from approval_mail.cli import main; main()"


def test_mail_flows_over_rabbitmq(over_rabbitmq: World) -> None:
    """From hooks, `notify` and beat; a mail that is refused for now is retried; operators see it all."""
    world = over_rabbitmq
    world.hurry_beat()
    world.smtp.on("rcpt", "451 later", times=1)
    worker = world.worker("--loglevel=INFO", "-E")
    world.beat()
    started = time.monotonic()
    world.tell(1, types=["approval_requested"])
    worker.wait_for_line("Retry in 2s")
    wait_for(lambda: len(world.smtp.mails) == 1, saying="the mail, retried")
    assert time.monotonic() - started < 15
    world.tell(3, types=["approval_requested"])

    assert command(world, "-c", NOTIFY) == "accepted"

    wait_for(lambda: world.client.get("approval_mail:{store}:beat"), saying="a gather of beat's")
    assert command(world, "-c", OURS, "check").count("ok  ") == 8
    assert json.loads(command(world, "-c", OURS, "status", "--json"))["workers"] == 1
    told = command(world, "-m", "celery", "-A", "approval_mail", "inspect", "registered", "--timeout=1", "--json")
    [tasks] = json.loads(told).values()
    assert any("approval_mail.send_batch" in task for task in tasks)
    wait_for(lambda: len(world.smtp.mails) == 5, saying="every mail")
    assert world.judge().sent == 4
    assert world.redis.client.exists("approval_mail") == 0, "no message went by Redis"


@pytest.mark.long
@pytest.mark.fault("RabbitMQ as broker, it and workers killed -9")
def test_nothing_is_lost_when_workers_and_rabbitmq_are_killed(over_rabbitmq: World, rabbitmq: RabbitMQ) -> None:
    """kill -9 of each under load; the node comes back on its data."""
    world = over_rabbitmq
    count = 300 if world.thorough else 60
    world.hurry_beat()
    worker = world.worker("--concurrency=2")
    world.beat()
    host = world.host(count, types=["approval_requested", "approval_approved"], per_second=20)
    wait_for(lambda: len(world.smtp.mails) > count / 10, saying="mails on their way")

    world.fault_begins()
    worker.kill()
    world.leases_run_out()
    worker = world.worker("--concurrency=2")
    before = len(world.smtp.mails)
    wait_for(lambda: len(world.smtp.mails) > before, saying="mail from the second worker")
    rabbitmq.kill()
    worker.wait_for_line("Trying again in")
    rabbitmq.start()
    world.fault_ends()
    gathered = world.client.get("approval_mail:{store}:beat")
    wait_for(lambda: world.client.get("approval_mail:{store}:beat") != gathered, saying="beat's next gather")

    assert host.process.wait(60) == 0, host.output()
    # A mail in flight at the kill may be sent twice, one for each of two processes.
    ledger = world.judge(explained=2)
    assert ledger.sent == count
    assert world.slowest_call() < BOUND


def tell(request_id: str) -> float:
    """Call a hook whose event wants a wake-up; answers the seconds that it took."""
    with Stopwatch() as watch:
        receipt = hooks.approval_requested(request_id=request_id, user_id="kim", tool_name="git_commit")
    assert receipt == "accepted"
    return watch.seconds


@pytest.fixture
def configure(redis_server: RedisServer, tmp_path: Path) -> Callable[[str], None]:
    """Take this broker, anew, and let the next event want a wake-up."""

    def take(broker_url: str) -> None:
        hooks.configure(
            Settings(
                enabled=True, redis_url=redis_server.url, celery_broker_url=broker_url, spool_dir=tmp_path / "spool"
            )
        )

    return take


def wakes_are_due(client: redis.Redis) -> None:
    client.delete("approval_mail:{store}:wake", "approval_mail:{store}:window")


@pytest.mark.parametrize("trouble", ["refused", "silent", "frozen", "slow", "locked"])
def test_a_hook_that_first_meets_rabbitmq_in_trouble_is_bounded(
    trouble: str, rabbitmq: RabbitMQ, configure: Callable[[str], None], client: redis.Redis
) -> None:
    def hold_back(_: bytes, __: bytes) -> bool:
        time.sleep(0.12)  # At each of the seven steps of a first publish.
        return True

    with socket.create_server(("127.0.0.1", 0)) as silent, Proxy(rabbitmq.port, hold_back) as proxy:
        ports = {"refused": free_port(), "silent": silent.getsockname()[1], "slow": proxy.port}
        password = "wrong" if trouble == "locked" else "guest"
        if trouble == "frozen":
            rabbitmq.signal(signal.SIGSTOP)
        took = []
        try:
            for n in range(2):
                configure(f"amqp://guest:{password}@127.0.0.1:{ports.get(trouble, rabbitmq.port)}//")
                wakes_are_due(client)
                took.append(tell(f"r{n}"))
            assert min(took) < BOUND, "once the machine may have been busy"
        finally:
            if trouble == "frozen":
                rabbitmq.signal(signal.SIGCONT)


@pytest.mark.parametrize("trouble", ["frozen", "killed", "slow"])
def test_a_hook_that_was_connected_is_bounded_and_its_wake_ups_arrive_again(
    trouble: str, rabbitmq: RabbitMQ, configure: Callable[[str], None], client: redis.Redis
) -> None:
    delay, names = 0.0, itertools.count()

    def hold_back(_: bytes, __: bytes) -> bool:
        time.sleep(delay)
        return True

    def arrives() -> bool:
        wakes_are_due(client)
        assert tell(f"again-{next(names)}") < BOUND
        time.sleep(0.2)  # What was sent is on its way.
        return rabbitmq.depth("approval_mail") > 0

    with Proxy(rabbitmq.port, hold_back) as proxy:
        configure(f"amqp://guest:guest@127.0.0.1:{proxy.port if trouble == 'slow' else rabbitmq.port}//")
        assert tell("before") < BOUND
        wait_for(lambda: rabbitmq.depth("approval_mail") == 1, saying="the first wake-up")
        if trouble == "slow":
            delay = 0.12
        elif trouble == "frozen":
            rabbitmq.signal(signal.SIGSTOP)
        else:
            rabbitmq.kill()
        for n in range(3):
            wakes_are_due(client)
            assert tell(f"r{n}") < BOUND
        delay = 0.0
        if trouble == "frozen":
            rabbitmq.signal(signal.SIGCONT)
        elif trouble == "killed":
            rabbitmq.start()
        rabbitmq.purge("approval_mail")
        wait_for(arrives, saying="a wake-up, once all is well")


CONNECT = """
from approval_mail.celery import app
try:
    app.connection_for_write().ensure_connection(max_retries=0, timeout=5).close()
except Exception as error:
    print("refused:", error)
else:
    print("connected")
"""


@pytest.mark.parametrize(
    ("host", "options", "answer"),
    [
        ("localhost", "?ssl_ca_certs={ca}", "connected"),
        ("127.0.0.1", "?ssl_ca_certs={ca}&ssl_check_hostname=false", "connected"),
        ("localhost", "", "unable to get local issuer certificate"),
        ("127.0.0.1", "?ssl_ca_certs={ca}", "certificate is not valid for '127.0.0.1'"),
    ],
)
def test_amqps_verifies_certificate_and_name(
    rabbitmq: RabbitMQ, settings: dict[str, str], tmp_path: Path, host: str, options: str, answer: str
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TLSFront(rabbitmq.port, context) as front:
        url = f"amqps://guest:guest@{host}:{front.port}//{options.format(ca=tmp_path / 'ca.pem')}"
        done = subprocess.run(
            [sys.executable, "-c", CONNECT],
            cwd=tmp_path,
            env={**settings, "CELERY_BROKER_URL": url},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert answer in done.stdout, done.stdout + done.stderr
