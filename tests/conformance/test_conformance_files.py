"""The files are those that the script writes."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest
from conformance_files import FOLDER, read
from make import LIBRARIES, make_cheap, write_index
from make_unicode import SOURCES

MOST_BYTES = 5 * 2**20


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_index_lists_every_file() -> None:
    found = files_of(FOLDER)
    del found["index.json"]
    assert read("index.json")["files"] == {path: hashlib.sha256(found[path]).hexdigest() for path in sorted(found)}
    assert sum(map(len, found.values())) < MOST_BYTES


def test_what_is_made_anew_is_the_same(tmp_path: Path) -> None:
    """All but the steps, which torch takes longer for, and whose last bits another processor may compute otherwise."""
    made_with = read("index.json")["made_with"]
    here = {name: version(name) for name in LIBRARIES}
    if here != made_with:
        pytest.skip(f"made with {made_with}, here are {here}: run tests/conformance/make.py and look at the difference")
    make_cheap(tmp_path)
    write_index(tmp_path)
    wanted = {path: content for path, content in files_of(FOLDER).items() if not path.startswith("steps/")}
    found = files_of(tmp_path)
    assert found.keys() == wanted.keys()
    assert [path for path in wanted if path != "index.json" and found[path] != wanted[path]] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_readers_tables_of_characters_are_made_of_these(source: Path) -> None:
    written = source.read_text(encoding="ascii")
    assert written == SOURCES[source](read("unicode/unicode.json")), "run tests/conformance/make_unicode.py"
