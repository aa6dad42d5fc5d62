"""A mail scanner that follows and submits all that it finds in a mail, and the person after it."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from approval_mail import celery, hooks, services
from approval_mail.approvals import Status, desks
from approval_mail.approvals.desk import Desk
from approval_mail.settings import Settings
from tests.acceptance.test_deciding import Answer, Visitor
from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.redis_server import free_port
from tests.rig.smtp_server import Mail
from tests.rig.waiting import wait_for

PREFETCH = {"Purpose": "prefetch", "Sec_Purpose": "prefetch;prerender", "Sec_Fetch_Site": "none", "X_Moz": "prefetch"}


def serve(world: World) -> Program:
    """``approval-mail api`` where the links in this world's mails lead."""
    port = str(free_port())
    world.settings |= {
        "APPROVAL_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "APPROVAL_LINK_SECRET": "s" * 40,
        "NOTIFICATION_BATCH_TIMEOUT": "5" if world.thorough else "0.3",
    }
    api = world.start("api", "--port", port)
    api.wait_for_line("Serving approvals on")
    return api


@contextlib.contextmanager
def desk_of(world: World) -> Iterator[Desk]:
    """A desk in this process, by the settings of the world's programs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.settings.items():
            if name.startswith(("NOTIFICATION_", "REDIS_", "EMAIL_", "APPROVAL_")):
                patch.setenv(name, value)
        services.configure(None)
        celery.reconfigure()
        yield desks.for_operators()
    hooks.configure(Settings())


def links(mail: Mail) -> list[str]:
    """Every address in any part of a mail."""
    parts = [part.get_content() for part in mail.message.walk() if part.get_content_maintype() == "text"]
    return sorted({html.unescape(url) for part in parts for url in re.findall(r"https?://[^\s\"'<>]+", part)})


def forms(page: Answer) -> list[dict[str, str]]:
    """The fields of each form as they stand: a box that is not ticked is not sent."""
    found = []
    for form in re.findall(r"<form.*?</form>", page.body, re.DOTALL):
        fields = re.findall(r'<(?:input|textarea)[^>]*? name="(\w+)"(?: value="([^"]*)")?[^>]*>', form)
        ticks = re.findall(r'<input type="checkbox" name="(\w+)"', form)
        found.append({name: html.unescape(value) for name, value in fields if name not in ticks})
    return found


def scan(urls: list[str]) -> int:
    """Look at all that can be reached from these, over and over, and send each form; answers how many were sent."""
    seen, sent = set[str](), 0
    urls = list(urls)
    while urls:
        url = urls.pop()
        if url in seen:
            continue
        seen.add(url)
        for visitor in (Visitor(), Visitor()):
            assert visitor.send("HEAD", url).status == 200
            assert visitor.send("GET", url, **PREFETCH).status == 200
            assert visitor.send("OPTIONS", url).status == 405
            page = visitor.read(url)
            assert page.status == 200
            urls += [urljoin(url, html.unescape(href)) for href in re.findall(r'href="([^"]+)"', page.body)]
            [fields] = forms(page)
            assert fields["seal"]
            for _ in range(3):
                assert visitor.send("POST", url, fields).status == 422, "the tick is missing"
                assert visitor.send("POST", url, {}).status == 403
            # Another's form, or one of another link.
            assert Visitor().send("POST", url, fields).status == 403
            assert visitor.send("POST", url, {**fields, "seen": "yes"}, Sec_Fetch_Site="cross-site").status == 403
            sent += 8
        urls = [found for found in urls if found.startswith(url.partition("/decide/")[0])]
    return sent


@pytest.mark.fault("mail scanner on an approve link")
@pytest.mark.long
def test_a_scanner_decides_nothing_and_a_person_decides_once(world: World) -> None:
    api = serve(world)
    world.worker()
    with desk_of(world) as desk:
        count = 8 if world.thorough else 2
        asked = [desk.ask(user_id="agent-7", tool_name="git_commit", timeout=300).request_id for _ in range(count)]
        note(world, *(f"{name}:approval_requested" for name in asked))
        wait_for(lambda: len(world.smtp.mails) == count)
        for mail in list(world.smtp.mails):
            urls = links(mail)
            assert len(urls) == 2, "one to approve, one to reject"
            assert scan(urls) >= 8 * len(urls)
            page = Visitor().read(urls[0]).body
            [request_id] = [name for name in asked if name in page]
            assert desk.read(request_id).status is Status.PENDING
            assert list(world.client.scan_iter(f"*event:{request_id}:*")) == [
                f"approval_mail:{{store}}:event:{request_id}:approval_requested"
            ]
            note(world, decide(desk, world.random.choice(urls), request_id, mail.recipient))
            for url in urls:
                assert forms(Visitor().read(url)) == [], "nothing is left to decide"
    ledger = world.judge()
    assert (ledger.events, ledger.sent, len(world.smtp.mails)) == (2 * count, 2 * count, 2 * count)
    assert api.stop() == 0


def decide(desk: Desk, url: str, request_id: str, recipient: str) -> str:
    """As a person who ticks the box and sends the form twice; answers the event that tells of it."""
    person = Visitor()
    [fields] = forms(person.read(url))
    fields |= {"seen": "yes", "reason": "tried"}
    assert person.send("POST", url, fields, Sec_Fetch_Site="same-origin").status == 303
    outcome = desk.read(request_id)
    assert person.send("POST", url, fields, Sec_Fetch_Site="same-origin").status == 409
    assert desk.read(request_id).ended_at == outcome.ended_at
    assert (desk.read(request_id).status, desk.read(request_id).responder_id) == (outcome.status, recipient)
    return f"{request_id}:approval_{outcome.status.value}"


def note(world: World, *event_ids: str) -> None:
    """What a host would have been told: the store of requests records these events itself."""
    with world.receipts_file.open("a") as file:
        file.writelines(f"{event_id} accepted 0\n" for event_id in event_ids)
