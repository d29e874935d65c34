"""Which build of the native runner goes to the phone, and how it starts there.

An NDK build is an Android program like any other. Where there is none, a glibc build for aarch64 Linux runs on the
phone's kernel too, if it brings its loader and its libraries: same kernels, but not the same libc and not the same
compiler, and results say so.
"""

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.profile.adb.files import Item, make_item

BUILDS = Path(__file__).parents[3] / "build" / "native"
CANDIDATES = ("android-arm64/dist/vlmp_runner", "arm64/dist/vlmp_runner")
"""In BUILDS, the better one first. Each lies beside the libraries that it needs."""
HOW_TO_BUILD = "see docs/profile-on-a-phone.md, or name one by --runner"
ABI = "arm64-v8a"
LOADER = "ld-linux-aarch64.so.1"
LIBRARIES = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1")
STUBS = ("libpthread.so.0", "libdl.so.2", "librt.so.1")
"""Empty since glibc 2.34, and before that needed."""
LIBRARY_FOLDERS = (Path("/usr/aarch64-linux-gnu/lib"), Path("/lib/aarch64-linux-gnu"))
"""Of Debian's cross packages, and of an aarch64 Debian."""
FOLDER, NAME = "runner", "vlmp_runner"
PHOTO_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""First bytes of PNG and JPEG files, by which the runner tells them."""
HEADER_BYTES = 64
AARCH64 = 183
PT_INTERP = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """Files of a runner. start: the words that start it in its folder. build: what it is. warnings: what that means."""

    items: Sequence[Item]
    start: Sequence[str]
    build: str
    warnings: Sequence[str] = ()


def find_runner(named: Path | None) -> Path:
    """The program to push. Raises UserError when none is built."""
    if named is not None:
        if not named.is_file():
            raise UserError(f"--runner {named} is no file")
        return named
    for candidate in CANDIDATES:
        if (BUILDS / candidate).is_file():
            return BUILDS / candidate
    raise UserError(
        f"no runner for phones is built (looked for {' and '.join(CANDIDATES)} in {BUILDS}): {HOW_TO_BUILD}"
    )


def load_runner(program: Path) -> Runner:
    """Raises UserError when it is for another processor, or its libraries are not on this machine."""
    loader = read_loader(program)
    items = [make_item(program, f"{FOLDER}/{NAME}")]
    items += [make_item(path, f"{FOLDER}/{path.name}") for path in sorted(program.parent.glob("*.so"))]
    if not loader.endswith(LOADER):
        return Runner(
            items=items,
            start=["env", "LD_LIBRARY_PATH=.", f"./{NAME}"],
            build="Android program" if loader else "program without a loader",
        )
    folder = next((folder for folder in LIBRARY_FOLDERS if (folder / LOADER).is_file()), None)
    if folder is None:
        raise UserError(
            f"{program} is a glibc program, and its libraries are not here: apt-get install libstdc++6-arm64-cross, "
            "or build it with the Android NDK"
        )
    libraries = [folder / name for name in (*LIBRARIES, *STUBS)]
    missing = [path.name for path in libraries if not path.is_file() and path.name in LIBRARIES]
    if missing:
        raise UserError(f"{folder} has no {', '.join(missing)}, which {program} needs on a phone")
    items.append(make_item(folder / LOADER, f"{FOLDER}/{LOADER}"))
    items += [make_item(path, f"{FOLDER}/lib/{path.name}") for path in libraries if path.is_file()]
    return Runner(
        items=items,
        start=[f"./{LOADER}", "--library-path", ".:lib", f"./{NAME}"],
        build="glibc program with its own loader and libraries",
        warnings=["the runner is a glibc build with its own libraries, no NDK build: an app's figures may differ"],
    )


def check_abi(serial: str, abis: Sequence[str]) -> None:
    """Raises UserError when the phone takes no aarch64 programs. A phone that does not tell is believed to."""
    if abis and ABI not in abis:
        raise UserError(f"{serial} is of another ABI ({', '.join(abis)}): the runner is for {ABI}")


def check_photo(photo: Path) -> None:
    """Raises UserError when the runner does not read a photo that Pillow does."""
    with photo.open("rb") as file:
        if not file.read(8).startswith(PHOTO_STARTS):
            raise UserError(f"--image {photo} is neither PNG nor JPEG: on a phone these two are read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(photo) as image:
            if image.mode == "CMYK":
                raise UserError(f"--image {photo} is a CMYK JPEG, which is not read on a phone: save it as RGB")


def read_loader(program: Path) -> str:
    """The loader that an aarch64 program asks for; empty when it asks for none. Raises UserError for other programs."""
    head = program.read_bytes()[:4096]
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < HEADER_BYTES:
        raise UserError(f"{program} is no 64-bit program for Linux or Android")
    machine, table = struct.unpack_from("<H12xQ", head, 18)
    if machine != AARCH64:
        raise UserError(f"{program} is for another processor (ELF machine {machine}): phones need aarch64")
    size, count = struct.unpack_from("<HH", head, 54)
    for place in range(table, table + size * count, size):
        if place + size > len(head):
            raise UserError(f"{program} is cut off")
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", head, place)
        if kind == PT_INTERP:
            return head[start : start + length].rstrip(b"\0").decode(errors="replace")
    return ""
