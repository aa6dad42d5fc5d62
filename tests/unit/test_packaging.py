"""What the wheel carries and what the documents promise."""

from __future__ import annotations

import configparser
import re
from dataclasses import fields
from pathlib import Path

import pytest

from approval_mail.redaction import REDACT_KEYS
from approval_mail.settings import Settings

ROOT = Path(__file__).parents[2]
NAMES = [row.metadata["name"] for row in fields(Settings)]


def test_every_package_is_listed_for_the_wheel() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("approval_mail/**/__init__.py")}
    assert listed == there | {"approval_mail.templates"}


@pytest.mark.parametrize("document", [".env.example", "README.md"])
@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_documented(document: str, name: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / document).read_text("utf-8"))


def test_the_example_env_file_is_valid_and_shows_the_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text("utf-8"), "utf-8")
    loaded = Settings.load({}, tmp_path)
    assert (loaded.problems, loaded.warnings) == ((), ())
    defaults = Settings(enabled=True)
    assert loaded.usable == defaults


def test_the_example_env_file_shows_which_keys_are_redacted() -> None:
    line = next(
        line for line in (ROOT / ".env.example").read_text("utf-8").splitlines() if "APPROVAL_REDACT_KEYS=" in line
    )
    assert tuple(line.partition("=")[2].split(",")) == REDACT_KEYS


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_within_the_repository_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    links = [*re.findall(r"\]\(([^)#]+)", text), *re.findall(r'src="([^"]+)"', text)]
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
