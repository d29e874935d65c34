"""`make demo`: export vlmp-tiny pruned and unpruned for every target, verify, and ask each about a held-out scene."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image
from rich.console import Console
from rich.table import Table
from vlmp.evaluation.metrics import exact
from vlmp.evaluation.scenes import Question, sample
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import Result, export
from vlmp.export.targets import TARGETS
from vlmp.runtimes import Answer, Chat, Timings, load
from vlmp.runtimes.console.streams import quiet_libraries
from vlmp.runtimes.draw import draw_kept

MODEL = "vlmp-tiny"
PRUNERS = ("none", "vlm-pruner")
SEED, LEAST_QUESTIONS = 7, 5
"""The first scene of this test stream that allows so many kinds of questions."""
RUNS = 9
ANSWER_TOKENS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One bundle's figures, times in milliseconds, medians over warm runs."""

    result: Result
    answers: list[Answer]
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
    image, questions = held_out_scene()

    pairs = []
    for target in arguments.target or TARGETS:
        results = []
        for pruner in PRUNERS:
            output = arguments.output / f"{target}-{pruner}"
            console.print(f"exporting {MODEL} for {target}, pruner {pruner} ...")
            config = ExportConfig(model=MODEL, targets=(target,), output=output, pruner=pruner, overwrite=True)
            results += export(config)
        pairs.append(measure(results, image, questions))

    console.print(table(pairs))
    console.print(answer_table(pairs, questions))
    pruned = pairs[0]["vlm-pruner"]
    image.save(arguments.output / "scene.png")
    draw_kept(image, pruned.result.manifest.shape.image, pruned.answers[0].order).save(arguments.output / "kept.png")
    console.print(f"bundles, scene.png and the kept tokens of the first question, kept.png, are in {arguments.output}")


def held_out_scene() -> tuple[Image, list[Question]]:
    """A test picture and questions about it: no digit, photograph or seed of it was trained on."""
    # Enough that no kind runs out before the scene is found.
    return next((scene.image, asked) for _, scene, asked in sample("test", SEED, 600) if len(asked) >= LEAST_QUESTIONS)


def measure(results: list[Result], image: Image, questions: Sequence[Question]) -> dict[str, Row]:
    """Medians of warm runs on this machine; the bundles take turns, so that noise meets all of them."""
    chats = [Chat(load(result.output)) for result in results]
    answers = [[chat.ask(image, asked.text, ANSWER_TOKENS) for asked in questions] for chat in chats]
    timings: list[list[Timings]] = [[] for _ in chats]
    for _ in range(RUNS):
        for chat, taken in zip(chats, timings, strict=True):
            taken.append(chat.ask(image, questions[0].text, ANSWER_TOKENS).timings)
    return {
        result.manifest.shape.pruner: Row(
            result=result,
            answers=given,
            runtime=chat.session.runtime,
            vision_ms=statistics.median(timing.vision_ms for timing in taken),
            prefill_ms=statistics.median(timing.prefill_ms for timing in taken),
            decode_ms=statistics.median(timing.decode_ms / max(1, timing.decoded_tokens) for timing in taken),
        )
        for result, chat, given, taken in zip(results, chats, answers, timings, strict=True)
    }


def table(pairs: list[dict[str, Row]]) -> Table:
    """One line a bundle; speed-ups against the unpruned export of the same target."""
    drawn = Table(
        title=f"{MODEL}, medians of {RUNS} warm runs of the first question; Core ML off macOS is interpreted: no timing"
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
                f"{manifest.shape.num_kept} of {manifest.shape.image.visual_tokens}",
                *(f"{time:.1f}" if native else f"({time:.0f})" for time in times),
                *(f"{speed:.2f}x" if native else "-" for speed in speeds),
                f"{manifest.parity.status}, {worst:.0e}",
                f"{row.result.size_bytes / 2**20:.1f}",
            )
    return drawn


def answer_table(pairs: list[dict[str, Row]], questions: Sequence[Question]) -> Table:
    """What each bundle answered; wrong answers are marked."""
    drawn = Table(title="a held-out scene")
    for column in ("question", "right"):
        drawn.add_column(column)
    rows = [row for pair in pairs for row in pair.values()]
    for row in rows:
        shape = row.result.manifest.shape
        drawn.add_column(f"{row.result.manifest.target}, {shape.num_kept} of {shape.image.visual_tokens}")
    for number, asked in enumerate(questions):
        given = [row.answers[number].text for row in rows]
        cells = [text if exact(text, [asked.answer]) else f"[red]{text} (wrong)[/red]" for text in given]
        drawn.add_row(asked.text, asked.answer, *cells)
    return drawn


if __name__ == "__main__":
    main()
