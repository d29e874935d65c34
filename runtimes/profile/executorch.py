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
from vlmp.runtimes.profile.schema import PARTS, InParts, Part
from vlmp.runtimes.profile.trace import TRACED, Call, Drive, Run, Trace, in_parts

LINEAR = "Fully Connected"
"""How XNNPACK's linear layers begin."""
LAYERS = (LINEAR, "Convolution")
"""How what the model has and no pruner begins: the patches that vision begins with are a convolution's."""
SPLIT = (
    "split by ExecuTorch's event tracer: the pruner is what runs between two delegates with layers of the model, "
    "its shares of the time taken without it"
)
UNPRUNED = (
    "split by ExecuTorch's event tracer, counting linear layers, since one delegate holds all decoder layers: "
    "its shares of the time taken without it"
)
UNKNOWN = "not split: no two delegates with layers of the model stand around the pruner"


class _Traced(ExecuTorchSession):
    events = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One instruction: a portable operator, or a delegate with its operators inside."""

    calls: Sequence[tuple[str, float]]
    delegate: bool

    @property
    def layers(self) -> bool:
        """Whether it holds layers of the model."""
        return self.delegate and any(op.startswith(LAYERS) for op, _ in self.calls)


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
    parted, splits = in_parts(manifest), dict[InParts, str]()
    for number, events in enumerate(blocks):
        method = TRACED[number % len(TRACED)]
        total_ms, steps = read_steps([event.profile_event for event in events if event.profile_event])
        calls = [call for step in steps for call in step.calls]
        parts: Sequence[Part | None] = [None] * len(calls)
        if method in parted:
            parts, splits[method] = split_steps(method, steps, manifest)
        named = [Call(op, part, ms) for (op, ms), part in zip(calls, parts, strict=True)]
        runs[method].append(Run(total_ms=total_ms, calls=named))
    return Trace(runs=runs, splits=splits)


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


def split_steps(method: InParts, steps: Sequence[Step], manifest: Manifest) -> tuple[Sequence[Part | None], str]:
    """The part of each call in the steps, and a sentence on it.

    Between two delegates with layers of the model there are most steps where a stage is. At K = 0 nothing stands before
    it but the embedding, which then counts to it. Of several stages, what is between them counts as after; so does the
    rebuilding of dropped patches, for which fewer steps stand between the blocks and the connector. Without a pruner
    the decoder layers, all with equally many linear ones, are counted.
    """
    stages = [stage for stage in manifest.shape.stages if (stage.place == "vision") == (method == "vision")]
    if all(stage.pruner == "none" for stage in stages):
        return _counted(steps, manifest), UNPRUNED
    before, pruner, after = PARTS[method]
    edges = [place for place, step in enumerate(steps) if step.layers]
    if method == "prefill" and manifest.shape.prune_layer == 0:
        edges = [-1, *edges]
    if len(edges) <= len(stages):
        return [None for step in steps for _ in step.calls], UNKNOWN
    gaps = sorted(pairwise(edges), key=lambda pair: pair[0] - pair[1])[: len(stages)]
    first = min(start for start, _ in gaps)

    def part(place: int) -> Part:
        """Of the step at a place."""
        if place <= first:
            return before
        return pruner if any(start < place < end for start, end in gaps) else after

    return [part(place) for place, step in enumerate(steps) for _ in step.calls], SPLIT


def _counted(steps: Sequence[Step], manifest: Manifest) -> Sequence[Part]:
    linear = [op.startswith(LINEAR) for step in steps for op, _ in step.calls]
    early = manifest.shape.prune_layer * (
        sum(linear) // len(manifest.shape.kv.layers)
    )  # the head's one is lost in the division
    return ["before" if seen <= early else "after" for seen in accumulate(linear)]
