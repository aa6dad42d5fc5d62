"""The table, and its place in the document."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.report import DOCUMENT
from tests.soak.flatness import Bound, Verdict
from tests.soak.report import BEGIN, END, table, write

MEMORY = Bound("worker, main", "uss", 0.1, 1.0, "worker: memory", "MB")


def test_a_row_tells_what_was_seen_and_what_was_allowed() -> None:
    seen = [Verdict(MEMORY, "1", 1800, 30.0, 31.04), Verdict(MEMORY, "2", 400, 28.0, 28.0)]
    assert list(table(seen))[2:] == ["| worker: memory | 1800 | 30.0 MB | 31.0 MB | 3.0 MB | yes |"]


def test_what_is_not_flat_stands_for_all_lives() -> None:
    seen = [Verdict(MEMORY, "1", 1800, 30.0, 31.0), Verdict(MEMORY, "2", 400, 28.0, 34.0)]
    assert list(table(seen))[2:] == ["| worker: memory | 400 | 28.0 MB | 34.0 MB | 2.8 MB | **no** |"]


def test_the_table_goes_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}old\n{END}after\n")
    write(["new"], document=document)
    assert document.read_text() == f"before\n{BEGIN}\nnew\n\n{END}after\n"
    document.write_text("no place")
    with pytest.raises(ValueError, match="has no"):
        write(["new"], document=document)


def test_the_document_has_its_place() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    written = text.partition(BEGIN)[2].partition(END)[0]
    assert "**no**" not in written
