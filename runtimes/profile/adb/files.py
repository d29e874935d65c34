"""Files on the phone, each stored once under its SHA-256: what is there already is not pushed again.

    files/<sha256>                  a file that arrived whole
    <folder>/<name> -> ../files/... what programs open

A file becomes visible under its hash when the phone has hashed it, so that a lost connection leaves nothing wrong.
"""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from vlmp.export.bundle import MANIFEST_NAME, inside, read_manifest, sha256
from vlmp.export.errors import UserError

from .client import Adb
from .facts import free_bytes

REMOTE = "/data/local/tmp/vlmp-profile"
STORE = "files"
HASH_S = 600.0
"""Limit for the phone to hash one file."""
SPARE_BYTES = 64 << 20
"""Left free on the phone's storage for what the runner writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A file and where it goes. place: relative to REMOTE."""

    source: Path
    place: str
    sha256: str
    size: int


def make_item(source: Path, place: str) -> Item:
    """Hash a file."""
    return Item(source=source, place=place, sha256=sha256(source), size=source.stat().st_size)


def bundle_items(bundle: Path, folder: str) -> list[Item]:
    """The files of a bundle that was checked, hashed as its manifest says."""
    listed = [
        Item(source=inside(bundle, file.path), place=f"{folder}/{file.path}", sha256=file.sha256, size=file.size_bytes)
        for file in read_manifest(bundle, check_hashes=False).files
    ]
    return [*listed, make_item(bundle / MANIFEST_NAME, f"{folder}/{MANIFEST_NAME}")]


def missing_items(adb: Adb, items: Iterable[Item]) -> list[Item]:
    """Those that the phone does not have, each content once. Raises Disconnected."""
    there = set(adb.shell(f"ls {REMOTE}/{STORE} 2>/dev/null").output.split())
    return list({item.sha256: item for item in items if item.sha256 not in there}.values())


def check_room(adb: Adb, missing: Sequence[Item]) -> None:
    """Raises UserError when they do not fit on the phone, as far as it tells."""
    needed = sum(item.size for item in missing) + SPARE_BYTES
    free = free_bytes(adb, posixpath.dirname(REMOTE))
    if free is not None and free < needed:
        raise UserError(
            f"{adb.serial} is full: {needed / 2**20:.0f} MiB are needed in {posixpath.dirname(REMOTE)}, "
            f"{free / 2**20:.0f} MiB are free"
        )


def push_item(adb: Adb, item: Item, on_bytes: Callable[[int], None]) -> None:
    """Push one file into the store. on_bytes: see `Adb.push`. Raises UserError, and Disconnected as `Adb` does."""
    whole = f"{REMOTE}/{STORE}/{item.sha256}"
    part = f"{whole}.part"
    adb.push(item.source, part, on_bytes)
    # A phone without sha256sum says nothing, and then the size decides.
    told = adb.shell(f"chmod 755 {part}; sha256sum {part} 2>/dev/null || stat -c %s {part}", HASH_S).output.split()
    if not told or told[0] not in (item.sha256, str(item.size)):
        raise UserError(f"{adb.serial} damages files: {item.source.name} arrived with another hash")
    if adb.shell(f"mv {part} {whole}").code:
        raise UserError(f"{adb.serial} does not let {part} be renamed")


def prepare(adb: Adb) -> None:
    """Make the folders, and remove what an interrupted push or another call's runs left. Raises UserError."""
    made = adb.shell(f"mkdir -p {REMOTE}/{STORE} && cd {REMOTE} && rm -rf {STORE}/*.part")
    if made.code:
        raise UserError(f"{adb.serial} does not let {REMOTE} be made: {made.errors.strip()}")


def place_items(adb: Adb, items: Sequence[Item]) -> None:
    """Give every file its name. Raises UserError when the phone makes no links."""
    lines = [f"cd {REMOTE}"]
    for folder in sorted({posixpath.dirname(item.place) for item in items}):
        lines.append(f"mkdir -p {quote(folder)}")
    for item in items:
        up = "../" * item.place.count("/")
        lines.append(f"ln -sf {quote(f'{up}{STORE}/{item.sha256}')} {quote(item.place)}")
    placed = adb.shell(" && ".join(lines))
    if placed.code:
        raise UserError(f"{adb.serial} makes no links in {REMOTE}: {placed.errors.strip()}")


def remove_all(adb: Adb) -> None:
    """Leave nothing on the phone. Raises Disconnected, and UserError when something stays."""
    if adb.shell(f"rm -rf {REMOTE}").code:
        raise UserError(f"{adb.serial}: {REMOTE} could not be removed: try `adb shell rm -rf {REMOTE}`")
