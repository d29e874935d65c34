"""`make demo`: export vlmp-tiny pruned and unpruned for every target, verify, and run each on a real photograph."""

import argparse
import statistics
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.table import Table
from vlmp.export.config import ExportConfig
from vlmp.export.errors import quiet_libraries
from vlmp.export.pipeline import Result, export
from vlmp.export.targets import TARGETS
from vlmp.runtimes import Answer, Timings, load
from vlmp.runtimes.draw import draw_kept
from vlmp.runtimes.image import open_image

MODEL = "vlmp-tiny"
PRUNERS = ("none", "vlm-pruner")
QUESTION = "What is in this picture?"
RUNS = 9
ANSWER_TOKENS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One bundle's figures, times in milliseconds, medians over warm runs."""

    result: Result
    answer: Answer
    runtime: str
    vision_ms: float
    prefill_ms: float
    decode_ms: float


def main() -> None:
    """Export, run, print one table, write the picture of kept tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="all when not given")
    arguments = parser.parse_args()
    quiet_libraries()
    console = Console(width=150 if not sys.stdout.isatty() else None)
    photo = Path(str(files("vlmp.runtimes"))) / "assets" / "photo.jpg"

    pairs = []
    for target in arguments.target or TARGETS:
        results = []
        for pruner in PRUNERS:
            output = arguments.output / f"{target}-{pruner}"
            console.print(f"exporting {MODEL} for {target}, pruner {pruner} ...")
            config = ExportConfig(model=MODEL, targets=(target,), output=output, pruner=pruner, overwrite=True)
            results += export(config)
        pairs.append(measure(results, photo))

    console.print(table(pairs))
    for pair in pairs:
        for pruner, row in pair.items():
            console.print(f"{row.result.manifest.target} {pruner}: {row.answer.text!r}", highlight=False)
    pruned = pairs[0]["vlm-pruner"]
    picture = arguments.output / "kept.png"
    draw_kept(open_image(photo), pruned.result.manifest.image, pruned.answer.order).save(picture)
    console.print(f"bundles in {arguments.output}, kept tokens drawn in {picture}")


def measure(results: list[Result], photo: Path) -> dict[str, Row]:
    """Medians of warm runs on this machine; the bundles take turns, so that noise meets all of them."""
    sessions = [load(result.output) for result in results]
    answers = [session.generate(photo, QUESTION, max_new_tokens=ANSWER_TOKENS) for session in sessions]
    timings: list[list[Timings]] = [[] for _ in sessions]
    for _ in range(RUNS):
        for session, taken in zip(sessions, timings, strict=True):
            taken.append(session.generate(photo, QUESTION, max_new_tokens=ANSWER_TOKENS).timings)
    return {
        result.manifest.pruner.name: Row(
            result=result,
            answer=answer,
            runtime=session.runtime,
            vision_ms=statistics.median(timing.vision_ms for timing in taken),
            prefill_ms=statistics.median(timing.prefill_ms for timing in taken),
            decode_ms=statistics.median(timing.decode_ms / max(1, timing.decoded_tokens) for timing in taken),
        )
        for result, session, answer, taken in zip(results, sessions, answers, timings, strict=True)
    }


def table(pairs: list[dict[str, Row]]) -> Table:
    """One line a bundle; speed-ups against the unpruned export of the same target."""
    drawn = Table(
        title=f"{MODEL}: {QUESTION!r}, medians of {RUNS} warm runs; Core ML off macOS is interpreted: no timing"
    )
    for column in ("target", "visual tokens kept", "vision ms", "prefill ms", "decode ms/token", "prefill speed-up",
                   "to first token", "parity (logits)", "size MiB"):  # fmt: skip
        drawn.add_column(column, justify="left" if column == "target" else "right")
    for pair in pairs:
        before = pair["none"]
        for row in pair.values():
            manifest = row.result.manifest
            worst = max(c.value for c in manifest.parity.checks if c.name.endswith("logits relative error"))
            speeds = [
                before.prefill_ms / row.prefill_ms,
                (before.vision_ms + before.prefill_ms) / (row.vision_ms + row.prefill_ms),
            ]
            native = not row.runtime.startswith("vlmp interpreter")
            times = [row.vision_ms, row.prefill_ms, row.decode_ms]
            drawn.add_row(
                f"{manifest.target} {manifest.precision}",
                f"{manifest.pruner.kept_tokens} of {manifest.pruner.visual_tokens}",
                *(f"{time:.1f}" if native else f"({time:.0f})" for time in times),
                *(f"{speed:.2f}x" if native else "-" for speed in speeds),
                f"{manifest.parity.status}, {worst:.0e}",
                f"{row.result.size_bytes / 2**20:.1f}",
            )
    return drawn


if __name__ == "__main__":
    main()
