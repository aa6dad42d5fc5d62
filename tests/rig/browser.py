"""A real web browser, headless, for the pages that a person looks at."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

#: Where the documents' pictures are written when they are made anew; else in the test's own folder.
#: Tests change the directory.
_PICTURES = os.environ.get("APPROVAL_MAIL_PICTURES") and Path(os.environ["APPROVAL_MAIL_PICTURES"]).absolute()
#: Nothing is fetched and no sandbox of the kernel is asked for, which a container may not give.
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@contextlib.contextmanager
def browser_page(*, width: int = 1200, height: int = 800, dark: bool = False, scale: float = 1) -> Iterator[Page]:
    """A page of a fresh Chromium; without one installed the test is skipped, in CI it fails."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_OPTIONS))
        yield browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            device_scale_factor=scale,
        )
        browser.close()


def side_by_side(name: str, wide: Path, narrow: Path, folder: Path) -> Path:
    """A picture of two: of a wide screen, and of a phone."""
    images = (
        f"<img src='{wide.as_uri()}' style='width: 680px; border-radius: 8px'>"
        f"<img src='{narrow.as_uri()}' style='width: 340px; border-radius: 16px; box-shadow: 0 2px 12px #0004'>"
    )
    style = "display: flex; align-items: flex-start; gap: 40px; margin: 0; padding: 24px; background: #edf1f6"
    (folder / f"{name}.html").write_text(f"<body style='{style}'>{images}", "utf-8")
    with browser_page(width=1108, height=400) as page:
        page.goto((folder / f"{name}.html").as_uri())
        return picture(page, name, folder, whole=True)


def picture(page: Page, name: str, folder: Path, *, whole: bool = False) -> Path:
    """Take a picture of what is seen, or of the whole page, into APPROVAL_MAIL_PICTURES or else ``folder``."""
    path = Path(_PICTURES or folder) / name
    page.screenshot(path=path, full_page=whole)
    return path
