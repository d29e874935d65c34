"""Files on the phone: what is there already is not pushed again.

REMOTE/have lists `sha256 place` of every file that arrived whole, the last line of a place being valid; it is written
when the phone itself has hashed the file, so that a lost connection leaves nothing wrong. A file that is there under
another name is copied on the phone: a link would break when the other one is removed. Here, files may be links: what
they lead to is pushed.
"""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import MANIFEST_NAME, inside, read_manifest, sha256
from vlmp.runtimes.profile.adb.client import Adb
from vlmp.runtimes.profile.adb.facts import free_bytes

REMOTE = "/data/local/tmp/vlmp-profile"
HAVE = f"{REMOTE}/have"
INCOMING = f"{REMOTE}/incoming.part"
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


def prepare(adb: Adb, items: Sequence[Item]) -> None:
    """Make the folders. Raises UserError when the phone does not let us."""
    folders = sorted({posixpath.dirname(f"{REMOTE}/{item.place}") for item in items})
    made = adb.shell(f"mkdir -p {' '.join(map(quote, folders))} && touch {HAVE} && rm -f {INCOMING}")
    if made.code:
        raise UserError(f"{adb.serial} does not let {REMOTE} be made: {one_line(made.errors)}")


def make_room(adb: Adb, items: Sequence[Item]) -> dict[str, str]:
    """Remove files of another call until the missing ones fit. Returns place -> hash of what is on the phone.

    Those with the content of a missing one are worth keeping, since they are copied there: they go last. Raises
    UserError when not even that is enough, as far as the phone tells, and Disconnected.
    """
    wanted = {item.place: item.sha256 for item in items}
    have = _placed(adb)
    for useful in (
        {place: digest for place, digest in have.items() if digest in wanted.values()},
        {place: digest for place, digest in have.items() if wanted.get(place) == digest},
    ):
        remove_others(adb, have, useful)
        have = useful
        needed = sum(item.size for item in items if have.get(item.place) != item.sha256) + SPARE_BYTES
        free = free_bytes(adb, posixpath.dirname(REMOTE))
        if free is None or free >= needed:
            return have
        full = UserError(
            f"{adb.serial} is full: {needed / 2**20:.0f} MiB are needed in {posixpath.dirname(REMOTE)}, "
            f"{free / 2**20:.0f} MiB are free"
        )
    raise full


def _placed(adb: Adb) -> dict[str, str]:
    """Place -> hash. Raises Disconnected."""
    lines = adb.shell(f"cat {HAVE} 2>/dev/null").output.splitlines()
    return {place: digest for digest, _, place in (line.partition(" ") for line in lines) if place}


def bring(adb: Adb, item: Item, have: Mapping[str, str], on_bytes: Callable[[int], None]) -> None:
    """Bring one file to its place: from another place on the phone, or from here.

    on_bytes: see `Adb.push`. Raises UserError, and Disconnected as `Adb` does.
    """
    twin = next((place for place, digest in have.items() if digest == item.sha256), None)
    if twin is None:
        adb.push(item.source, INCOMING, on_bytes)
    elif (copied := adb.shell(f"cp {quote(f'{REMOTE}/{twin}')} {INCOMING}", HASH_S)).code:
        raise UserError(f"{adb.serial} does not copy {twin} to {item.place}: {one_line(copied.errors)}")
    # A phone without sha256sum says nothing, and then the size decides.
    told = adb.shell(f"sha256sum {INCOMING} 2>/dev/null || stat -c %s {INCOMING}", HASH_S).output.split()
    if not told or told[0] not in (item.sha256, str(item.size)):
        raise UserError(f"{adb.serial} damages files: {item.source.name} arrived with another hash")
    moved = adb.shell(
        f"chmod 755 {INCOMING} && mv -f {INCOMING} {quote(f'{REMOTE}/{item.place}')} "
        f"&& echo {quote(f'{item.sha256} {item.place}')} >> {HAVE}"
    )
    if moved.code:
        raise UserError(f"{adb.serial} does not let {item.place} be put in its place: {one_line(moved.errors)}")


def remove_others(adb: Adb, have: Mapping[str, str], useful: Mapping[str, str]) -> None:
    """Remove all but what is useful. have, useful: place -> hash. Raises Disconnected."""
    others = have.keys() - useful.keys()
    if others:
        # The list first: what is listed is there, whenever the connection goes.
        lines = " ".join(f"echo {quote(f'{digest} {place}')};" for place, digest in useful.items())
        removed = " ".join(map(quote, sorted(others)))
        adb.shell(f"cd {REMOTE} && {{ :; {lines} }} > {HAVE} && rm -f {removed}")


def remove_unfinished(adb: Adb) -> None:
    """What arrived in part. Raises Disconnected."""
    adb.shell(f"rm -f {INCOMING}")


def remove_all(adb: Adb) -> None:
    """Leave nothing on the phone. Raises Disconnected, and UserError when something stays."""
    removed = adb.shell(f"rm -rf {REMOTE}")
    if removed.code:
        raise UserError(f"{adb.serial} does not let {REMOTE} be removed: {one_line(removed.errors)}")


def one_line(text: str) -> str:
    """What a tool of the phone says, without its line breaks."""
    return " ".join(text.split())
