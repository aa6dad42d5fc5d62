from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval_mail.api.seals import Seals
from approval_mail.errors import InvalidLink
from approval_mail.links import ACTIONS, Action, Link, Links

OLD, NEW = "o" * 40, "n" * 40
URL = "https://approve.example.com/ops"
ASKED = 1_761_373_800_123
REQUEST_ID = "3f9a1c52-7b0e-4d61-9c2a-5e8f0b7d4a16"


def token(links: Links, recipient: str = "kim@example.com", action: Action = "approve") -> str:
    return links.token(Link(REQUEST_ID, recipient, action, ASKED))


@pytest.mark.parametrize("action", ACTIONS)
def test_a_link_is_for_one_request_recipient_and_action(action: Action) -> None:
    links = Links(URL, [NEW])
    link = Link(REQUEST_ID, "kim@example.com", action, ASKED)
    url = links.url(link)
    folder, _, last = url.rpartition("/")
    assert folder == f"{URL}/decide"
    assert links.read(last) == link
    assert url == Links(URL, [NEW]).url(link)


def test_links_differ_by_request_recipient_action_and_time() -> None:
    links = Links(URL, [NEW])
    made = {
        links.url(Link(name, who, action, asked))
        for name in ("one", "two")
        for who in ("kim@example.com", "lee@example.com")
        for action in ACTIONS
        for asked in (ASKED, ASKED + 1)
    }
    assert len(made) == 16


@given(
    request_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}", fullmatch=True),
    recipient=st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9]{1,60}\.com", fullmatch=True),
    action=st.sampled_from(ACTIONS),
)
def test_any_request_and_recipient_read_back_and_fit_one_part_of_a_path(
    request_id: str, recipient: str, action: Action
) -> None:
    links = Links(URL, [NEW])
    made = links.token(Link(request_id, recipient, action, ASKED))
    assert links.read(made) == Link(request_id, recipient, action, ASKED)
    assert set(made) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_a_token_changed_anywhere_is_refused() -> None:
    links = Links(URL, [NEW])
    made = token(links)
    for place in range(len(made)):
        changed = made[:place] + ("A" if made[place] != "A" else "B") + made[place + 1 :]
        with pytest.raises(InvalidLink):
            links.read(changed)


def test_a_token_is_read_in_one_spelling_alone() -> None:
    links = Links(URL, [NEW, OLD])
    for made in (token(links), token(Links(URL, [OLD])), token(links, "a" * 60 + "@example.com")):
        assert links.read(made)
        others = [
            made + tail for tail in ("=", "==", "=;x", "=\r\nX: 1", "\r\n", "\n", "=\x00", "\x00", "€", "=é", " ", ".")
        ]
        # The last character has two bits that its decoder ignores.
        others += [made[:-1] + last for last in string.ascii_letters + string.digits + "-_" if last != made[-1]]
        others += [f" {made}", f"={made}", made.replace(".", "=.")]
        for other in others:
            with pytest.raises(InvalidLink):
                links.read(other)


@pytest.mark.parametrize("damaged", ["", ".", "a", "a.b", "\ud800", "é.é", "\x00", "." * 1000, "e30.x"])
def test_what_is_no_token_is_refused(damaged: str) -> None:
    with pytest.raises(InvalidLink):
        Links(URL, [NEW]).read(damaged)


def test_one_links_signature_does_not_serve_another() -> None:
    links = Links(URL, [NEW])
    approve, reject, others = token(links), token(links, action="reject"), token(links, "lee@example.com")
    for one, two in ((approve, reject), (reject, approve), (approve, others)):
        with pytest.raises(InvalidLink):
            links.read(f"{one.rpartition('.')[0]}.{two.rpartition('.')[2]}")


def test_a_link_outlives_its_secret_until_that_is_taken_out() -> None:
    before, during, after = Links(URL, [OLD]), Links(URL, [NEW, OLD]), Links(URL, [NEW])
    given = token(before)
    assert during.read(given).recipient == "kim@example.com"
    with pytest.raises(InvalidLink):
        after.read(given)
    assert token(during) == token(after) != given, "the first secret signs"


def test_a_seal_is_for_one_cookie_and_one_link() -> None:
    seals = Seals([NEW])
    seal = seals.make("cookie", "token")
    assert seals.match(seal, "cookie", "token")
    assert not any(
        seals.match(*one)
        for one in (
            (seal, "other", "token"),
            (seal, "cookie", "other"),
            (seal[:-2], "cookie", "token"),
            ("", "cookie", "token"),
            ("é", "cookie", "token"),
        )
    )
    assert Seals([NEW, OLD]).match(Seals([OLD]).make("cookie", "token"), "cookie", "token")
    assert not Seals([NEW]).match(Seals([OLD]).make("cookie", "token"), "cookie", "token")
