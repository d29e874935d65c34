"""The parts of `vlmp-profile` that need no bundle: turns, medians, refusals, and what profilers' events are read as."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from session_cases import ONE, TWO, make_manifest
from vlmp.runtimes import Session
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest, MethodName, StageSpec
from vlmp.runtimes.profile.cache import cached_share, drop
from vlmp.runtimes.profile.compare import check_alike, differences, explain, ratio
from vlmp.runtimes.profile.executorch import Step, read_steps, split_steps
from vlmp.runtimes.profile.machine import busy_warning, describe_machine
from vlmp.runtimes.profile.measure import measure, to_phase, to_phases
from vlmp.runtimes.profile.onnx import split_runs
from vlmp.runtimes.profile.schema import (
    PARTS,
    BundleFacts,
    BundleProfile,
    InParts,
    Machine,
    Phase,
    Profile,
    Settings,
    StageFacts,
    json_schema,
    read_profile,
    write_profile,
)
from vlmp.runtimes.profile.table import head
from vlmp.runtimes.profile.task import Task, bundle_facts
from vlmp.runtimes.profile.trace import Call, Run, summarize
from vlmp.runtimes.session import Array
from vlmp.runtimes.turn import Timings

ROOT = Path(__file__).parents[3]
PHOTO = ROOT / "runtimes/assets/photo.jpg"
SCHEMA = ROOT / "runtimes/profile/profile.schema.json"


class Clock:
    """Time that passes only when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedSession(Session):
    """A session of which every method takes as long as it is told; slow on the first call, as real ones are."""

    def __init__(self, name: str, log: list[tuple[str, str]], clock: Clock, cost_s: Mapping[str, float]) -> None:
        super().__init__(make_manifest())
        self.name, self.log, self.clock, self.cost_s = name, log, clock, cost_s

    @property
    def runtime(self) -> str:
        return "fake 1"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        first = (self.name, method) not in self.log
        self.log.append((self.name, method))
        self.clock.now += 100.0 if first else self.cost_s[method]
        return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.manifest.method(method).outputs}


def test_sessions_take_turns_and_the_first_one_of_each_does_not_count() -> None:
    log: list[tuple[str, str]] = []
    clock = Clock()
    costs = {"vision": 0.03, "prefill": 0.05, "decode": 0.002}
    a = TimedSession("a", log, clock, costs)
    b = TimedSession("b", log, clock, {name: 2 * cost for name, cost in costs.items()})
    turns: list[int] = []
    taken = measure(
        [a, b], [[40], [41, 42]], PHOTO, runs=5, decode_tokens=3, clock=clock, on_run=lambda: turns.append(len(turns))
    )
    one = ["vision", "prefill", "decode", "decode", "decode"]
    assert log == [(name, method) for name in "ab" * 6 for method in one]
    assert len(turns) == 12
    assert [len(timings) for timings in taken] == [5, 5]
    for timings, factor in zip(taken, (1, 2), strict=True):
        for timing in timings:
            assert timing.vision_ms == pytest.approx(30 * factor)
            assert timing.prefill_ms == pytest.approx(50 * factor)
            assert timing.decode_ms == pytest.approx(3 * 2 * factor)
            assert timing.first_token_ms == pytest.approx(80 * factor)


def timing(prefill_ms: float) -> Timings:
    return Timings(
        load_ms=1, preprocess_ms=2, vision_ms=3, prefill_ms=prefill_ms, decode_ms=40, decoded_tokens=10
    )  # fmt: skip


@pytest.mark.parametrize("method", ["vision", "prefill"])
def test_parts_of_a_method_add_up_to_it_run_by_run(method: InParts) -> None:
    shares = dict(zip(PARTS[method], (0.3, 0.1, 0.6), strict=True))
    phases = to_phases([timing(ms) for ms in (8, 30, 10, 12, 9)], shares)
    parts = list(PARTS[method].values())
    assert {name for name in phases if name.startswith(("vision_", "prefill_"))} == set(parts)
    assert sum(phases[part].median_ms for part in parts) == pytest.approx(phases[method].median_ms)
    for number, whole in enumerate(phases[method].samples_ms):
        assert [phases[part].samples_ms[number] / whole for part in parts] == pytest.approx([0.3, 0.1, 0.6])
    assert phases["decode"].samples_ms == [4.0] * 5
    assert phases["first_token"].samples_ms == [13, 35, 15, 17, 14]


def test_where_regions_are_unknown_prefill_is_one_phase() -> None:
    assert list(to_phases([timing(8)], {})) == ["preprocess", "vision", "prefill", "decode", "first_token"]


def test_a_phase_tells_median_and_quartiles() -> None:
    phase = to_phase([5, 1, 4, 2, 3])
    assert (phase.low_ms, phase.median_ms, phase.high_ms) == (2, 3, 4)
    assert phase.samples_ms == [5, 1, 4, 2, 3]


# --- Unlike bundles ---------------------------------------------------------------------------------------------------


def changed(**fields: Any) -> Manifest:
    """A manifest with some fields replaced; `image__height` is that of the image of its shape."""
    manifest = make_manifest()
    update: dict[str, Any] = {}
    for name, value in fields.items():
        section, _, field = name.partition("__")
        if section in ("image", "kv"):
            part = getattr(manifest.shape, section).model_copy(update={field: value})
            update["shapes"] = [manifest.shape.model_copy(update={section: part})]
        elif section == "stages":
            stages = [stage.model_copy(update=value) for stage in manifest.shape.stages]
            update["shapes"] = [manifest.shape.model_copy(update={"stages": stages})]
        else:
            update[section] = getattr(manifest, section).model_copy(update={field: value}) if field else value
    return manifest.model_copy(update=update)


TOOLS = {"vlmp": "1", "torch": "2.13.0"}
UNLIKE = [
    ({"model": "other"}, "model m against other"),
    ({"checkpoint": "other"}, "checkpoint c against other"),
    ({"target": "onnx"}, "target fake against onnx"),
    ({"precision": "float16"}, "precision float32 against float16"),
    ({"quantization": "int8"}, "quantization none against int8"),
    ({"image__height": 112}, "image size 56x56 against 112x56"),
    ({"image__fit": "stretch"}, "image fit pad against stretch"),
    ({"kv__update": "in_place"}, "cache update rows against in_place"),
    ({"tools": {"vlmp": "1", "torch": "2.14.0"}}, "torch 2.13.0 against 2.14.0"),
    ({"prompt__text_len": 64}, "prompt bucket 20 against 64"),
    ({"prompt__max_new_tokens": 99}, "room for new tokens 12 against 99"),
]


@pytest.mark.parametrize(("fields", "says"), UNLIKE, ids=[says.split(" against")[0] for _, says in UNLIKE])
def test_unlike_bundles_are_refused_with_what_differs(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        check_alike(["x", "y"], [differences(changed(tools=TOOLS), changed(**{"tools": TOOLS, **fields}))])
    line = str(refused.value)
    assert says in line
    assert line.count(" against ") == 1
    assert "--different" in line
    assert "\n" not in line


def test_builds_of_one_release_are_alike() -> None:
    builds = [changed(tools={"torch": version}) for version in ("2.13.0+cu130", "2.13.0", "2.13.1")]
    assert differences(builds[0], builds[1]) == differences(builds[1], builds[0]) == []
    assert differences(builds[0], builds[2]) == ["torch 2.13.0 against 2.13.1"]


def test_bundles_that_differ_in_pruning_only_are_alike() -> None:
    other = changed(stages={"pruner": "none", "num_kept": 4, "index": 2})
    unlike = differences(changed(tools=TOOLS), other.model_copy(update={"tools": {"vlmp": "1"}}))
    assert unlike == []
    check_alike(["x", "y"], [unlike])


NAMES = [
    (["a/x", "b/y"], ["x", "y"]),
    (["a/x", "b/x", "c/y"], ["a/x", "b/x", "c/y"]),
    (["a/1/x", "b/1/x"], ["a/1/x", "b/1/x"]),
    (["a/x", "a/x", "b/y", "a/../a/x"], ["x", "x (2)", "y", "x (3)"]),
    (["a/x", "b/x", "a/x"], ["a/x", "b/x", "a/x (2)"]),
    (["x", "x (2)", "x"], ["x", "x (2)", "x (3)"]),
    (["x", "x", "x (2)"], ["x", "x (3)", "x (2)"]),
]


@pytest.mark.parametrize(("folders", "names"), NAMES, ids=["; ".join(folders) for folders, _ in NAMES])
def test_names_tell_bundles_apart(folders: list[str], names: list[str], tmp_path: Path) -> None:
    task = Task(
        folders=[tmp_path / folder for folder in folders], manifests=[], photo=PHOTO, photo_size=(1, 1), prompt="",
        runs=5, decode_tokens=1, threads=None,
    )  # fmt: skip
    assert task.names == names


def test_folders_at_the_root_have_names() -> None:
    task = Task(
        folders=[Path("/x"), Path("/a/x")], manifests=[], photo=PHOTO, photo_size=(1, 1), prompt="", runs=5,
        decode_tokens=1, threads=None,
    )  # fmt: skip
    assert task.names == ["/x", "a/x"]


def facts(pruner: str, stages: Sequence[StageFacts] = ()) -> BundleFacts:
    return BundleFacts(
        model="m", checkpoint="c", target="onnx", precision="float32", quantization="none", image=(56, 56),
        text_len=20, layers=3, pruner=pruner, prune_layer=1, visual_tokens=4, kept_tokens=2, stages=list(stages),
    )  # fmt: skip


def bundle(name: str, pruner: str, stages: Sequence[StageFacts] = (), **medians_ms: float) -> BundleProfile:
    phases: dict[Any, Phase] = {phase: to_phase([ms]) for phase, ms in medians_ms.items()}
    return BundleProfile(
        name=name, manifest=facts(pruner, stages), runtime="fake 1", size_mib=1.0, phases=phases,
        prefill_split="not split", cold_cached_share=None, memory=None,
    )  # fmt: skip


SLOW = {"preprocess": 10.0, "vision": 50.0, "prefill": 140.0, "first_token": 200.0}
FAST = {
    "preprocess": 10.0, "vision": 50.0, "prefill": 40.0, "first_token": 100.0,
    "prefill_before": 20.0, "prefill_pruner": 4.0, "prefill_after": 16.0,
}  # fmt: skip


@pytest.mark.parametrize("swap", [False, True])
def test_the_explanation_says_what_pruning_cannot_touch(swap: bool) -> None:
    pair = [bundle("slow", "none", **SLOW), bundle("fast", "vlm-pruner", **FAST)]
    line = explain(*(reversed(pair) if swap else pair), [])
    assert line.startswith("fast reaches the first token 2.00 times as fast as slow.")
    assert "60.0 ms (30%) are picture and vision" in line
    assert "would make it 3.33 times as fast" in line
    assert "Its prefill is 3.50 times as fast" in line
    assert "take 50% of it, the pruner 10%, layers after it 40%" in line


@pytest.mark.parametrize("swap", [False, True])
def test_the_explanation_of_a_stage_in_the_tower_counts_vision_to_what_pruning_changes(swap: bool) -> None:
    tower = StageFacts(place="vision", layer=2, pruner="local", kept_tokens=3)
    parts = {"vision": 25.0, "vision_before": 10.0, "vision_pruner": 5.0, "vision_after": 10.0, "first_token": 75.0}
    # A median of sums may be less than the sum of medians: what is fixed is not what is left of it.
    slow = SLOW | {"first_token": 195.0}
    pair = [bundle("slow", "none", **slow), bundle("fast", "local+vlm-pruner", [tower], **FAST | parts)]
    assert explain(*(reversed(pair) if swap else pair), []) == (
        "fast reaches the first token 2.60 times as fast as slow. Of slow's 195.0 ms, 10.0 ms (5%) are the picture, "
        "which pruning does not touch. "
        "Its vision is 2.00 times as fast; blocks before the stage, which see all patches, take 40% of it, the stage "
        "20%, what comes after it 40%. Its prefill is 3.50 times as fast; layers before the pruner, which see all "
        "tokens, take 50% of it, the pruner 10%, layers after it 40%."
    )


def test_the_explanation_of_unlike_bundles_blames_no_pruning() -> None:
    line = explain(bundle("a", "none", **SLOW), bundle("b", "none", **FAST), ["target onnx against executorch"])
    assert line == "a and b differ in target onnx against executorch: their ratio has more than one cause."


def test_there_is_no_ratio_to_what_takes_no_time() -> None:
    assert [ratio(3, 2), ratio(0, 2), ratio(2, 0)] == ["1.50", "-", "-"]


# --- Stages -----------------------------------------------------------------------------------------------------------


def test_facts_of_a_bundle_name_every_stage() -> None:
    found = bundle_facts(make_manifest(stages=TWO))
    assert [(stage.layer, stage.pruner, stage.kept_tokens) for stage in found.stages] == [
        (1, "vlm-pruner", 3), (2, "vlm-pruner", 2),
    ]  # fmt: skip
    assert (found.pruner, found.prune_layer, found.kept_tokens) == ("vlm-pruner+vlm-pruner", 1, 2)
    assert (found.places, found.kept) == ("1, 2", "3, 2")


def test_the_head_of_a_column_tells_what_each_stage_keeps() -> None:
    staged = bundle("x", "vlm-pruner").model_copy(update={"manifest": bundle_facts(make_manifest(stages=TWO))})
    assert head(staged) == "x\nvlm-pruner+vlm-pruner, 3, 2 of 4 tokens"
    assert head(bundle("x", "vlm-pruner")) == "x\nvlm-pruner, 2 of 4 tokens"


def test_an_older_profile_names_no_stages(tmp_path: Path) -> None:
    raw = profile().model_dump(mode="json")
    assert raw["bundles"][0]["manifest"].pop("stages") == []
    assert raw["bundles"][0].pop("vision_split") == ""
    (tmp_path / "older.json").write_text(json.dumps(raw))
    (found,) = read_profile(tmp_path / "older.json").bundles
    assert (found.manifest.stages, found.manifest.places, found.manifest.kept) == ([], "1", "2")
    jsonschema.validate(raw, json.loads(json_schema()))


def test_bundles_that_differ_in_stages_only_are_alike() -> None:
    one, two = (make_manifest(stages=stages).model_copy(update={"tools": TOOLS}) for stages in (ONE, TWO))
    assert differences(one, two) == []


# --- Files ------------------------------------------------------------------------------------------------------------


def profile() -> Profile:
    return Profile(
        created="2026-01-01T00:00:00+00:00",
        command="vlmp-profile slow",
        machine=Machine(kind="android", name="n", os="o", cpu="c", cores=8, memory_mib=1.0, runtimes={"fake": "1"}),
        settings=Settings(runs=5, decode_tokens=1, threads=None, prompt="p", photo="x.jpg", photo_size=(1, 1)),
        bundles=[bundle("slow", "none", **SLOW)],
    )


def test_the_schema_file_is_current() -> None:
    command = "python -c 'from vlmp.runtimes.profile.schema import json_schema; print(json_schema(), end=\"\")'"
    assert SCHEMA.read_text(encoding="utf-8") == json_schema(), f"stale: {command} > {SCHEMA.relative_to(ROOT)}"


def test_a_written_profile_reads_back(tmp_path: Path) -> None:
    write_profile(profile(), tmp_path / "out.json")
    assert read_profile(tmp_path / "out.json") == profile()
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.json").write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_profile(profile(), tmp_path / "out.json")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.json", "old")]


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "cannot be read"), ("[]", "schema version None"), ('{"schema_version": 99}', "version 99"),
     ('{"schema_version": 1}', "created: Field required")],
)  # fmt: skip
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "out.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read_profile(tmp_path / "out.json")


def test_dropped_files_are_no_longer_cached(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(1 << 20))
    before = cached_share([file])
    if before is None or not drop([file]):
        pytest.skip("this system does not tell")
    after = cached_share([file])
    assert before == 1.0
    assert after is not None
    assert after in (0.0, 1.0)  # files in memory, as on a tmpfs, stay


def test_the_machine_is_described() -> None:
    machine = describe_machine(["onnxruntime 1.2.3", "executorch 4.5 (XNNPACK)"])
    assert machine.runtimes == {"onnxruntime": "1.2.3", "executorch": "4.5 (XNNPACK)"}
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_mib > 100
    idle, busy = (machine.model_copy(update={"facts": {"load average": load}, "cores": 2}) for load in ("0.1", "3.0"))
    assert busy_warning(idle) == ""
    assert "load average 3.0 on 2 cores" in busy_warning(busy)


# --- Events -----------------------------------------------------------------------------------------------------------


def test_operators_are_the_least_of_what_each_run_adds_up_to() -> None:
    runs = [
        Run(total_ms=9, calls=[Call("Add", "before", ms), Call("Add", "before", 1), Call("Add", "after", 2)])
        for ms in (3, 1.5, 100)
    ]
    found = [(o.region, o.op, o.calls, o.ms) for o in summarize("prefill", runs)]
    assert found == [("before", "Add", 2, 2.5), ("after", "Add", 1, 2)]


def node(name: str, op: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op}}


@pytest.mark.parametrize("method", ["vision", "prefill"])
def test_onnx_events_become_runs_with_regions_and_own_times(method: InParts) -> None:
    before, pruner, after = PARTS[method]

    def whole(ts: int) -> dict[str, Any]:
        return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 200, "args": {}}

    def run(ts: int) -> list[dict[str, Any]]:
        return [
            node(f"{before}/a", "Gemm", ts, 50),
            node("made_by_the_runtime", "Transpose", ts + 52, 10),
            # As the runtime writes them: a loop ends after what is in it.
            node(f"{pruner}/body1", "Add", ts + 70, 5),
            node(f"{pruner}/body2", "Where", ts + 77, 5),
            node(f"{pruner}/loop", "Loop", ts + 64, 36),
            node(f"{after}/z", "Gemm", ts + 102, 60),
        ]

    events = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9, "args": {}}]
    events += [*run(1000), whole(999), *run(2000), whole(1999)]
    runs = split_runs(events)
    assert [run.total_ms for run in runs] == [0.2, 0.2]
    for found in runs:
        assert [(call.op, call.region) for call in found.calls] == [
            ("Gemm", before), ("Transpose", before), ("Loop", pruner), ("Add", pruner), ("Where", pruner),
            ("Gemm", after),
        ]  # fmt: skip
        # 36 in all, 10 of them its body's, about 2 for each event of the body that had to be written.
        assert found.calls[2].ms == pytest.approx(0.022, abs=0.001)
        assert found.calls[0].ms == pytest.approx(0.05)


def test_onnx_events_without_names_of_ours_have_no_region() -> None:
    events = [node("a", "Gemm", 10, 5), {"cat": "Session", "name": "model_run", "ts": 9, "dur": 9, "args": {}}]
    assert [call.region for call in split_runs(events)[0].calls] == [None]


def event(name: str | None, start: int, end: int, delegated: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(name=name, start_time=start, end_time=end, delegate_debug_id_str=delegated)


def numbered(op: str, number: int) -> str:
    """As XNNPACK names its operators."""
    return f"{op} #{number}"


def test_executorch_events_become_steps() -> None:
    total_ms, steps = read_steps(
        [
            event("native_call_add.out", 0, 1_000_000),
            event("OPERATOR_CALL", 0, 1_200_000),
            event(numbered("Fully Connected (NC, F32) GEMM", 12), 2_000_000, 4_000_000),
            event(None, 4_000_000, 4_500_000, numbered("Softmax (NC, F32)", 1)),
            event("DELEGATE_CALL", 2_000_000, 5_000_000),
            event("Method::execute", 0, 6_000_000),
        ]
    )
    assert total_ms == 6
    assert [step.delegate for step in steps] == [False, True]
    assert steps[0].calls == [("add.out", 1.0)]
    assert [op for op, _ in steps[1].calls] == [
        "Fully Connected (NC, F32) GEMM", "Softmax (NC, F32)", "delegate, the rest",
    ]  # fmt: skip
    assert [ms for _, ms in steps[1].calls] == pytest.approx([2, 0.5, 0.5])


def delegate(*ops: str) -> Step:
    return Step(calls=[(op, 1.0) for op in ops], delegate=True)


PORTABLE = Step(calls=[("add.out", 1.0)], delegate=False)
LAYERS = delegate("Fully Connected", "Softmax")


def test_the_pruner_is_between_the_delegates_with_most_around_it() -> None:
    steps = [
        PORTABLE,
        LAYERS,
        PORTABLE,
        PORTABLE,
        delegate("Batch Matrix Multiply"),
        PORTABLE,
        LAYERS,
        PORTABLE,
        LAYERS,
    ]
    regions, split = split_steps("prefill", steps, make_manifest())
    assert split.startswith("split by")
    assert regions == ["before"] * 3 + ["pruner"] * 4 + ["after"] * 5


def test_before_the_language_model_nothing_is_before_the_pruner() -> None:
    regions, _ = split_steps("prefill", [PORTABLE, PORTABLE, LAYERS, PORTABLE, LAYERS], changed(stages={"index": 0}))
    assert regions == ["pruner"] * 2 + ["after"] * 5


SMALL, LARGE = [PORTABLE] * 2, [PORTABLE] * 5


@pytest.mark.parametrize(("first", "second"), [(SMALL, LARGE), (LARGE, SMALL), (LARGE, LARGE)])
def test_between_two_pruners_it_is_after_the_first(first: list[Step], second: list[Step]) -> None:
    """Around a delegate of layers there is one portable step, as around the head."""
    steps = [PORTABLE, LAYERS, PORTABLE, LAYERS, *first, LAYERS, PORTABLE, LAYERS, *second, LAYERS, PORTABLE, LAYERS]
    regions, split = split_steps("prefill", steps, make_manifest(stages=TWO))
    assert split.startswith("split by")
    assert regions == (
        ["before"] * 6 + ["pruner"] * len(first) + ["after"] * 5 + ["pruner"] * len(second) + ["after"] * 5
    )  # fmt: skip


def test_the_first_of_two_pruners_may_stand_before_the_language_model() -> None:
    steps = [PORTABLE, PORTABLE, LAYERS, PORTABLE, LAYERS, PORTABLE, PORTABLE, LAYERS]
    regions, _ = split_steps("prefill", steps, make_manifest(stages=((0, 3), (2, 2))))
    assert regions == ["pruner"] * 2 + ["after"] * 5 + ["pruner"] * 2 + ["after"] * 2


def test_too_few_delegates_for_two_pruners_are_not_split() -> None:
    steps = [LAYERS, PORTABLE, LAYERS]
    assert split_steps("prefill", steps, make_manifest())[0] == ["before"] * 2 + ["pruner"] + ["after"] * 2
    regions, split = split_steps("prefill", steps, make_manifest(stages=TWO))
    assert (regions, split[:9]) == ([None] * 5, "not split")


def with_tower(manifest: Manifest, block: int = 2) -> Manifest:
    """With a stage in the vision tower."""
    tower = StageSpec(
        place="vision", index=block, pruner="local", tokens=4, num_kept=2, form="rebuilt", settings={}, loop="scan",
        exact=True,
    )  # fmt: skip
    shape = manifest.shape.model_copy(update={"stages": [tower, *manifest.shape.stages]})
    return manifest.model_copy(update={"shapes": [shape]})


def test_the_stage_in_the_tower_is_where_most_steps_are_and_the_rebuilding_is_after_it() -> None:
    rebuilding = [PORTABLE, delegate("Batch Matrix Multiply"), PORTABLE]
    steps = [PORTABLE, LAYERS, *LARGE, delegate("Softmax"), LAYERS, *rebuilding, LAYERS]
    parts, split = split_steps("vision", steps, with_tower(make_manifest()))
    assert split.startswith("split by")
    assert parts == ["vision_before"] * 3 + ["vision_pruner"] * 6 + ["vision_after"] * 7


def test_before_the_first_block_the_patches_are_before_the_stage() -> None:
    steps = [PORTABLE, delegate("Convolution (NHWC, F32) IGEMM"), *LARGE, LAYERS, PORTABLE, LAYERS]
    parts, _ = split_steps("vision", steps, with_tower(make_manifest(), block=0))
    assert parts == ["vision_before"] * 2 + ["vision_pruner"] * 5 + ["vision_after"] * 5


def test_prefill_after_a_stage_in_the_tower_has_its_own_pruners_alone() -> None:
    steps = [PORTABLE, LAYERS, *LARGE, LAYERS, *SMALL, LAYERS]
    parts, split = split_steps("prefill", steps, with_tower(make_manifest()))
    assert parts == ["before"] * 3 + ["pruner"] * 5 + ["after"] * 6
    parts, split = split_steps("prefill", steps, with_tower(changed(stages={"pruner": "none", "index": 0})))
    assert "counting" in split
    assert set(parts) == {"before", "after"}


def test_without_a_pruner_the_linear_layers_are_counted() -> None:
    """Three decoder layers of two linear ones, pruned before layer 1, and a head."""
    linear = ["Fully Connected", "Add"] * 6
    regions, split = split_steps("prefill", [PORTABLE, delegate(*linear), delegate("Fully Connected")],
                                     changed(stages={"pruner": "none"}))  # fmt: skip
    assert "counting" in split
    assert regions == ["before"] * 5 + ["after"] * 9


def test_where_no_delegate_has_linear_layers_prefill_is_one() -> None:
    regions, split = split_steps("prefill", [PORTABLE, PORTABLE], make_manifest())
    assert split.startswith("not split")
    assert regions == [None, None]
