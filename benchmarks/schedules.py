"""Settings that fit the kept tokens, schedules of stages, also in the tower: tables of `docs/results/accuracy.md`.

    python benchmarks/schedules.py [--part settings] [--part tower] [--seed 7 --seed 8] [--questions 2004]
    python benchmarks/schedules.py --part depth --model CHECKPOINT      # where in its tower a cut is cheapest

Per cent of answers that are exactly right, over the questions of all seeds; differences are paired, question by
question. Work is that of prefill and of the caches, as the graphs have it, against the unpruned export's. Scores are
kept in the work folder: an interrupted run goes on where it stopped.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accuracy import BASE, MODEL, write_part
from many_answers import many_answers, see
from vlmp.evaluation.data import DataSet, open_dataset
from vlmp.evaluation.identity import checkpoint_digests, eager_program
from vlmp.evaluation.report import cache_bytes, percent
from vlmp.evaluation.run import score
from vlmp.evaluation.scenes import SIDE
from vlmp.evaluation.subjects import fit_text
from vlmp.export.checkpoint import locate
from vlmp.export.eager import open_eager
from vlmp.export.models import model_entry
from vlmp.export.plan import open_source
from vlmp.export.schedule import SCHEDULES, parse_schedule
from vlmp.runtimes.bundle.writing import write_whole
from vlmp.runtimes.console.streams import quiet_libraries
from vlmp.runtimes.session import Seen

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("settings", "peers", "schedules", "tower")
DEPTH = "depth"
"""The part that is measured on another model, and only when asked for."""
VISUAL = 144
KEPT = (8, 12, 16, 24, 32, 48)
SETTINGS = {
    "published: 16, 4": "vlm-pruner,settings=published",
    "S/8, S/2": "vlm-pruner,batch={eighth},pivots={half}",
    "S/4, S/2": "vlm-pruner,batch={quarter},pivots={half}",
    "1, 4": "vlm-pruner,batch=1,pivots=4",
    "DivPrune": "divprune",
}
"""Head of a column: batch, pivots of S kept tokens -> pruner before layer 2."""
PEERS = (
    ("vlm-pruner", (1, 2, 3, 4)),
    ("divprune", (0, 1, 2, 3, 4)),
    ("dart,pivots=4", (2, 3)),
    ("dart,pivots=8", (2, 3)),
    ("fastv", (2, 3, 4)),
)
"""Methods, the layers that they stand before, and DART's pivots, each with 16 of 144 tokens kept."""
UNPRUNED = "2:1:none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One schedule on the questions of one seed. vision_macs, prefill_macs, cache_bytes: as the manifest has them."""

    schedule: str
    kept: list[int]
    vision_macs: int
    prefill_macs: int
    cache_bytes: int
    scores: list[float]
    kinds: list[str]


class Bench:
    """Measures schedules on the questions of one seed."""

    def __init__(self, data: DataSet, work: Path, model: str) -> None:
        self.data, self.work = data, work
        self.config = replace(fit_text(BASE, data), model=model)
        self.seen: tuple[object, dict[str, Seen]] = None, {}
        """The pictures' size and the stage in the vision tower, and what every picture looks like with them."""
        self.origin = [checkpoint_digests(locate(model_entry(model).checkpoint)), eager_program(), data.name]

    def measure(self, schedule: str, side: int = SIDE) -> Measured:
        """What a schedule comes to on pictures of `side` pixels; known from an earlier run if nothing has changed."""
        origin = json.dumps([self.origin, len(self.data.examples), schedule, side]).encode()
        file = self.work / f"{sha256(origin).hexdigest()[:16]}.json"
        if file.exists():
            return Measured(**json.loads(file.read_text(encoding="utf-8")))
        config = replace(self.config, stages=parse_schedule(schedule), image_size=(side, side))
        chat = open_eager(config, counted=True)
        session = chat.session
        looks = side, str(session.manifest.shape.tower)
        if self.seen[0] != looks:
            self.seen = looks, see(chat, self.data)
        texts = many_answers(chat, self.seen[1], self.data, BASE.max_new_tokens)
        shape, work = session.manifest.shape, session.manifest.method("prefill").work
        vision = session.manifest.method("vision").work["vision"]
        scores = [score(self.data, one, text) for one, text in zip(self.data.examples, texts, strict=True)]
        found = Measured(
            schedule=schedule,
            kept=[stage.num_kept for stage in shape.stages],
            vision_macs=vision.macs,
            prefill_macs=sum(each.macs for each in work.values()),
            cache_bytes=cache_bytes(session.manifest),
            scores=scores,
            kinds=[one.kind for one in self.data.examples],
        )
        print(f"{self.data.name}: {np.mean(scores):.1%} {schedule}, {side} px", flush=True)
        self.work.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(asdict(found)))
        return found


def scores_of(found: Sequence[Measured], kind: str = "") -> np.ndarray:
    """Scores of all seeds, of one kind of question or of all."""
    return np.array(
        [score for one in found for score, its in zip(one.scores, one.kinds, strict=True) if kind in ("", its)]
    )


def settings_table(benches: Sequence[Bench]) -> str:
    """Accuracy of settings of VLM-Pruner, and of peers, by the number of kept tokens."""
    lines = ["| kept of 144 | " + " | ".join(SETTINGS) + " |", "|---|" + "---:|" * len(SETTINGS)]
    for kept in KEPT:
        cells = []
        for pruner in SETTINGS.values():
            spelled = pruner.format(eighth=max(1, kept // 8), quarter=kept // 4, half=kept // 2)
            found = [bench.measure(f"2:{kept / VISUAL:.4f}:{spelled}") for bench in benches]
            cells.append(f"{percent(scores_of(found).mean())} ({percent(scores_of(found, 'code').mean())})")
        lines.append(f"| {kept} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def peers_table(benches: Sequence[Bench]) -> str:
    """Accuracy of each method by the layer that it stands before, 16 tokens kept."""
    layers = sorted({layer for _, own in PEERS for layer in own})
    lines = ["| pruner | " + " | ".join(f"layer {layer}" for layer in layers) + " |", "|---|" + "---:|" * len(layers)]
    for pruner, own in PEERS:
        found = {layer: [bench.measure(spelled((layer, 16, pruner))) for bench in benches] for layer in own}
        cells = [percent(scores_of(found[layer]).mean()) if layer in found else "" for layer in layers]
        lines.append(f"| {pruner} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def schedules_table(benches: Sequence[Bench], schedules: Sequence[str]) -> str:
    """Accuracy and work of schedules, against unpruned and against the default of one stage."""
    whole, base = ([bench.measure(one) for bench in benches] for one in (UNPRUNED, schedules[0]))
    lines = ["| schedule | kept | prefill | caches | accuracy | of unpruned | difference | codes | counting |"]
    lines += ["|---|---|" + "---:|" * 7]
    for schedule in (UNPRUNED, *schedules):
        found = [bench.measure(schedule) for bench in benches]
        first, scores = found[0], scores_of(found)
        gap = scores - scores_of(base)
        error = gap.std() / len(gap) ** 0.5
        cells = [
            with_name(schedule), ", ".join(map(str, first.kept)),
            percent(first.prefill_macs / whole[0].prefill_macs), percent(first.cache_bytes / whole[0].cache_bytes),
            percent(scores.mean()), percent(scores.mean() / scores_of(whole).mean()),
            "" if schedule == schedules[0] else f"{100 * gap.mean():+.1f} ± {196 * error:.1f}",
            *(percent(scores_of(found, kind).mean()) for kind in ("code", "count")),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tower_table(benches: Sequence[Bench]) -> str:
    """Accuracy by kind of question, and the work up to the first token, of schedules with a stage in the tower.

    Beside them the photo made smaller. The most work comes first. Bold are those of which no other is as right at less
    work, and names.
    """
    whole = [bench.measure(UNPRUNED) for bench in benches]
    kinds = sorted(set(whole[0].kinds))
    rows = [(with_name(schedule), [bench.measure(schedule) for bench in benches]) for schedule in (UNPRUNED, *TOWER)]
    rows += [(f"unpruned, {side} px", [bench.measure(UNPRUNED, side) for bench in benches]) for side in SMALLER]
    rows.sort(key=lambda row: -first_work(row[1]))
    best = pareto_front([(first_work(found), scores_of(found).mean()) for _, found in rows])
    lines = ["| schedule | kept | vision | to the first token | accuracy | of unpruned | loss | "]
    lines[0] += " | ".join(kinds) + " |"
    lines += ["|---|---|" + "---:|" * (5 + len(kinds))]
    for number, (head, found) in enumerate(rows):
        first, scores = found[0], scores_of(found)
        accuracy, loss = accuracy_and_loss(whole, found)
        cells = [
            head, ", ".join(map(str, first.kept)),
            percent(first.vision_macs / whole[0].vision_macs), percent(first_work(found) / first_work(whole)),
            f"**{accuracy}**" if number in best else accuracy, percent(scores.mean() / scores_of(whole).mean()),
            loss,
            *(percent(scores_of(found, kind).mean()) for kind in kinds),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def depth_table(benches: Sequence[Bench]) -> str:
    """Work and accuracy with a stage before each block of the tower: alone in both forms, and with one after it."""
    whole = [bench.measure(UNPRUNED) for bench in benches]
    depth = open_source(benches[0].config).family.spec.vision.depth
    lines = ["| before block | of the depth | vision | rebuilt | loss | dropped | loss | and a ninth | loss |"]
    lines += ["|---|" + "---:|" * 8, f"| unpruned | | 100.0 | {percent(scores_of(whole).mean())} | | | | | |"]
    for block in range(1, depth):
        stage = f"vision.{block}:0.5:local{WEIGHED}"
        rebuilt, dropped, named = (
            [bench.measure(f"{stage}{more}") for bench in benches]
            for more in ("", DROPPED, f"{DROPPED}+first:0.111:vlm-pruner{WEIGHED}")
        )
        cells = [str(block), percent(block / depth), percent(dropped[0].vision_macs / whole[0].vision_macs)]
        cells += [cell for found in (rebuilt, dropped, named) for cell in accuracy_and_loss(whole, found)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def accuracy_and_loss(whole: Sequence[Measured], found: Sequence[Measured]) -> tuple[str, str]:
    """Of one schedule; the loss against the unpruned model, question by question, with its 95 % interval."""
    scores, loss = scores_of(found), scores_of(whole) - scores_of(found)
    return percent(scores.mean()), f"{100 * loss.mean():.1f} ± {196 * loss.std() / len(loss) ** 0.5:.1f}"


def first_work(found: Sequence[Measured]) -> int:
    """Multiply-accumulates up to the first token."""
    return found[0].vision_macs + found[0].prefill_macs


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Numbers of the (cost, worth) of which no other costs no more and is worth no less."""
    return {
        number
        for number, (cost, worth) in enumerate(points)
        if not any(other != (cost, worth) and other[0] <= cost and other[1] >= worth for other in points)
    }


def with_name(schedule: str) -> str:
    """A schedule for a table, with its name if it has one."""
    names = [name for name, stages in SCHEDULES.items() if stages == schedule]
    return f"**{names[0]}** `{schedule}`" if names else f"`{schedule}`"


def spelled(*stages: tuple[int, int] | tuple[int, int, str]) -> str:
    """(layer, kept of 144[, pruner]) -> a schedule."""
    return "+".join(":".join([str(layer), f"{kept / VISUAL:.4f}", *pruner]) for layer, kept, *pruner in stages)


WEIGHED = ",weigh=1"
LATE = f"1:0.222:vlm-pruner{WEIGHED}"
EARLY = f"0:0.167:divprune{WEIGHED}"
COMPARED = (
    "2:0.111",
    SCHEDULES["paper"],
    f"2:0.111:vlm-pruner{WEIGHED}",
    "2:0.111:divprune",
    "1:0.222",
    LATE,
    f"0:0.333:divprune{WEIGHED}",
    f"0:0.278:divprune{WEIGHED}",
    f"0:0.222:divprune{WEIGHED}",
    "0:0.167:divprune",
    EARLY,
    f"0:0.111:divprune{WEIGHED}",
    f"0:0.333:divprune{WEIGHED}+2:0.111:vlm-pruner{WEIGHED}",
    "2:0.167+4:0.056",
    "1:0.444+2:0.222+4:0.111",
    "0:0.444:divprune+1:0.167+2:0.153",
)
"""In the language model; the first one is what the others are compared with."""

HALF = f"vision.50%:0.5:local{WEIGHED}"
SOON = f"vision.25%:0.5:local{WEIGHED}"
DROPPED = ",form=dropped"
NINTH = f"1:0.111:vlm-pruner{WEIGHED}"
TOWER = (
    SCHEDULES["paper"],
    *(SCHEDULES[name] for name in ("gentle", "fast", "fastest")),
    "vision.50%:0.5:local",
    HALF,
    f"vision.50%:0.5:vlm-pruner{WEIGHED}",
    f"vision.50%:0.5:divprune{WEIGHED}",
    f"vision.50%:0.5:dart{WEIGHED}",
    f"vision.50%:0.5:fastv{WEIGHED}",
    f"vision.50%:0.5:contrast{WEIGHED}",
    f"vision.50%:0.5:random{WEIGHED}",
    f"vision.50%:0.5:uniform{WEIGHED}",
    f"{HALF}{DROPPED}",
    f"vision.75%:0.5:local{WEIGHED}",
    f"vision.25%:0.75:local{WEIGHED}",
    SOON,
    f"{SOON}{DROPPED}",
    f"vision.25%:0.333:local{WEIGHED}",
    f"vision.50%:0.333:local{WEIGHED}",
    f"{HALF}+2:0.111:vlm-pruner{WEIGHED}",
    f"{HALF}+{LATE}",
    f"{HALF}+{EARLY}",
    f"{HALF}{DROPPED}+{LATE}",
    f"vision.25%:0.75:local{WEIGHED}+{LATE}",
    f"{SOON}+{LATE}",
    f"{SOON}{DROPPED}+{LATE}",
    f"{SOON}+0:0.222:divprune{WEIGHED}",
    f"{SOON}+{EARLY}",
    f"{SOON}{DROPPED}+0:0.222:divprune{WEIGHED}",
    f"vision.25%:0.444:local{WEIGHED}+{LATE}",
    f"vision.25%:0.444:local{WEIGHED}{DROPPED}+{NINTH}",
    f"vision.25%:0.333:local{WEIGHED}+{LATE}",
    f"vision.25%:0.333:local{WEIGHED}+{EARLY}",
    f"vision.50%:0.333:local{WEIGHED}+{LATE}",
    f"vision.0:0.5:local{WEIGHED}",
    f"vision.0:0.5:contrast{WEIGHED}",
    f"vision.0:0.5:contrast{WEIGHED}{DROPPED}+{NINTH}",
    f"vision.0:0.4:contrast{WEIGHED}{DROPPED}+{NINTH}",
)
"""With a stage before a block of the vision tower, alone and before one in the language model."""
SMALLER = (252, 224, 168)
"""Sides of the photo in pixels, where making it smaller stands in for pruning: 81, 64 and 36 visual tokens."""


def main() -> None:
    """Measure the parts asked for, and write them into the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=[*PARTS, DEPTH])
    parser.add_argument("--model", default=MODEL, help="another checkpoint, with --part depth alone")
    parser.add_argument("--seed", action="append", type=int, help="of the test scenes, repeatable (7 and 8)")
    parser.add_argument("--questions", type=int, default=2004, help="of each seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "build/schedules", help="scores")
    arguments = parser.parse_args()
    seeds, parts = arguments.seed or [7, 8], arguments.part or PARTS
    if arguments.model != MODEL and parts != [DEPTH]:
        parser.error(f"the other tables are of {MODEL}: give --model with --part {DEPTH} alone")
    quiet_libraries()
    torch.set_num_threads(arguments.threads)
    benches = [
        Bench(open_dataset("scenes:test", seed=seed, questions=arguments.questions), arguments.work, arguments.model)
        for seed in seeds
    ]
    stamp = f"`{shlex.join(['python', 'benchmarks/schedules.py', *sys.argv[1:]])}`: scenes:test, seeds "
    stamp += f"{' and '.join(map(str, seeds))}, {arguments.questions} questions each."
    if "settings" in parts:
        write_part("settings", f"{stamp} In brackets: codes.\n\n{settings_table(benches)}")
    if "peers" in parts:
        write_part("peers", f"{stamp} 16 of 144 tokens kept.\n\n{peers_table(benches)}")
    if "schedules" in parts:
        write_part("schedules", f"{stamp}\n\n{schedules_table(benches, COMPARED)}")
    if "tower" in parts:
        write_part("tower", f"{stamp}\n\n{tower_table(benches)}")
    if DEPTH in parts:
        write_part(DEPTH, f"{stamp}\n\n{depth_table(benches)}")


if __name__ == "__main__":
    main()
