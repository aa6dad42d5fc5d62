"""The mails, and the live page of a terminal, as pictures, in a real browser."""

from __future__ import annotations

import io
import itertools
import re
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from approval_mail.cli.live.page import Page
from approval_mail.cli.live.trend import View
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.rendering import MAX_DIGEST, Entry, Renderer
from approval_mail.settings import LANGUAGES
from tests.acceptance.conftest import Run
from tests.rig import scenes
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
#: Of the entries in the example's digest, those that can be answered.
DIGEST_ANSWERABLE = 3
DIGEST_SUBJECTS = {
    "ko": "[승인 필요] 4건 (가장 급한 것: 1분 12초 남음), 그 외 알림 3건",
    "en": "[Approval needed] 4 requests (most urgent: 1 min 12 s left), 3 other notifications",
}
#: Of an entry and all within it: place, size and colours.
LOOKS = """entry => [entry, ...entry.querySelectorAll("*")].map(each => {
  const box = each.getBoundingClientRect(), style = getComputedStyle(each);
  return [each.className, box.x, box.width, box.height, style.color, style.backgroundColor, style.fontSize].join(" ");
})"""
#: Four phones beside one another.
PHONES = """<body style="margin: 24px; display: flex; gap: 24px; background: #c9d1dc">{}</body>"""
PHONE = '<img src="{}" width="390" style="border-radius: 24px; box-shadow: 0 2px 12px #0006">'


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
            assert buttons == (2 if EVENT_TYPES[kind].asks else 0), (kind, language)
        for language in LANGUAGES:
            run("preview", "digest", "--lang", language, "--out", "mail.html", **links)
            page.goto((tmp_path / "mail.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, language
            assert page.locator("a[href^='http://approve.test:8020/decide/']").count() == 2 * DIGEST_ANSWERABLE


def test_a_digest_is_answered_on_a_phone_in_both_languages_by_day_and_by_night(run: Run, tmp_path: Path) -> None:
    taken = []
    for language, dark in itertools.product(LANGUAGES, (False, True)):
        run("preview", "digest", "--lang", language, "--out", "digest.html", NOTIFICATION_TIMEZONE="Asia/Seoul")
        with browser_page(width=390, height=1180, dark=dark, scale=2) as page:
            page.goto((tmp_path / "digest.html").as_uri())
            assert page.title() == DIGEST_SUBJECTS[language]
            assert page.locator(".entry").count() == 7
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            links = page.locator("a[href^='https://approve.example.com/decide/']").all()
            assert len({link.get_attribute("href") for link in links}) == 2 * DIGEST_ANSWERABLE
            boxes = [link.bounding_box() for link in links]
            for left, right in zip(boxes[::2], boxes[1::2], strict=True):
                assert left
                assert right
                assert min(left["height"], right["height"]) >= 44
                assert min(left["width"], right["width"]) >= 150
                assert left["y"] == right["y"], "side by side"
                assert right["x"] - left["x"] - left["width"] >= 8, "a thumb does not hit both"
            assert boxes[0]
            assert boxes[0]["y"] < 600, "the most urgent can be answered without scrolling"
            background = page.locator(".card").evaluate("card => getComputedStyle(card).backgroundColor")
            assert background == ("rgb(27, 31, 38)" if dark else "rgb(255, 255, 255)")
            page.screenshot(path=tmp_path / f"{language}-{dark}.png")
            taken.append(PHONE.format(f"{language}-{dark}.png"))
    (tmp_path / "phones.html").write_text(PHONES.format("".join(taken)), "utf-8")
    with browser_page(width=4 * 390 + 5 * 24, height=1180 + 48) as page:
        page.goto((tmp_path / "phones.html").as_uri())
        picture(page, "digest.png", tmp_path)


def test_the_live_page_looks_as_a_terminal_shows_it(tmp_path: Path) -> None:
    """Some busy minutes, and below them a channel that is held, on a smaller terminal."""
    drawings = "".join(
        f"<div style='width: {9 * columns}px; margin: 12px auto'>{drawn(view, columns, lines)}</div>"
        for view, columns, lines in ((scenes.busy(), 120, 30), (scenes.held(), 80, 24))
    )
    (tmp_path / "watch.html").write_text(f"<body style='margin: 0; background: #c9d1dc'>{drawings}", "utf-8")
    with browser_page(width=1104, height=600) as page:
        page.goto((tmp_path / "watch.html").as_uri())
        busy, held = ("".join(text.split()) for text in page.locator("svg").all_text_contents())
        assert "OKMailisgoingout" in busy
        assert "STOPPEDMailisNOTgoingout:thechannelhasbeenheld" in held
        assert page.evaluate("document.documentElement.scrollWidth") == 1104
        picture(page, "watch.png", tmp_path, whole=True)


def drawn(view: View, columns: int, lines: int) -> str:
    """A terminal of this size, as SVG."""
    console = Console(
        record=True, file=io.StringIO(), width=columns, height=lines, force_terminal=True, highlight=False, markup=False
    )
    console.print(Page(console, scenes.ZONE, 2).draw(view))
    drawing = console.export_svg(title="approval-mail status --watch", unique_id=f"columns-{columns}")
    # Its fonts would come from the internet.
    return re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)


def test_a_full_digest_whose_styles_stand_in_the_head_looks_the_same() -> None:
    now = datetime(2025, 10, 25, 6, 30, tzinfo=timezone.utc)
    urls = {"approve_url": "https://approve.example.com/decide/a", "reject_url": "https://approve.example.com/decide/r"}
    entries = [
        Entry(ApprovalEvent("approval_requested", f"{number:08}", "kim", "deploy", now, decidable=True), **urls)
        for number in range(MAX_DIGEST)
    ]
    renderer = Renderer(folder=None, language="ko", timezone=timezone.utc, sender="admin@example.com")
    seen = []
    with browser_page(width=390, height=844, dark=True) as page:
        for many in (entries[:3], entries):
            page.set_content(renderer.render_digest(many, now).html)
            seen.append(page.locator(".entry").first.evaluate(LOOKS))
    assert seen[0] == seen[1]
