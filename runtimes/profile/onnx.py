"""ONNX Runtime's profiler: a JSON file of events a graph."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime as ort
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.onnx import OnnxSession
from vlmp.runtimes.profile.schema import PARTS, InParts, Part
from vlmp.runtimes.profile.trace import TRACED, Call, Drive, Run, Trace, in_parts
from vlmp.runtimes.session import Array

Event = dict[str, Any]
KERNEL = "_kernel_time"
NAMED = (
    "split by ONNX Runtime's profiler, where the names of nodes tell the region: "
    "its shares of the time taken without it"
)
UNNAMED = "not split: the names of nodes do not tell their region; export the bundle again"


def trace_calls(folder: Path, manifest: Manifest, threads: int | None, drive: Drive) -> Trace:
    """Events of every run of the traced methods."""
    with TemporaryDirectory(prefix="vlmp-profile-") as scratch:

        class Profiled(OnnxSession):
            called: list[MethodName]

            def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
                self.called.append(method)
                return super().run(method, inputs)

            def options(self, threads: int | None) -> ort.SessionOptions:
                options = super().options(threads)
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(scratch) / "events")
                return options

        session = Profiled(folder, manifest, threads)
        session.called = []
        drive(session)
        events = {file: json.loads(Path(graph.end_profiling()).read_bytes()) for file, graph in session.graphs.items()}
    runs: dict[MethodName, list[Run]] = {method: [] for method in TRACED}
    for file, seen in events.items():
        # A file may serve several methods: its runs are in the order of the calls.
        methods = [method for method in session.called if manifest.method(method).file == file]
        for method, run in zip(methods, split_runs(seen), strict=True):
            runs[method].append(run if method in PARTS else _without_regions(run))
    splits: dict[InParts, str] = {
        method: NAMED if any(call.region for call in runs[method][0].calls) else UNNAMED
        for method in in_parts(manifest)
    }
    return Trace(runs=runs, splits=splits)


def _without_regions(run: Run) -> Run:
    return replace(run, calls=[call._replace(region=None) for call in run.calls])


def split_runs(events: Iterable[Event]) -> list[Run]:
    """One run for each `model_run` event: the kernels within it, in the region that their names tell."""
    events = list(events)
    runs = []
    for whole in sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"]):
        inside = [
            event
            for event in events
            if event["cat"] == "Node"
            and event["name"].endswith(KERNEL)
            and whole["ts"] <= event["ts"] <= whole["ts"] + whole["dur"]
        ]
        runs.append(Run(total_ms=whole["dur"] / 1e3, calls=_calls(inside)))
    return runs


def _calls(events: list[Event]) -> list[Call]:
    """In order of execution; a node without a name of ours, which the runtime made, belongs where the one before does.

    A loop's own time is what is left without its body, and without the writing of the body's events: that takes about
    as long as a small operator, and is seen in the gaps between operators that follow each other.
    """
    events = sorted(events, key=lambda event: (event["ts"], -event["dur"]))
    own = [float(event["dur"]) for event in events]
    inner = [0] * len(events)
    around: list[int] = []
    gaps: list[int] = []
    last_end = None
    for place, event in enumerate(events):
        while around and event["ts"] >= _end(events[around[-1]]):
            last_end = _end(events[around.pop()])
        if around:
            own[around[-1]] -= event["dur"]
            inner[around[-1]] += 1
        elif last_end is not None:
            gaps.append(event["ts"] - last_end)
        around.append(place)
    writing_us = statistics.median_grouped(gaps) if gaps else 0.0
    found: list[Part | None] = [_region(event["name"]) for event in events]
    if any(found):
        last = next(region for region in found if region)
        for place, region in enumerate(found):
            last = found[place] = region or last
    return [
        Call(event["args"]["op_name"], region, max(0.0, time - writing_us * count) / 1e3)
        for event, region, time, count in zip(events, found, own, inner, strict=True)
    ]


def _end(event: Event) -> int:
    return event["ts"] + event["dur"]


def _region(name: str) -> Part | None:
    """From the beginning of a node's name."""
    first = name.partition("/")[0]
    return next((part for parts in PARTS.values() for part in parts if part == first), None)
