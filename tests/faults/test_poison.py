"""Poison: events that no try will ever send are dead after a bounded number of them, and spare their neighbours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.world import ROOT, World
from tests.rig.waiting import wait_for

#: What may have become of a record in Redis; None: it is another event's.
DAMAGED = (b"{", b"\xff\x00", b"", b"[]", b'{"type": "approval_approved"}', b"[" * 100_000, None)
#: A template may reach all of Python: this one leaves a folder in KILLS for each process that it kills.
PAGE = """<p>{{ tool_name }}</p>
{% if request_id == "KILLER" %}{% set os = cycler.__init__.__globals__.os %}
{{ os.mkdir("KILLS/" ~ os.getpid()) or os.kill(os.getpid(), 9) }}{% endif %}
{% if request_id in ("RAISER", "MENDED") %}{{ nobody_knows }}{% endif %}
"""


def copy_of_the_product(folder: Path) -> Path:
    """A copy whose packaged templates may be broken."""
    copy = folder / "product"
    for part in ("approval_mail", "templates"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "celeryconfig.py", copy)
    return copy


@pytest.mark.fault("poison")
@pytest.mark.timeout(1200)
def test_poison_is_quarantined_and_its_neighbours_are_sent(world: World) -> None:
    """In one batch: a mail that kills its process, one that no template renders, and damaged records.

    What the operator's template alone cannot render is sent by the packaged one.
    """
    count = 20
    killer, raiser, mended, *damaged = world.random.sample([f"host1-{n}" for n in range(count)], 3 + len(DAMAGED))
    dead = 2 + len(damaged)
    own, kills = world.folder / "own", world.folder / "kills"
    own.mkdir()
    kills.mkdir()
    page = PAGE
    for word, value in {"KILLER": killer, "KILLS": str(kills), "RAISER": raiser, "MENDED": mended}.items():
        page = page.replace(word, value)
    (own / "approval_approved.html").write_text(page)
    product = copy_of_the_product(world.folder)
    packaged = product / "templates" / "emails" / "approval_approved.html"
    lines = packaged.read_text("utf-8").splitlines()
    lines.insert(4, f'{{% if request_id == "{raiser}" %}}{{{{ 1 // 0 }}}}{{% endif %}}')
    packaged.write_text("\n".join(lines), "utf-8")

    world.tell(count)
    with world.client as client:
        sound = client.hget(f"approval_mail:{{store}}:event:{mended}:approval_approved", "record")
        for name, record in zip(damaged, DAMAGED, strict=True):
            client.hset(f"approval_mail:{{store}}:event:{name}:approval_approved", "record", record or sound or "")
    sender = world.celery(
        "worker",
        "--concurrency=3",
        PYTHONPATH=str(product),
        NOTIFICATION_TEMPLATE_DIR=str(own),
        NOTIFICATION_BATCH_SIZE=str(count),
    ).ready()
    world.beat(NOTIFICATION_BATCH_TIMEOUT="0.5")
    lease = 70
    for number in (1, 2, 3):
        wait_for(lambda: len(list(kills.iterdir())) == number, seconds=lease)  # noqa: B023
        world.fault_begins()
        if number == 2:
            # One lease later all others are sent: what may have killed the worker has had to wait for them.
            wait_for(lambda: world.counts() == {"sent": count - dead, "dead": dead - 1, "claimed": 1})
        world.leases_run_out()
    ledger = world.judge(within=lease)
    assert (ledger.sent, ledger.dead) == (count - dead, dead)

    rows = {row["request_id"]: row for row in json.loads(world.ask("dead", "list", "--json").stdout)}
    assert set(rows) == {killer, raiser, *damaged}
    assert rows[killer]["reason"] == "outcome unknown 3 times; last: the worker died"
    assert rows[killer]["attempts"] == 3
    assert rows[raiser]["phase"] == "render"
    assert f"{packaged}:5: ZeroDivisionError in " in rows[raiser]["reason"]
    assert {(rows[name]["phase"], rows[name]["attempts"]) for name in damaged} == {("record", 0)}
    assert f"{own / 'approval_approved.html'}:4: UndefinedError: 'nobody_knows' is undefined" in sender.output()
