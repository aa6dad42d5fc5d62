"""The mails as pictures, in a real browser."""

from __future__ import annotations

import itertools
from pathlib import Path

from approval_mail.events import EVENT_TYPES
from approval_mail.settings import LANGUAGES
from tests.acceptance.conftest import Run
from tests.rig.browser import browser_page, picture

SUBJECTS = [
    "[승인 필요] git_commit 도구",
    "[Approval needed] git_commit",
    "[타임아웃] git_commit 승인 요청",
    "[Timed out] git_commit approval request",
    "[승인됨] git_commit 도구",
    "[Approved] git_commit",
    "[거부됨] git_commit 도구",
    "[Rejected] git_commit",
    "[승인 대기] git_commit 도구 · 2분 30초 남음",
    "[Still waiting] git_commit · 2 min 30 s left",
]
#: The mails that somebody can answer, by their places above.
ANSWERABLE = (0, 1, 8, 9)


def test_the_ten_mails_stand_side_by_side_each_whole_with_its_buttons(run: Run, tmp_path: Path) -> None:
    assert run("preview", "all", "--out", "mails.html", NOTIFICATION_TIMEZONE="Asia/Seoul").returncode == 0
    with browser_page(width=1640, height=900) as page:
        page.goto((tmp_path / "mails.html").as_uri())
        assert page.locator("figcaption").all_inner_texts() == SUBJECTS
        frames = page.locator("iframe").element_handles()
        for subject, handle in zip(SUBJECTS, frames, strict=True):
            frame = handle.content_frame()
            assert frame is not None
            assert frame.title() == subject
            shown, whole = frame.evaluate("[innerHeight, document.documentElement.scrollHeight]")
            assert shown >= whole, f"{subject} is cut off"
            links = frame.locator("a[href^='https://approve.example.com/decide/']")
            assert links.count() == (2 if subject in [SUBJECTS[place] for place in ANSWERABLE] else 0), subject
        picture(page, "mails.png", tmp_path, whole=True)


def test_every_mail_fits_a_narrow_phone_with_the_links_of_the_settings(run: Run, tmp_path: Path) -> None:
    links = {"APPROVAL_PUBLIC_URL": "http://approve.test:8020", "APPROVAL_LINK_SECRET": "x" * 32}
    with browser_page(width=320, height=640, dark=True) as page:
        for kind, language in itertools.product(EVENT_TYPES, LANGUAGES):
            run("preview", kind, "--lang", language, "--out", "mail.html", **links)
            page.goto((tmp_path / "mail.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, (kind, language)
            buttons = page.locator("a[href^='http://approve.test:8020/decide/']").count()
            assert buttons == (2 if EVENT_TYPES[kind].moot_when_decided else 0), (kind, language)
