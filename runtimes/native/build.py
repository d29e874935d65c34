"""Builds libvlmp and vlmp_runner, and fetches what it needs from PyPI.

    python runtimes/native/build.py host         for this machine, against the executorch that is installed
    python runtimes/native/build.py arm64        for ARM64 Linux, against the wheel for it
    python runtimes/native/build.py sanitizers   for this machine, with sanitizers and fuzz targets

Output: build/native/<kind>; build/native/<kind>/dist holds what a device or an app needs. Debian: g++
nlohmann-json3-dev libstb-dev, for arm64 g++-aarch64-linux-gnu, for sanitizers clang and libclang-rt-14-dev where
libFuzzer is wanted.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from argparse import ArgumentParser
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent
OUTPUT = ROOT / "build" / "native"
KINDS = ("host", "arm64", "sanitizers")
CMAKE = (3, 28)
"""ExecuTorch's package defines its targets from this version on."""


class Missing(Exception):
    """A tool or a package that cannot be had here; its text says how to get it."""


def main() -> None:
    """Build the kinds that are asked for."""
    parser = ArgumentParser(description="Build libvlmp and vlmp_runner.")
    parser.add_argument("kind", nargs="+", choices=KINDS)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="compilers at a time (1)")
    arguments = parser.parse_args()
    for kind in arguments.kind:
        try:
            print(build(kind, jobs=arguments.jobs))
        except (Missing, RuntimeError) as error:
            raise SystemExit(f"build.py: {error}") from None


def build(kind: str, *, jobs: int = 1) -> Path:
    """Build one kind. Returns its folder. Raises Missing, and RuntimeError when something does not compile."""
    folder = OUTPUT / kind
    for header in ("nlohmann/json.hpp", "stb/stb_image.h"):
        if not (Path("/usr/include") / header).is_file():
            raise Missing(f"/usr/include/{header} is missing: apt-get install nlohmann-json3-dev libstb-dev")
    cmake = _cmake()
    options = ["-DVLMP_TESTS=ON", f"-DCMAKE_PREFIX_PATH={_executorch(kind)}"]
    if kind == "arm64":
        _need("aarch64-linux-gnu-g++", "apt-get install g++-aarch64-linux-gnu")
        options.append(f"-DCMAKE_TOOLCHAIN_FILE={SOURCE / 'aarch64-linux.cmake'}")
    if kind == "sanitizers":
        options += ["-DVLMP_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
        if _has_libfuzzer():
            options += ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    if ninja := _beside("ninja") or shutil.which("ninja"):
        options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    _run([cmake, "-S", str(SOURCE), "-B", str(folder), *options])
    _run([cmake, "--build", str(folder), "--parallel", str(jobs)])
    _run([cmake, "--install", str(folder), "--prefix", str(folder / "dist")])
    return folder


def _cmake() -> str:
    """CMake of this environment, or the system's where that is new enough."""
    for found in (_beside("cmake"), shutil.which("cmake")):
        if found:
            told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
            numbers = re.search(r"(\d+)\.(\d+)", told)
            if numbers and (int(numbers[1]), int(numbers[2])) >= CMAKE:
                return found
    raise Missing("CMake 3.28 or newer is missing: pip install cmake ninja")


def _has_libfuzzer() -> bool:
    """Whether there is a clang with its sanitizers; Debian has them in a package of their own."""
    if shutil.which("clang++") is None:
        return False
    target = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    command = ["clang++", "-fsanitize=fuzzer,address", "-x", "c++", "-", "-o", "/dev/null"]
    return subprocess.run(command, input=target, text=True, capture_output=True, check=False).returncode == 0


def _beside(program: str) -> str | None:
    """A program that pip installed next to this Python."""
    return shutil.which(program, path=str(Path(sys.executable).parent))


def _executorch(kind: str) -> Path:
    """The package that is compiled against: the installed one, or the unpacked wheel for ARM64."""
    try:
        installed = version("executorch").partition("+")[0]  # this script runs without vlmp installed
        spec = find_spec("executorch")
    except (PackageNotFoundError, ModuleNotFoundError):
        spec = None
    # Any folder of that name on Python's path counts as a part of the package.
    parts = [Path(place) for place in (spec and spec.submodule_search_locations) or []]
    packages = [part for part in parts if (part / "share" / "cmake").is_dir()]
    if not packages:
        raise Missing("executorch is not installed: pip install 'vlmp[executorch]'")
    if kind != "arm64":
        return packages[0]
    unpacked = OUTPUT / "wheels" / f"executorch-{installed}-aarch64"
    if not unpacked.is_dir():
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        wanted = ["--platform", "manylinux_2_28_aarch64", "--python-version", "3.11", f"executorch=={installed}"]
        if subprocess.run([*download, *wanted, "-d", str(unpacked.parent)], check=False).returncode:
            raise Missing(f"executorch {installed} for ARM64 cannot be downloaded")
        (wheel,) = unpacked.parent.glob(f"executorch-{installed}-*aarch64.whl")
        part = unpacked.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(part)
        part.rename(unpacked)
    return unpacked / "executorch"


def _need(program: str, how: str) -> None:
    if shutil.which(program) is None:
        raise Missing(f"{program} is missing: {how}")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
