"""ARM64 instructions that vlmp_runner executes by schedule, counted by QEMU: the table of docs/native-runner.md.

    python benchmarks/arm64_instructions.py [--schedule fast ...] [--work build/arm64-instructions]

vlmp-tiny in float32, one thread. It is a cost that is the same on every machine, but no time. Baseline: the unpruned
export. Needs qemu-user and an ARM64 cross-compiler; bundles that are there already are not exported again.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vlmp.export.schedule import SCHEDULES
from vlmp.runtimes.bundle.folder import MANIFEST_NAME

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "runtimes/assets/photo.jpg"
TOKENS = 5
"""Of an answer; the first one comes with prefill."""
# Not the default processor, with which QEMU 7.2 computes int8 products wrongly.
QEMU: tuple[str, ...] = ("qemu-aarch64", "-cpu", "cortex-a76", "-L", "/usr/aarch64-linux-gnu")


def counting(scratch: Path) -> list[str]:
    """How a cross-built program is started so that its instructions are counted; the plug-in is built into `scratch`.

    Raises FileNotFoundError without gcc.
    """
    plugin = scratch / "count_instructions.so"
    source = Path(__file__).with_name("count_instructions.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o", plugin, source], check=True)
    return [QEMU[0], "-plugin", str(plugin), *QEMU[1:]]


def instructions(stderr: str) -> dict[str, int]:
    """Executed by each phase: the plug-in tells the sum at each line of the runner, before the line is there."""
    sums = [(int(count), phase) for count, phase in re.findall(r"instructions (\d+)\n(\w+) [\d.]+ ms", stderr)]
    before = [0, *(count for count, _ in sums)]
    return {phase: count - earlier for (count, phase), earlier in zip(sums, before, strict=False)}


def counted(command: Sequence[str | Path], bundle: Path) -> dict[str, int]:
    """The phases of one turn. command: how the runner is started, without arguments."""
    asked = ["--prompt", "What is in this picture?", "--ignore-end", "--max-new-tokens", str(TOKENS)]
    told = subprocess.run(
        [*command, bundle, "--image", PHOTO, *asked], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    return instructions(told.stderr)


def exported(work: Path, name: str) -> Path:
    """The bundle of a schedule, or of `unpruned`; exported if it is not there yet."""
    folder = work / name
    if not (folder / MANIFEST_NAME).exists():
        options = ["--pruner", "none"] if name == "unpruned" else ["--schedule", name]
        command = [str(Path(sys.executable).with_name("vlmp-export")), "--target", "executorch", *options]
        subprocess.run([*command, "--model", "vlmp-tiny", "--output", str(folder)], check=True)
    return folder


def table(counts: dict[str, dict[str, int]]) -> str:
    """Millions by phase, a column a bundle, and the share of the first one's up to the first token."""
    millions = {
        "vision": [count["vision"] for count in counts.values()],
        "prefill": [count["prefill"] for count in counts.values()],
        "decode, a token": [count["decode"] / (TOKENS - 1) for count in counts.values()],
    }
    first = [vision + prefill for vision, prefill in zip(millions["vision"], millions["prefill"], strict=True)]
    lines = [["million instructions", *counts], ["---", *["---:"] * len(counts)]]
    lines += [[head, *(f"{count / 1e6:.1f}" for count in row)] for head, row in millions.items()]
    lines.append(["to the first token, of unpruned", *(f"{count / first[0]:.2f}" for count in first)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Build, export, count, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedule", action="append", choices=SCHEDULES, help="beside unpruned; all, unless named")
    parser.add_argument("--work", type=Path, default=ROOT / "build/arm64-instructions", help="bundles")
    arguments = parser.parse_args()
    for program in ("gcc", QEMU[0]):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing: apt-get install gcc qemu-user g++-aarch64-linux-gnu")
    arguments.work.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, ROOT / "runtimes/native/build.py", "arm64"], check=True)
    command = [*counting(arguments.work), ROOT / "build/native/arm64/dist/vlmp_runner"]
    names = ["unpruned", *(arguments.schedule or SCHEDULES)]
    print(table({name: counted(command, exported(arguments.work, name)) for name in names}))


if __name__ == "__main__":
    main()
