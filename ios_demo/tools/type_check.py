"""Type-checks what only an Apple system can build, against the stubs: `python ios_demo/tools/type_check.py`.

The stubs spell what is used of Apple's frameworks (ios_demo/Stubs/README.md). With them in sight the package's branches
for Apple's systems are read too, then the app. It proves that names and types fit; it runs nothing.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import swift

STUBS = swift.PACKAGE / "Stubs"
FRAMEWORKS = (
    "CoreGraphics", "CoreML", "CryptoKit", "Darwin", "UniformTypeIdentifiers", "os", "ImageIO", "UIKit", "SwiftUI",
    "PhotosUI",
)  # fmt: skip
"""The stubs, each after those that it imports."""
TARGETS = ("VlmpCore", "VlmpCoreML", "VlmpApp")
"""Of the package, each after those that it imports."""


def main() -> None:
    """Check everything. Exits with 1 where something does not fit, with 2 where there is no Swift."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = check(Path(folder))
    except swift.Missing as missing:
        print(f"type_check.py: {missing}", file=sys.stderr)
        raise SystemExit(2) from None
    print(done.stdout, end="")
    print("the app and the package fit the stubs" if done.returncode == 0 else "something does not fit")
    raise SystemExit(min(done.returncode, 1))


def check(folder: Path, package: Path = swift.PACKAGE) -> subprocess.CompletedProcess[str]:
    """Check the targets of `package` and its app, with all that is told on standard output. Modules come into `folder`.

    Raises swift.Missing.
    """
    commands = [
        # Apple's frameworks are no Swift 6 either.
        swiftc("-emit-module", "-swift-version", "5", "-module-name", name, "-I", folder, *stub(name),
               "-o", folder / f"{name}.swiftmodule")
        for name in FRAMEWORKS
    ]  # fmt: skip
    for name in TARGETS:
        commands += check_target(folder, package, name)
    commands.append(check_app(folder, package))
    return run(commands, folder, package)


def stub(name: str) -> list[Path]:
    """The files of a stub: one of its name, or those in a folder of its name."""
    return sorted((STUBS / name).glob("*.swift")) or [STUBS / f"{name}.swift"]


def check_target(folder: Path, package: Path, name: str) -> list[str]:
    """The command that checks a target, and the one that writes its module, which by itself skips bodies."""
    sources = sorted((package / "Sources" / name).glob("*.swift"))
    given = ["-swift-version", "6", "-package-name", "vlmp", "-module-name", name, "-I", folder, *sources]
    return [swiftc("-typecheck", *given), swiftc("-emit-module", *given, "-o", folder / f"{name}.swiftmodule")]


def check_app(folder: Path, package: Path) -> str:
    """The command that checks the app, once the modules are there."""
    sources = sorted((package / "App/Sources").glob("*.swift"))
    return swiftc("-typecheck", "-swift-version", "6", "-module-name", "VlmpDemo", "-I", folder, *sources)


def swiftc(*words: str | Path) -> str:
    """A line for the shell. Whole modules, so that errors in one file do not hide those in another."""
    return shlex.join(["swiftc", "-wmo", "-parse-as-library", *map(str, words)])


def run(commands: list[str], *folders: Path) -> subprocess.CompletedProcess[str]:
    """Run them until one fails, all in one stream, where `folders` are seen. Raises swift.Missing."""
    return swift.execute("sh", "-c", " &&\n".join(["exec 2>&1", *commands]), capture=True, seen=folders)


if __name__ == "__main__":
    main()
