"""How long the commands take to start, against Python itself and against importing torch.

    python benchmarks/startup.py [--runs 7] [--bundle BUNDLE ...]

Every command line is run in turn with the others, each in a process of its own; the median wall time counts. The first
turn warms the page cache and does not count. With bundles, `vlmp-run` answers a question of one token with each, and
the largest resident memory of its process is told, too (that of one process, not of its watcher).
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

PHOTO = Path(__file__).parents[1] / "runtimes" / "assets" / "photo.jpg"
BIN = Path(sys.executable).parent
PROGRAMS = ("vlmp-export", "vlmp-run", "vlmp-verify", "vlmp-eval", "vlmp-profile")
PYTHON, TORCH = "python -c pass", "python -c 'import torch'"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--bundle", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    commands = {PYTHON: [sys.executable, "-c", "pass"], TORCH: [sys.executable, "-c", "import torch"]}
    for program in PROGRAMS:
        for option in ("--help", "--version", "--nonsense"):
            commands[f"{program} {option}"] = [str(BIN / program), option]
    wrong = ["--model", "vlmp-tiny", "--target", "onnx", "--pruner", "nonsense"]
    commands["vlmp-export --pruner nonsense"] = [str(BIN / "vlmp-export"), *wrong]
    for bundle in arguments.bundle:
        asked = [str(bundle), "--image", str(PHOTO), "--prompt", "What is in this picture?", "--max-new-tokens", "1"]
        commands[f"vlmp-run {bundle.name}"] = [str(BIN / "vlmp-run"), *asked]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, float] = {}
    for run in range(1 + arguments.runs):
        for name, command in commands.items():
            taken, peaks[name] = timed(command)
            if run:
                seconds[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(
        "| command | seconds | of Python's start | of importing torch | peak memory, MiB |\n|---|---:|---:|---:|---:|"
    )
    for name, median in medians.items():
        print(
            f"| `{name}` | {median:.3f} | {median / medians[PYTHON]:.1f} | {median / medians[TORCH]:.2f} | "
            f"{peaks[name]:.0f} |"
        )


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds of a process, and its largest resident memory in MiB."""
    started = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
