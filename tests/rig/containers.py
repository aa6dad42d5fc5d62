"""docker-compose.yml and the Dockerfile as Compose and the builder read them, for tests without an engine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"

#: $NAME, or an innermost ${NAME}, ${NAME:-word}, ${NAME-word}, ${NAME:+word} or ${NAME+word}.
_EXPRESSION = re.compile(r"(?<!\$)\$(?:(?P<bare>[A-Za-z_]\w*)|\{(?P<name>\w+)(?:(?P<rule>:?[-+])(?P<word>[^{}]*))?\})")


def services(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Every service, with ``environ`` as the shell or ``.env`` that Compose takes values from."""
    return _interpolated(yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["services"], environ)


def environment(service: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """A service's variables: those without a value are passed on from ``environ``, or left out."""
    given = {name: environ.get(name) if value is None else value for name, value in service["environment"].items()}
    return {name: str(value) for name, value in given.items() if value is not None}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", "")
    return [(name, arguments) for name, _, arguments in (line.partition(" ") for line in whole.splitlines() if line)]


def image_environment() -> dict[str, str]:
    """The variables that the Dockerfile sets."""
    pairs = [pair for name, arguments in instructions() if name == "ENV" for pair in shlex.split(arguments)]
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _interpolated(node: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _interpolated(value, environ) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, environ) for value in node]
    if not isinstance(node, str):
        return node
    while match := _EXPRESSION.search(node):
        node = node[: match.start()] + _value(match, environ) + node[match.end() :]
    return node.replace("$$", "$")


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    rule, word = match["rule"] or "", match["word"]
    value = environ.get(match["name"] or match["bare"])
    given = bool(value) if rule.startswith(":") else value is not None
    if rule.endswith("+"):
        return word if given else ""
    return (value or "") if given or not rule else word
