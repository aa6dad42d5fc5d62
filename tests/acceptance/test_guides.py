"""The guides of docs/: their commands run as a reader types them, and whatever cannot run is checked all the same."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml
from dotenv import dotenv_values

from approval_mail.cli import main
from approval_mail.cli.admin import main as admin_main
from approval_mail.settings import Settings
from tests.rig.guide import Block, read
from tests.rig.reader import reader_of

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs").glob("*.??.md"))
LANGUAGES = ("en", "ko")
NAMES = frozenset(row.metadata["name"] for row in fields(Settings))
#: A variable that begins so is meant to be a setting.
PREFIXES = ("NOTIFICATION_", "SMTP_", "EMAIL_", "REDIS_", "CELERY_", "APPROVAL_")
#: What is no part of a fresh checkout.
NOT_CHECKED_IN = (".git", ".venv", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info", "__pycache__")

#: A command, and where a link leads, in prose.
COMMAND, LINK = re.compile("`approval-(mail|admin) ([^`]+)`"), re.compile(r"\]\(([^)#]+)")

each_guide = pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)


@pytest.mark.timeout(1800)
def test_every_command_does_what_the_guides_say(tmp_path: Path) -> None:
    """All guides at once, each by a reader of its own: much of the time goes by in waiting."""
    with ThreadPoolExecutor() as readers:
        failures = list(filter(None, readers.map(lambda path: try_out(path, tmp_path / path.stem), GUIDES)))
    assert not failures, "\n".join(failures)


def try_out(path: Path, place: Path) -> str:
    """Follow a guide with an empty folder and a fresh checkout, both in ``place``; answers what failed."""
    guide = read(path)
    if not any(block.is_tried for block in guide.blocks):
        return ""
    shutil.copytree(ROOT, place / "checkout", ignore=shutil.ignore_patterns(*NOT_CHECKED_IN))
    try:
        with reader_of(guide, place, checkout=place / "checkout") as reader:
            reader.follow()
    except AssertionError as failure:
        return str(failure)
    finally:
        shutil.rmtree(place / "desk" / "venv", ignore_errors=True)  # It is big, and pytest keeps what lies here.
    return ""


@each_guide
def test_every_block_is_sound(path: Path) -> None:
    for block in read(path).blocks:
        where = f"{path.name}:{block.line}"
        if block.language == "bash":
            said = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False).stderr
            assert said == "", where
        elif block.language == "python":
            compile(block.text, where, "exec")
        elif block.language == "yaml":
            assert yaml.safe_load(block.text), where


@each_guide
def test_every_setting_that_a_guide_gives_would_be_accepted(path: Path, tmp_path: Path) -> None:
    for block in read(path).blocks:
        if is_to_be_checked(block):
            assert faults(block, tmp_path) == [], f"{path.name}:{block.line}"


@each_guide
def test_every_command_in_a_sentence_exists(path: Path) -> None:
    for program, command in COMMAND.findall(read(path).prose):
        known: click.Command = main if program == "mail" else admin_main
        for word in re.split(r" *\\?\|", command)[0].split():
            if word.startswith("-"):
                assert word in {option for parameter in known.params for option in parameter.opts}, command
            elif isinstance(known, click.Group):
                assert word in known.commands, command
                known = known.commands[word]


@each_guide
def test_every_link_within_the_repository_leads_somewhere(path: Path) -> None:
    links = LINK.findall(read(path).prose)
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["guide", "moving"])
def test_both_languages_have_the_same_blocks(name: str) -> None:
    one, other = (read(ROOT / "docs" / f"{name}.{language}.md").blocks for language in LANGUAGES)
    assert [(block.language, block.mark) for block in one] == [(block.language, block.mark) for block in other]


def test_the_guides_have_enough_of_all_that_is_checked_one_by_one() -> None:
    guides = [read(path) for path in GUIDES]
    checked = [block for guide in guides for block in guide.blocks if is_to_be_checked(block)]
    assert sum(len(given) for block in checked for given in settings_of(block)) > 30
    assert sum(len(COMMAND.findall(guide.prose)) for guide in guides) > 60
    assert sum("://" not in link for guide in guides for link in LINK.findall(guide.prose)) > 25


def is_to_be_checked(block: Block) -> bool:
    """Whether it gives settings that nothing here tries."""
    return block.language == "dotenv" or (block.language == "bash" and not block.is_tried)


def faults(block: Block, folder: Path) -> list[str]:
    """What is wrong with the settings that a block gives; files that they name need not be there."""
    found = []
    for given in settings_of(block):
        unknown = [name for name in given if name.removesuffix("_FILE") not in NAMES and name not in NAMES]
        found += [f"{name} is not a setting" for name in unknown]
        for name in given:
            if name.endswith("_FILE"):
                given[name] = str(folder / name)
                (folder / name).write_text("redis://localhost:6379/0" if "REDIS" in name else "stand-in")
        loaded = Settings.load(given, folder)
        found += [*loaded.problems, *loaded.warnings]
    return found


def settings_of(block: Block) -> list[dict[str, str]]:
    """The settings of a `.env`, or of each NAME=value in commands; a name that comes again begins another set."""
    if block.language == "dotenv":
        given = dotenv_values(stream=io.StringIO(block.text), interpolate=False)
        return [{name: value or "" for name, value in given.items() if name.startswith(PREFIXES)}]
    sets: list[dict[str, str]] = [{}]
    for line in block.text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # Quoted over several lines: no setting is.
        for word in words[words[:1] == ["export"] :]:
            name, equals, value = word.partition("=")
            if not (equals and name.isidentifier()):
                break
            if name.startswith(PREFIXES):
                if name in sets[-1]:
                    sets.append({})
                sets[-1][name] = value
    return sets


Follow = Callable[[str], None]


@pytest.fixture
def follow(tmp_path: Path) -> Follow:
    """Follow a guide of the test's own."""

    def write_and_follow(text: str) -> None:
        (tmp_path / "guide.md").write_text(text, "utf-8")
        with reader_of(read(tmp_path / "guide.md"), tmp_path, checkout=ROOT) as reader:
            reader.follow()

    return write_and_follow


def test_a_guide_is_followed_in_one_session_with_other_terminals_beside_it(follow: Follow, tmp_path: Path) -> None:
    follow("""
```bash
export NAME=kim
greet() { echo "hello $1"; }
mkdir place && cd place
```

<!-- in a terminal of its own -->
```bash
echo "${NAME:-nobody} in ${PWD##*/} at $REDIS_URL"
exec python3 -m http.server --bind 127.0.0.1 8025
```

```text
nobody in place at redis://localhost:6379/0
```

<!-- needs Docker -->
```bash
false
```

```bash
greet "$NAME"
head -c 1 /path/to/approval_mail/README.md && echo
echo trailing blanks'   '
curl --silent http://localhost:8025 | grep -c href || true
cat >> .env <<'END'
REDIS_URL=redis://localhost:6379/3
END
echo "now ${REDIS_URL:-from the file}"
```

It prints:

```text
hello ...
#
...
trailing blanks
now from the file
```
""")
    assert re.fullmatch(
        r"REDIS_URL=redis://localhost:(?!6379/)\d+/3\n", (tmp_path / "desk" / "place" / ".env").read_text()
    )


def test_a_guide_may_bring_its_own_redis(follow: Follow) -> None:
    follow("""
<!-- in a terminal of its own -->
```bash
redis-server --appendonly yes
```
```text
...Ready to accept connections...
```
""")


@pytest.mark.parametrize(
    ("guide", "says"),
    [
        ("```bash\n\nfalse\necho on\n```", "guide.md:1 failed with 1"),
        ("```bash\n\nnobody\n```", "line 3: nobody: command not found"),
        ("```bash\necho $nobody\n```", "line 2: nobody: unbound variable"),
        ("```bash\nexit 0\n```", "guide.md:1 failed with 0"),
        ("```bash\necho no\n```\n\n```text\nyes\n```", "guide.md:1 does not print, or not next, 'yes':\nno"),
        ("```bash\nprintf 'a\\nb\\n'\n```\nprints\n```text\nb\na\n```", "not next, 'a'"),
        (
            "```bash\nmkfifo pipe\n```\n<!-- in a terminal of its own -->\n```bash\necho over > pipe\n```\n"
            "```bash\ncat pipe\n```",
            "guide.md:5 has ended",
        ),
        ("<!-- in a terminal of its own -->\n```bash\nnobody 8025\n```", "guide.md:2 does not listen"),
    ],
)
def test_what_a_guide_promises_in_vain_is_named_with_its_line(follow: Follow, guide: str, says: str) -> None:
    with pytest.raises(AssertionError) as failed:
        follow(f"{guide}\n")
    assert says in str(failed.value)


@pytest.mark.parametrize("guide", ["<!-- needless -->\n```bash\nls\n```\n", "```bash\nls\n"])
def test_a_guide_whose_blocks_cannot_be_told_apart_is_refused(tmp_path: Path, guide: str) -> None:
    (tmp_path / "guide.md").write_text(guide)
    with pytest.raises(ValueError, match=r"guide\.md"):
        read(tmp_path / "guide.md")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("export SMTP_PORT=465  # TLS\nSMTP_USER=me\nSMTP_PASSWORD_FILE=/run/secrets/none", []),
        ("REDIS_URL_FILE=/run/secrets/redis\nSMTP_TLS_CA_FILE=/path/to/ca.pem", []),
        ("SMTP_PORT=x SMTP_HOST=y approval-mail check", ["SMTP_PORT=x (the environment): use a whole number"]),
        ("SMTP_PORT=x\nSMTP_PORT=25", ["SMTP_PORT=x (the environment): use a whole number"]),
        ("SMTP_USE_TSL=true", ["SMTP_USE_TSL is not a setting"]),
        ("SMTP_USER=me", ["SMTP_PASSWORD is unset while SMTP_USER has a value"]),
    ],
)
def test_settings_in_commands_that_are_not_run_are_checked(tmp_path: Path, lines: str, found: list[str]) -> None:
    told = faults(Block(1, "bash", f"{lines}\n", "needs an account"), tmp_path)
    assert [fault[: len(start)] for fault, start in zip(told, found, strict=True)] == found
