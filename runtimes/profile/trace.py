"""What a runtime's own profiler says: time by operator and, in vision and prefill, by where it is to the pruner."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.profile.schema import PARTS, InParts, Operator, Part
from vlmp.runtimes.prompt import first_ids, load_tokenizer
from vlmp.runtimes.session import Session
from vlmp.runtimes.turn import first_turn

TRACERS: dict[str, str] = {
    "onnx": "vlmp.runtimes.profile.onnx:trace_calls",
    "executorch": "vlmp.runtimes.profile.executorch:trace_calls",
}
"""Target -> "module:function" that traces it, imported when a bundle of it is profiled."""
TRACED: tuple[MethodName, ...] = ("vision", "prefill", "decode")
"""In the order in which a run calls them."""


Drive = Callable[[Session], None]
"""Runs every traced method, in this order, once to warm up and then `runs` times."""


class Call(NamedTuple):
    """One executed operator: its kind, which part of its method it is in, and its time without what runs inside it."""

    op: str
    region: Part | None
    ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One execution of a method: what it took as a whole, and its operators in order."""

    total_ms: float
    calls: Sequence[Call]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """All executions of each traced method, and a sentence on where the parts of each come from."""

    runs: Mapping[MethodName, Sequence[Run]]
    splits: Mapping[InParts, str]


class Traced(BaseModel):
    """Least of the runs, since noise only adds. splits: how each method that has parts was split, or why not."""

    operators: list[Operator]
    operators_ms: dict[MethodName, float]
    splits: dict[InParts, str]


def trace(bundle: Path, photo: Path, prompt: str, *, threads: int | None, runs: int) -> Traced:
    """Run a bundle under its runtime's profiler. Raises UserError as `load` does."""
    manifest = read_manifest(bundle, check_hashes=False)
    if manifest.target not in TRACERS:
        untold = f"not split: {manifest.target} tells no operator's time"
        return Traced(operators=[], operators_ms={}, splits=dict.fromkeys(in_parts(manifest), untold))
    module, attribute = TRACERS[manifest.target].split(":")
    tracer = getattr(import_module(module), attribute)
    ids = first_ids(load_tokenizer(bundle, manifest), manifest.prompt, prompt)

    def drive(session: Session) -> None:
        for _ in range(1 + runs):  # the first one warms up
            first_turn(session, photo, ids, 2)

    return traced(tracer(bundle, manifest, threads, drive))


def in_parts(manifest: Manifest) -> list[InParts]:
    """The methods that have parts: vision only with a stage in the tower."""
    return ["prefill"] if manifest.shape.tower is None else ["vision", "prefill"]


def traced(found: Trace) -> Traced:
    """Sum up all runs but the first one of each method, which warms up."""
    warm = {method: done[1:] for method, done in found.runs.items()}
    return Traced(
        operators=[operator for method, done in warm.items() for operator in summarize(method, done)],
        operators_ms={method: min(run.total_ms for run in done) for method, done in warm.items()},
        splits=dict(found.splits),
    )


def summarize(method: MethodName, runs: Sequence[Run]) -> list[Operator]:
    """Calls of the same kind and region added up, the least of all runs; the longest first."""
    times: list[dict[tuple[Part | None, str], float]] = []
    for run in runs:
        times.append(defaultdict(float))
        for call in run.calls:
            times[-1][call.region, call.op] += call.ms
    calls = Counter((call.region, call.op) for call in runs[0].calls)
    operators = [
        Operator(method=method, region=region, op=op, calls=count, ms=min(t[region, op] for t in times))
        for (region, op), count in calls.items()
    ]
    return sorted(operators, key=lambda operator: -operator.ms)


def part_shares(operators: Sequence[Operator]) -> dict[Part, float]:
    """Share of each part in the operators of its method; no parts of a method of which the trace tells none."""
    shares: dict[Part, float] = {}
    for parts in PARTS.values():
        times = {part: sum(operator.ms for operator in operators if operator.region == part) for part in parts}
        whole = sum(times.values())
        shares |= {part: time / whole for part, time in times.items()} if whole else {}
    return shares
