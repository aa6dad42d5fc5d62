"""Runs Lua scripts, each an atomic step from one state to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import redis

_PRELUDE = "prelude.lua"


@cache
def texts(package: str) -> Mapping[str, str]:
    """Each script of a package whole, by its name.

    A package reads its own when it is imported: a hook's first call is no place for a file that cannot be opened, and a
    process is not to read those of a version that was installed since.
    """
    folders = [resources.files(name) / "scripts" for name in dict.fromkeys((__package__, package))]
    prelude = "\n".join((folder / _PRELUDE).read_text("utf-8") for folder in folders)
    return {
        entry.name[:-4]: prelude + entry.read_text("utf-8")
        for entry in folders[-1].iterdir()
        if entry.name.endswith(".lua") and entry.name != _PRELUDE
    }


class Scripts:
    """The scripts in a package's folder ``scripts``, by their names without ``.lua``.

    prelude.lua of this package stands before each, then that folder's own: their keys and functions are theirs.
    """

    def __init__(self, client: redis.Redis, prefix: str, package: str) -> None:
        """``prefix`` is what the store's keys begin with; all are on its cluster slot."""
        self._client = client
        self._prefix = prefix
        self._scripts: dict[str, Any] = {name: client.register_script(text) for name, text in texts(package).items()}

    def __call__(self, script: str, *args: str | int) -> Any:
        """Run a script: ARGV[1] is the prefix, ``args`` follow."""
        return self._scripts[script](keys=self._keys, args=[self._prefix, *args])

    def each(self, script: str, calls: Iterable[Sequence[str | int]]) -> list[Any]:
        """Run a script once for each of ``calls``, sent together: each is atomic, all of them are not."""
        known = list(calls)
        try:
            return self._each(script, known)
        except redis.exceptions.NoScriptError:
            # The server is another, or was started anew, since the client looked whether it has the script. Calls that
            # it has heard are known by their names.
            return self._each(script, known)

    def _each(self, script: str, calls: Iterable[Sequence[str | int]]) -> list[Any]:
        pipeline: Any = self._client.pipeline(transaction=False)
        for args in calls:
            self._scripts[script](keys=self._keys, args=[self._prefix, *args], client=pipeline)
        return list(pipeline.execute())

    @property
    def _keys(self) -> list[str]:
        return [f"{self._prefix}pending"]
