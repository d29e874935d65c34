"""ExecuTorch's event tracer: an ETDump file with the times of instructions and of XNNPACK's operators in delegates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.executorch import ExecuTorchSession
from vlmp.runtimes.profile.schema import PrefillRegion
from vlmp.runtimes.profile.trace import TRACED, Call, Drive, Run, Trace

LAYER = "Fully Connected"
"""How XNNPACK's linear layers begin; the pruner has none."""
SPLIT = (
    "split by ExecuTorch's event tracer: the pruner is what runs between two delegates with linear layers, "
    "its shares of the prefill timed without it"
)
UNPRUNED = (
    "split by ExecuTorch's event tracer, counting linear layers, since one delegate holds all decoder layers: "
    "its shares of the prefill timed without it"
)
UNKNOWN = "not split: no two delegates with linear layers stand around the pruner"


class _Traced(ExecuTorchSession):
    events = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One instruction: a portable operator, or a delegate with its operators inside."""

    calls: Sequence[tuple[str, float]]
    delegate: bool

    @property
    def linear(self) -> bool:
        """Whether it holds a linear layer."""
        return self.delegate and any(op.startswith(LAYER) for op, _ in self.calls)


def trace_calls(folder: Path, manifest: Manifest, threads: int | None, drive: Drive) -> Trace:
    """Events of every run of the traced methods."""
    session = _Traced(folder, manifest, threads)
    drive(session)
    dumps = []
    with TemporaryDirectory(prefix="vlmp-profile-") as scratch:
        for program in session.programs.values():
            dump = Path(scratch) / "events.etdp"
            program.write_etdump_result_to_file(str(dump), str(Path(scratch) / "no-debug-data"))
            dumps.append(dump.read_bytes())
    return read_dumps(dumps, str(folder), manifest)


def read_dumps(dumps: Sequence[bytes], name: str, manifest: Manifest) -> Trace:
    """Events of ETDump files, in which the traced methods take turns. Raises UserError when some are missing."""
    blocks: list[list[Any]] = []
    for dump in dumps:
        found = deserialize_from_etdump_flatcc(dump)
        blocks += [block.events for block in found.run_data if block.name == "Execute"]
    if not blocks or len(blocks) % len(TRACED):
        raise UserError(f"{name}: the event tracer lost runs: {len(blocks)} of {len(TRACED)} methods")
    runs: dict[MethodName, list[Run]] = {method: [] for method in TRACED}
    split = ""
    for number, events in enumerate(blocks):
        method = TRACED[number % len(TRACED)]
        total_ms, steps = read_steps([event.profile_event for event in events if event.profile_event])
        calls = [call for step in steps for call in step.calls]
        regions: list[PrefillRegion | None] = [None] * len(calls)
        if method == "prefill":
            regions, split = prefill_regions(steps, manifest)
        named = [Call(op, region, ms) for (op, ms), region in zip(calls, regions, strict=True)]
        runs[method].append(Run(total_ms=total_ms, calls=named))
    return Trace(runs=runs, split=split)


def read_steps(events: Sequence[Any]) -> tuple[float, list[Step]]:
    """Total milliseconds and the instructions. What runs inside an instruction is written before it, in nanoseconds."""
    steps: list[Step] = []
    inner: list[tuple[str, float]] = []
    total_ms = 0.0
    for event in events:
        ms = (event.end_time - event.start_time) / 1e6
        if event.name == "Method::execute":
            total_ms = ms
        elif event.name == "OPERATOR_CALL":
            steps.append(Step(calls=inner or [("operator", ms)], delegate=False))
            inner = []
        elif event.name == "DELEGATE_CALL":
            rest = max(0.0, ms - sum(time for _, time in inner))
            steps.append(Step(calls=[*inner, ("delegate, the rest", rest)], delegate=True))
            inner = []
        else:
            inner.append((_operator(event.name or event.delegate_debug_id_str or "unnamed"), ms))
    return total_ms, steps


def _operator(name: str) -> str:
    """The kind: native_call_add.out is add.out, and XNNPACK's operators lose the number at their end."""
    return re.sub(r" #\d+$", "", name.removeprefix("native_call_"))


def prefill_regions(steps: Sequence[Step], manifest: Manifest) -> tuple[list[PrefillRegion | None], str]:
    """The region of each call in the steps, and a sentence on it.

    Between two delegates with linear layers there are most steps where a pruner is. At K = 0 nothing stands before it
    but the embedding, which then counts to it. Of several pruners, what is between them counts as after. Without a
    pruner the layers, all with equally many linear ones, are counted.
    """
    if manifest.shape.pruner == "none":
        return _counted(steps, manifest), UNPRUNED
    edges = [place for place, step in enumerate(steps) if step.linear]
    if manifest.shape.prune_layer == 0:
        edges = [-1, *edges]
    pruners = sum(stage.place == "layer" for stage in manifest.shape.stages)
    if len(edges) <= pruners:
        return [None for step in steps for _ in step.calls], UNKNOWN
    gaps = sorted(pairwise(edges), key=lambda pair: pair[0] - pair[1])[:pruners]
    first = min(start for start, _ in gaps)

    def region(place: int) -> PrefillRegion:
        """Of the step at a place."""
        if place <= first:
            return "before"
        return "pruner" if any(start < place < end for start, end in gaps) else "after"

    return [region(place) for place, step in enumerate(steps) for _ in step.calls], SPLIT


def _counted(steps: Sequence[Step], manifest: Manifest) -> list[PrefillRegion | None]:
    linear = [op.startswith(LAYER) for step in steps for op, _ in step.calls]
    early = manifest.shape.prune_layer * (
        sum(linear) // len(manifest.shape.kv.layers)
    )  # the head's one is lost in the division
    return ["before" if seen <= early else "after" for seen in accumulate(linear)]
