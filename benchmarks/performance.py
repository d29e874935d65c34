"""The time to the first token by schedule, for docs/results/performance.md: exports, then timed in turns.

    python benchmarks/performance.py --target executorch --side 448 [--variant fast ...] [--threads 2] [--runs 5]

Qwen2-VL-2B with random weights, on which speed does not depend, quantized as it is by default. Every bundle is
verified. An export takes minutes and 1.6 GB of disk; what is there already is not exported again, so that an
interrupted run goes on. Baseline: the unpruned export. Nothing else should run beside it.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from make_random import write_checkpoint
from vlmp.export.schedule import SCHEDULES
from vlmp.runtimes.bundle.folder import MANIFEST_NAME
from vlmp.runtimes.profile.figures import LABELS
from vlmp.runtimes.profile.schema import BundleProfile, PhaseName, Profile, read_profile

ROOT = Path(__file__).resolve().parents[1]
MODEL = "qwen2-vl-2b"
VARIANTS: dict[str, list[str]] = {
    "unpruned": ["--pruner", "none"],
    **{name: ["--schedule", name] for name in SCHEDULES},
    "contrast": ["--schedule", "vision.0:0.5:contrast,weigh=1,form=dropped+first:0.111:vlm-pruner,weigh=1"],
    "fast-fp16": ["--schedule", "fast", "--quant", "int4-fp16"],
}
"""Name of a bundle -> what it is exported with; the last one on ExecuTorch only."""


def exported(arguments: argparse.Namespace, variant: str) -> Path:
    """The bundle of a variant; exported if it is not there yet."""
    folder: Path = arguments.work / f"{arguments.model}-{arguments.target}-{arguments.side}" / variant
    if not (folder / MANIFEST_NAME).exists():
        options = ["--model", arguments.model, "--target", arguments.target, "--image-size", str(arguments.side)]
        if arguments.model == MODEL:
            checkpoint = arguments.work / f"{MODEL}-random"
            if not checkpoint.exists():
                write_checkpoint(checkpoint, MODEL)
            options += ["--checkpoint", str(checkpoint)]
        run("vlmp-export", *options, "--text-len", "16", "--max-new-tokens", "64", "--output", str(folder),
            *VARIANTS[variant])  # fmt: skip
    return folder


def run(program: str, *options: str) -> None:
    """A command of ours. SystemExit when it fails."""
    command = [str(Path(sys.executable).with_name(program)), *options]
    print(shlex.join([program, *options]), file=sys.stderr, flush=True)
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{program} failed")


def table(profile: Profile) -> str:
    """Medians in milliseconds, a column a bundle; how many times faster each reaches the first token; memory, size."""
    bundles = profile.bundles
    lines = [row("ms", [bundle.name for bundle in bundles]), row("---", ["---:"] * len(bundles))]
    for phase, label in LABELS.items():
        if any(phase in bundle.phases for bundle in bundles):
            lines.append(row(label, [median(bundle, phase) for bundle in bundles]))
    for base in bundles[:2]:
        ratios = [first_token(base) / first_token(bundle) for bundle in bundles]
        lines.append(row(f"times as fast as {base.name}", [f"{ratio:.2f}" for ratio in ratios]))
    memory = [bundle.memory.peak_rss_mib if bundle.memory else 0 for bundle in bundles]
    lines.append(row("peak memory of the process, MiB", [f"{mib:.0f}" for mib in memory]))
    lines.append(row("on disk, MiB", [f"{bundle.size_mib:.0f}" for bundle in bundles]))
    return "\n".join(lines)


def row(head: str, cells: list[str]) -> str:
    """A line of the table."""
    return f"| {head} | {' | '.join(cells)} |"


def median(bundle: BundleProfile, phase: PhaseName) -> str:
    """Three digits or so; a dash where a bundle has no such phase."""
    if phase not in bundle.phases:
        return "-"
    ms = bundle.phases[phase].median_ms
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def first_token(bundle: BundleProfile) -> float:
    """Milliseconds up to the first token."""
    return bundle.phases["first_token"].median_ms


def main() -> None:
    """Export, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=["executorch", "onnx"], required=True)
    parser.add_argument("--side", type=int, required=True, help="of the picture, in pixels")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="beside unpruned; all, unless named")
    parser.add_argument("--model", default=MODEL, choices=[MODEL, "vlmp-tiny"], help="vlmp-tiny: to try this script")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--export-only", action="store_true", help="measure another time")
    parser.add_argument("--work", type=Path, default=ROOT / "build/performance", help="checkpoint, bundles, profiles")
    arguments = parser.parse_args()
    possible = [name for name in VARIANTS if name != "fast-fp16" or arguments.target == "executorch"]
    wanted = arguments.variant or possible
    names = [name for name in possible if name == "unpruned" or name in wanted]
    first, *others = [str(exported(arguments, name)) for name in names]
    if arguments.export_only:
        return
    file = arguments.work / f"{arguments.model}-{arguments.target}-{arguments.side}.json"
    compared = [option for other in others for option in ("--compare", other)]
    run("vlmp-profile", first, *compared, "--different", "--threads", str(arguments.threads), "--runs",
        str(arguments.runs), "--decode-tokens", "16", "--json", str(file))  # fmt: skip
    profile = read_profile(file)
    print(f"\n{profile.machine.cpu}, {', '.join(profile.machine.flags)}\n\n{table(profile)}")


if __name__ == "__main__":
    main()
