"""Runs SwiftPM on this package on Linux: `python ios_demo/tools/swift.py test`, `... run vlmp-swift BUNDLE ...`.

An installed Swift 6 does it. Otherwise Debian 13's, in a folder of 3.5 GB that `debootstrap` fills once: that takes
root, some minutes and Debian's archive. Mounts are those of a namespace of their own, which ends with the command.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
BUILD = ROOT / "build/ios"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmp"
SYSTEM = CACHE / "swift-trixie"
DONE = ".vlmp-complete"
"""A file that is there when a system is whole."""
DEBIAN = "http://deb.debian.org/debian"
PACKAGES = ("swiftlang", "libonnxruntime-dev", "libstdc++-14-dev")
HEADERS = "usr/include/onnxruntime"
ALONE = ("unshare", "--mount", "--propagation", "private")
"""Before a command: its mounts end with it."""
INSIDE = """\
set -e
system=$1; shift
mount -t proc proc "$system/proc"
while [ "$1" != -- ]; do
  mkdir -p "$system$1"
  mount --rbind "$1" "$system$1"
  shift
done
shift
exec chroot "$system" "$@"
"""
"""Of a shell: a system, folders that are seen in it under their own names, `--`, a command."""


class Missing(Exception):
    """What is not there, and how to get it."""


def main() -> None:
    """Run SwiftPM with these arguments. Exits as it does, with 2 where there is none."""
    action, *rest = sys.argv[1:] or ["build"]
    try:
        raise SystemExit(run(action, *rest).returncode)
    except Missing as missing:
        print(f"swift.py: {missing}", file=sys.stderr)
        raise SystemExit(2) from None


def run(action: str, *rest: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """`swift ACTION` on the package, in release, so that tests and the command line tool are built once.

    how: as `execute` has it. Raises Missing.
    """
    swift = installed_swift()
    headers = f"/{HEADERS}" if swift is None else installed_headers()
    options = ["-c", "release", "-Xswiftc", "-enable-testing", "-Xcc", f"-I{headers}"]
    # Debian's libswiftObservation.so asks for a symbol that nothing has, and that it never calls.
    options += ["-Xlinker", "--allow-shlib-undefined"]
    folders = ["--package-path", str(PACKAGE), "--scratch-path", str(BUILD)]
    return execute(swift or "swift", action, *options, *folders, *rest, **how)


def tool(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """vlmp-swift, as it was built last. how: as `execute` has it. Raises Missing."""
    return execute(str(BUILD / "release/vlmp-swift"), *arguments, **how)


def execute(
    *command: str, capture: bool = False, environment: dict[str, str] | None = None, seen: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """A command where Swift is.

    capture: both streams, as text. environment: more variables. seen: folders that it has to see, beside the
    repository and the one for temporary files. Raises Missing.
    """
    library = onnxruntime()
    variables = {"VLMP_ONNXRUNTIME": str(library), **(environment or {})}
    BUILD.mkdir(parents=True, exist_ok=True)
    if installed_swift() is not None:
        return subprocess.run(command, env={**os.environ, **variables}, text=True, capture_output=capture, check=False)
    named = [f"{name}={value}" for name, value in variables.items()]
    clean = ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", f"HOME={BUILD}", *named]
    folders = (ROOT, Path(tempfile.gettempdir()), library.parent, *seen)
    there = inside(debian(), *clean, *command, folders=folders)
    return subprocess.run(there, text=True, capture_output=capture, check=False)


def onnxruntime() -> Path:
    """The library in the wheel that our Python runs. Raises Missing."""
    found = importlib.util.find_spec("onnxruntime")
    libraries = sorted(Path(found.origin).parent.glob("capi/libonnxruntime.so*")) if found and found.origin else []
    if not libraries:
        raise Missing("onnxruntime is missing: pip install 'vlmp[onnx]'")
    return libraries[0].resolve()


def installed_swift() -> str | None:
    """An installed Swift of version 6 or later."""
    swift = shutil.which("swift")
    if swift is None:
        return None
    told = subprocess.run([swift, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"Swift version (\d+)", told)
    return swift if version and int(version[1]) >= 6 else None


def installed_headers() -> Path:
    """The folder of ONNX Runtime's headers for an installed Swift. Raises Missing."""
    for folder in (Path("/") / HEADERS, Path("/usr/local/include/onnxruntime"), Path("/usr/local/include")):
        if (folder / "onnxruntime_c_api.h").is_file():
            return folder
    raise Missing(
        "onnxruntime_c_api.h is missing: apt-get install libonnxruntime-dev, or copy it to /usr/local/include"
    )


def debian() -> Path:
    """A Debian 13 with Swift, made where there is none yet. Raises Missing."""
    if os.geteuid() != 0:
        raise Missing("Swift 6 is missing: install it, or be root, so that Debian's can be put into a chroot")
    for program in ("chroot", "unshare"):
        if shutil.which(program) is None:
            raise Missing(f"Swift 6 is missing, and so is {program}, to put Debian's into a chroot")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "swift-trixie.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (SYSTEM / DONE).exists():
            make_debian()
    return SYSTEM


def make_debian() -> None:
    """Fill the folder. What an interrupted call left is made anew."""
    if shutil.which("debootstrap") is None:
        raise Missing(
            "Swift 6 is missing, and so is debootstrap, to put Debian's into a chroot: apt-get install debootstrap"
        )
    print(f"swift.py: putting Debian 13 and Swift into {SYSTEM}, 3.5 GB", file=sys.stderr)
    shutil.rmtree(SYSTEM, ignore_errors=True)
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get")
    steps: tuple[list[str], ...] = (
        [*ALONE, "debootstrap", "--variant=minbase", "trixie", str(SYSTEM), DEBIAN],
        inside(SYSTEM, *apt, "update"),
        inside(SYSTEM, *apt, "install", "-y", "--no-install-recommends", *PACKAGES),
        inside(SYSTEM, *apt, "clean"),
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            last = " ".join((done.stdout + done.stderr).split()[-40:])
            raise Missing(f"Swift 6 is missing, and Debian's cannot be installed: {last}")
    (SYSTEM / DONE).touch()


def inside(system: Path, *command: str, folders: tuple[Path, ...] = ()) -> list[str]:
    """A command in a system, in which folders are seen under their own names."""
    return [*ALONE, "sh", "-c", INSIDE, "sh", str(system), *map(str, folders), "--", *command]


if __name__ == "__main__":
    main()
