"""Schedules of stages: how they are spelled, what is refused of them, and that the short form is one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vlmp.export import cli
from vlmp.export.config import ExportConfig
from vlmp.export.eager import Eager, open_eager
from vlmp.export.plan import make_plan, open_source
from vlmp.export.schedule import (
    DEFAULT_KEEP,
    SCHEDULES,
    Layer,
    Stage,
    Vision,
    check_place,
    check_schedule,
    joined,
    layer_of,
    least_layer,
    named_schedule,
    parse_pruner,
    parse_schedule,
    parse_stage,
)
from vlmp.pruner import PRUNERS, SETTINGS, TRAITS, PrunerConfig
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import OneLineParser

BASE = ["--model", "vlmp-tiny", "--target", "onnx", "--output", "out", "--image-size", "112"]


def stage(index: int, keep: float, pruner: str = "vlm-pruner", *, published: bool = False, **settings: float) -> Stage:
    return Stage(place=Layer(index), keep=keep, pruner=pruner, settings=settings, published=published)


# --- Spelling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2:0.222", stage(2, 0.222)),
        ("4:0.111:divprune", stage(4, 0.111, "divprune")),
        ("0:.5:random", stage(0, 0.5, "random")),
        ("27:1:uniform", stage(27, 1, "uniform")),
        ("2:1:none", stage(2, 1, "none")),
        ("first:0.222", Stage(place=Layer(1, first=True), keep=0.222)),
        ("first:0.5:divprune", Stage(place=Layer(0, first=True), keep=0.5, pruner="divprune")),
        ("2:0.111:vlm-pruner,batch=4,pivots=8", stage(2, 0.111, batch=4, pivots=8)),
        ("2:1e-1:vlm-pruner,settings=published", stage(2, 0.1, published=True)),
        ("3:0.5:vlm-pruner,bss_weight=0,settings=published", stage(3, 0.5, published=True, bss_weight=0.0)),
        ("3:0.5:random,seed=12345678901", stage(3, 0.5, "random", seed=12345678901)),
        ("vision.2:0.5:local,weigh=1", Stage(place=Vision(2), keep=0.5, pruner="local", settings={"weigh": 1})),
        ("vision.25%:0.5:local", Stage(place=Vision(25, percent=True), keep=0.5, pruner="local")),
        ("vision.0:0.5:local,form=dropped", Stage(place=Vision(0), keep=0.5, pruner="local", form="dropped")),
    ],
)
def test_one_stage(text: str, wanted: Stage) -> None:
    found = parse_stage(text)
    assert found == wanted
    assert parse_schedule(text) == named_schedule(text) == (wanted,)
    assert all(type(value) is SETTINGS[name] for name, value in found.settings.items())


def test_several_stages() -> None:
    text = "vision.1:0.6:local,weigh=1,form=dropped+0:0.5:divprune+2:0.3:fastv+3:0.2:dart,pivots=2"
    seen = Stage(place=Vision(1), keep=0.6, pruner="local", settings={"weigh": 1}, form="dropped")
    wanted = (seen, stage(0, 0.5, "divprune"), stage(2, 0.3, "fastv"), stage(3, 0.2, "dart", pivots=2))
    assert parse_schedule(text) == wanted
    assert joined(wanted) == text
    assert joined(parse_schedule("2:0.222+4:0.111")) == "2:0.222:vlm-pruner+4:0.111:vlm-pruner"


@pytest.mark.parametrize("name", SCHEDULES)
def test_named_schedules_are_schedules(name: str) -> None:
    stages = named_schedule(name)
    assert stages == parse_schedule(SCHEDULES[name])
    assert stages[-1].keep <= 0.5
    assert joined(stages) == joined(parse_schedule(joined(stages)))


@pytest.mark.parametrize(("name", "block"), [("gentle", 2), ("fast", 1), ("fastest", 1)])
def test_named_schedules_in_a_model_of_four_blocks(name: str, block: int) -> None:
    config = ExportConfig(model="vlmp-tiny", targets=(), output=Path(), stages=named_schedule(name))
    geometry = open_source(config).geometry
    assert geometry.tower is not None
    assert (geometry.tower.block, [cut.layer for cut in geometry.cuts]) == (block, [1])


def test_the_paper_prunes_once_with_its_own_settings() -> None:
    assert named_schedule("paper") == (stage(2, DEFAULT_KEEP, published=True),)
    assert ExportConfig(model="m", targets=(), output=Path(), stages=named_schedule("paper")).schedule[0].published


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Stage, ...]:
    """Of any methods but `none`, with any settings, also those that a method would refuse."""
    count = draw(st.integers(1, 4))
    layers = draw(st.sets(st.integers(1, 40), min_size=count, max_size=count))
    keeps = draw(st.sets(st.floats(0, 1, exclude_min=True), min_size=count, max_size=count))
    stages = []
    for layer, keep in zip(sorted(layers), sorted(keeps, reverse=True), strict=True):
        pruner = draw(st.sampled_from([name for name in PRUNERS if name != "none"]))
        given = {
            name: draw(st.integers() if SETTINGS[name] is int else st.floats(allow_nan=False))
            for name in TRAITS[pruner].settings
            if draw(st.booleans())
        }
        stages.append(stage(layer, keep, pruner, published=draw(st.booleans()), **given))
    return tuple(stages)


@settings(deadline=None)
@given(stages=schedules())
def test_what_is_written_is_read_again(stages: tuple[Stage, ...]) -> None:
    """To the last bit: it names files of answers, and tells apart what they depend on."""
    assert parse_schedule(joined(stages)) == stages


# --- Places -----------------------------------------------------------------------------------------------------------


def test_each_method_has_its_place() -> None:
    assert {name: layer_of(name) for name in PRUNERS} == dict.fromkeys(PRUNERS, 2) | {"divprune": 0}
    assert {name for name in PRUNERS if least_layer(name)} == {"vlm-pruner", "fastv", "dart"}


def test_the_vision_tower_is_a_place_of_its_own_before_all_layers() -> None:
    seen = Stage(place=Vision(8), keep=0.5, pruner="uniform")
    assert str(seen) == "vision.8:0.5:uniform"
    check_schedule([seen, stage(0, 0.6, "uniform")])  # which chooses among all again
    check_schedule([replace(seen, form="dropped"), stage(0, 0.4, "uniform")])
    with pytest.raises(UserError, match=r"^--stage vision.8:0.5:uniform: must come after .*, at 0$"):
        check_schedule([stage(0, 0.6, "uniform"), seen])
    check_place(replace(seen, place=Vision(0)), "x")
    with pytest.raises(UserError, match=r"^x: .* keys of the block before, so it must be at least vision\.1$"):
        check_place(Stage(place=Vision(0), keep=0.5), "x")


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("vision.50%:0.5:local", 2),
        ("vision.60%:0.5:local", 2),
        ("vision.99%:0.5:local", 3),
        ("vision.0%:0.5:local", 0),
        ("vision.0%:0.5:dart", 1),  # which chooses by keys
    ],
)
def test_a_share_of_the_tower_is_a_block_of_it(text: str, block: int) -> None:
    """Of four."""
    source = open_source(config_of(stages=parse_schedule(text)))
    assert source.geometry.tower is not None
    assert source.geometry.tower.block == block


def test_after_a_stage_in_the_vision_tower_the_language_model_keeps_all_that_come() -> None:
    config = config_of(stages=parse_schedule("vision.2:0.5:local"))
    assert config.schedule[1:] == (Stage(place=Layer(0), keep=1, pruner="none"),)
    for form, left in (("rebuilt", 16), ("dropped", 8)):
        geometry = open_source(config_of(stages=parse_schedule(f"vision.2:0.5:local,form={form}"))).geometry
        assert (geometry.handed, [cut.kept for cut in geometry.cuts]) == (left, [left])


# --- Refusals ---------------------------------------------------------------------------------------------------------


STAGES: list[tuple[str, list[str]]] = [
    # pruners and settings
    ("2:0.5:fastest", ["unknown pruner 'fastest'", *PRUNERS]),
    ("2:0.5:dart:pivots=2", ["unknown pruner 'dart:pivots=2'"]),
    ("2:0.5:,pivots=2", ["unknown pruner ''"]),
    ("2:0.5:dart,batch=4", ["dart has no setting 'batch'", "it takes pivots, weigh, settings=published"]),
    ("2:0.5:uniform,seed=1", ["uniform has no setting 'seed'", "it takes weigh, settings=published"]),
    ("2:0.5:vlm-pruner,num_kept=4", ["no setting 'num_kept'", *TRAITS["vlm-pruner"].settings]),
    ("2:0.5:dart,", ["dart has no setting ''"]),
    ("2:0.5:dart,settings=mine", ["dart has no setting 'settings'"]),
    ("2:0.5:dart,pivots=four", ["pivots=four must be a whole number"]),
    ("2:0.5:dart,pivots=4.5", ["pivots=4.5 must be a whole number"]),
    ("2:0.5:dart,pivots", ["pivots= must be a whole number"]),
    ("2:0.5:vlm-pruner,threshold=high", ["threshold=high must be a number"]),
    ("2:0.5:dart,pivots=2,pivots=2", ["pivots is given twice"]),
    ("2:0.5:vlm-pruner,fuse_weight=2", ["pruner vlm-pruner: fuse_weight=2.0: must lie in [0, 1]"]),
    ("2:0.5:vlm-pruner,bss_weight=nan", ["bss_weight=nan: must be finite"]),
    ("2:0.5:vlm-pruner,threshold_step=1e-9", ["threshold_step=1e-09", "raise the step"]),
    ("2:0.5:vlm-pruner,pivots=0", ["pivots=0: must be at least 1"]),
    ("2:0.5:random,seed=-1", ["seed=-1: must be at least 0"]),
    # shares
    ("2:0", ["--stage 2:0: '0' must be the kept share", "greater than 0 and at most 1"]),
    ("2:1.1", ["'1.1' must be the kept share"]),
    ("2:-0.5", ["'-0.5' must be the kept share"]),
    ("2:nan", ["'nan' must be the kept share"]),
    ("2:half", ["'half' must be the kept share"]),
    ("2:0.5+3:0.4", ["'0.5+3' must be the kept share"]),
    ("2::dart", ["'' must be the kept share"]),
    ("2:0.1", ["--stage 2:0.1:vlm-pruner keeps 2 of 16", "at least 4 are needed", "at least 0.25"]),
    ("2:0.3:dart,pivots=8", ["pivots=8 keeps 5 of 16", "at least 8 are needed", "at least 0.5"]),
    ("2:0.5:dart,pivots=17", ["gives 16 visual tokens, pruner dart starts from 17"]),
    ("2:0.01:uniform", ["keeps 0 of 16", "at least 1 are needed"]),
    ("2:0.5:none", ["pruner none keeps all visual tokens, so its share is 1"]),
    # parts
    ("", ["must be PLACE:KEEP", "PLACE is a decoder layer"]),
    ("2", ["--stage 2: must be PLACE:KEEP"]),
    ("2:", ["--stage 2:: must be PLACE:KEEP"]),
    ("2:0.5:", ["--stage 2:0.5:: must be PLACE:KEEP"]),
    (":0.5", ["--stage :0.5: must be PLACE:KEEP"]),
    ("two:0.5", ["--stage two:0.5: must be PLACE:KEEP"]),
    ("-1:0.5", ["--stage -1:0.5: must be PLACE:KEEP"]),
    ("2.5:0.5", ["--stage 2.5:0.5: must be PLACE:KEEP"]),
    ("٢:0.5", ["must be PLACE:KEEP"]),
    ("vision:0.5", ["--stage vision:0.5: must be PLACE:KEEP"]),
    # places
    (
        "vision.8:0.5",
        ["--stage vision.8:0.5:vlm-pruner: this model's vision tower has 4 blocks, so vision.1 to vision.3"],
    ),
    ("vision.100%:0.5", ["--stage vision.100%:0.5: must be PLACE:KEEP", "or vision.25% in the vision tower"]),
    ("25%:0.5", ["--stage 25%:0.5: must be PLACE:KEEP"]),
    ("vision.0:0.5", ["pruner vlm-pruner chooses by the keys of the block before", "at least vision.1"]),
    ("vision.2:1:none", ["pruner none keeps all visual tokens, leave the stage in the vision tower out"]),
    ("vision.2:0.5:local,form=merged", ["form=merged must be form=rebuilt or form=dropped"]),
    ("vision.2:0.5:local,form=dropped,form=dropped", ["form is given twice"]),
    ("2:0.5:local,form=dropped", ["form is of a stage in the vision tower, others drop what they do not keep"]),
    ("0:0.5", ["--stage 0:0.5: pruner vlm-pruner chooses by the keys of the layer before", "at least 1"]),
    ("0:0.5:fastv", ["pruner fastv chooses by the attention of the layer before", "at least 1"]),
    ("0:0.5:dart", ["pruner dart chooses by the keys of the layer before", "at least 1"]),
    ("6:0.5", ["--stage 6:0.5:vlm-pruner: this model has 6 layers, so 1 to 5"]),
    ("9999:0.5:uniform", ["--stage 9999:0.5:uniform: this model has 6 layers, so 0 to 5"]),
]

SEVERAL: list[tuple[str, list[str]]] = [
    ("2:0.5+2:0.3", ["--stage 2:0.3:vlm-pruner: must come after the stage before it, at 2"]),
    ("3:0.5+2:0.3:dart", ["--stage 2:0.3:dart: must come after the stage before it, at 3"]),
    ("2:0.5+3:0.5", ["--stage 3:0.5:vlm-pruner: must keep less than the stage before it, 0.5"]),
    ("2:0.3+3:0.5", ["--stage 3:0.5:vlm-pruner: must keep less than the stage before it, 0.3"]),
    ("1:1:none+2:0.5", ["pruner none keeps all visual tokens, leave its stage out"]),
    ("1:0.5+2:1:none", ["pruner none keeps all visual tokens, leave its stage out"]),
    ("1:0.33+2:0.32", ["--stage 2:0.32:vlm-pruner keeps 5 of 16", "as many as the stage before it", "--image-size"]),
    ("1:0.99:uniform+2:0.98", ["keeps 16 of 16", "as many as the stage before it"]),
    ("1:0.5+2:0.1", ["--stage 2:0.1:vlm-pruner keeps 2 of 16", "at least 4"]),
    ("1:0.5+6:0.3", ["--stage 6:0.3:vlm-pruner: this model has 6 layers, so 1 to 5"]),
    ("vision.2:0.5+vision.3:0.3", ["one stage in the vision tower is possible, vision.2:0.5:vlm-pruner is one"]),
    ("vision.3:0.5:local,form=dropped+2:0.6", ["must keep less than the stage before it, 0.5"]),
    ("vision.3:0.5:local+2:1:uniform", ["must keep less than all visual tokens, which vision.3 rebuilds"]),
    ("vision.3:0.5:local+2:0.99:uniform", ["keeps 16 of 16 visual tokens"]),
    ("3:0.5+vision.2:0.3", ["--stage vision.2:0.3:vlm-pruner: must come after the stage before it, at 3"]),
]

OPTIONS: list[tuple[list[str], list[str]]] = [
    (["--schedule", "poster"], ["unknown schedule 'poster'", *SCHEDULES, "2:0.222+4:0.111"]),
    (["--schedule", ""], ["unknown schedule ''"]),
    (["--schedule", "2:0.5+"], ["--stage : must be PLACE:KEEP"]),
    (["--schedule", "2:0.5++3:0.3"], ["--stage : must be PLACE:KEEP"]),
    (["--schedule", "2:0.5", "--stage", "3:0.3"], ["--schedule and --stage: both say where and how far to prune"]),
    (["--schedule", "paper", "--keep", "0.3"], ["--schedule and --keep: both say"]),
    (["--stage", "2:0.5", "--keep", "0.3"], ["--stage and --keep: both say"]),
    (["--stage", "2:0.5", "--pruner", "vlm-pruner"], ["--stage and --pruner: both say"]),
    (["--stage", "2:0.5", "--prune-layer", "2"], ["--stage and --prune-layer: both say", "leave one of them out"]),
    (["--schedule", "paper", "--schedule", "paper"], ["--schedule"]),
    (["--pruner", "dart,batch=4"], ["dart has no setting 'batch'"]),
    (["--pruner", "none", "--keep", "0.5"], ["--keep 0.5", "--pruner none keeps all"]),
    (["--pruner", "none,settings=published", "--keep", "0.5"], ["pruner none keeps all visual tokens"]),
    (["--prune-layer", "0"], ["--prune-layer 0: pruner vlm-pruner chooses by the keys", "at least 1"]),
    (["--prune-layer", "6", "--keep", "0.5"], ["--prune-layer 6: this model has 6 layers, so 1 to 5"]),
]


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[list[str]], str]:
    """Run `vlmp-export`, which must end with one line and exit code 2, and must write nothing."""
    monkeypatch.chdir(tmp_path)

    def run(options: list[str]) -> str:
        with pytest.raises(SystemExit, match=r"^2$"):
            cli.main([*BASE, *options])
        out, err = capsys.readouterr()
        assert (out, list(tmp_path.iterdir())) == ("", [])
        *progress, line = err.splitlines()
        assert progress in ([], ["checkpoint"])  # which is read by then
        assert line.startswith("vlmp-export: ")
        return line

    return run


@pytest.mark.parametrize(("text", "says"), STAGES, ids=[text for text, _ in STAGES])
def test_stages_that_are_refused(refused: Callable[[list[str]], str], text: str, says: list[str]) -> None:
    line = refused([f"--stage={text}"])
    assert [part for part in says if part not in line] == []


@pytest.mark.parametrize(("text", "says"), SEVERAL, ids=[text for text, _ in SEVERAL])
def test_stages_that_do_not_follow_one_another(refused: Callable[[list[str]], str], text: str, says: list[str]) -> None:
    """One option a stage or all in one: the same is said."""
    line = refused(["--schedule", text])
    assert [part for part in says if part not in line] == []
    assert refused([f"--stage={part}" for part in text.split("+")]) == line


@pytest.mark.parametrize(("options", "says"), OPTIONS, ids=[" ".join(options) for options, _ in OPTIONS])
def test_options_that_are_refused(refused: Callable[[list[str]], str], options: list[str], says: list[str]) -> None:
    line = refused(options)
    assert [part for part in says if part not in line] == []


@pytest.mark.parametrize("change", [{"keep": 0.5}, {"prune_layer": 3}, {"pruner": "dart"}], ids=str)
def test_a_config_has_stages_or_the_short_form(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="are the short form of one stage"):
        ExportConfig(model="m", targets=(), output=Path(), stages=parse_schedule("2:0.5"), **change)
    with pytest.raises(UserError, match="must come after"):
        ExportConfig(model="m", targets=(), output=Path(), stages=(stage(2, 0.5), stage(1, 0.3)))


# --- The short form ---------------------------------------------------------------------------------------------------


def read(*argv: str) -> ExportConfig:
    parser = OneLineParser("vlmp-export")
    cli.add_arguments(parser)
    return cli.read_config(parser.parse_args([*BASE, *argv]))


@pytest.mark.parametrize(
    ("short", "stage"),
    [
        ([], "2:0.111"),
        (["--keep", "0.3"], "2:0.3:vlm-pruner"),
        (["--pruner", "divprune", "--keep", "0.3"], "0:0.3:divprune"),
        (["--pruner", "fastv", "--prune-layer", "4"], "4:0.111:fastv"),
        (["--pruner", "none"], "2:1:none"),
        (["--pruner", "none", "--keep", "1"], "2:1:none"),
        (["--pruner", "vlm-pruner,batch=4,settings=published"], "2:0.111:vlm-pruner,batch=4,settings=published"),
        (["--pruner", "random,seed=5", "--keep", "0.25", "--prune-layer", "0"], "0:0.25:random,seed=5"),
    ],
)
def test_the_short_form_is_one_stage(short: list[str], stage: str) -> None:
    wanted = (parse_stage(stage),)
    assert read(*short).schedule == read("--stage", stage).schedule == read("--schedule", stage).schedule == wanted
    assert read("--stage", stage).stages == wanted
    assert read(*short).stages == ()


def config_of(**settings: Any) -> ExportConfig:
    return ExportConfig(
        model="vlmp-tiny", targets=(), output=Path(), image_size=(112, 112), text_len=24, max_new_tokens=4, **settings
    )


@pytest.mark.parametrize(
    ("short", "stage"),
    [
        ({"keep": 0.3}, "2:0.3"),
        ({"pruner": "fastv", "keep": 0.5, "prune_layer": 1}, "1:0.5:fastv"),
        ({"pruner": "divprune", "keep": 0.25}, "0:0.25:divprune"),
    ],
    ids=["vlm-pruner", "fastv", "divprune"],
)
def test_the_short_form_is_planned_and_answers_to_the_bit_as_its_stage(short: dict[str, Any], stage: str) -> None:
    configs = [config_of(**short), config_of(stages=parse_schedule(stage))]
    one, other = (make_plan(config, open_source(config), Eager()) for config in configs)
    assert one.config.schedule == other.config.schedule
    assert (one.source.name, one.source.geometry, one.source.pruners) == (
        other.source.name, other.source.geometry, other.source.pruners,
    )  # fmt: skip
    assert [type(pruner) for pruner in one.pruners] == [type(pruner) for pruner in other.pruners]
    first, second = (open_eager(config).session for config in configs)
    assert first.manifest == second.manifest
    visual = np.random.default_rng(0).standard_normal((16, 256)).astype(np.float32)
    for call in (lambda session: session.prefill([40, 50, 60], visual), lambda session: (session.decode(7),)):
        found, wanted = (call(session) for session in (first, second))
        assert all(np.array_equal(a, b) for a, b in zip(found[:3], wanted[:3], strict=True))
    assert all(np.array_equal(cache, second._caches[name]) for name, cache in first._caches.items())


# --- The plan ---------------------------------------------------------------------------------------------------------


def test_each_stage_is_planned_for_what_the_one_before_it_leaves() -> None:
    config = config_of(stages=parse_schedule("0:0.75:divprune+2:0.5:vlm-pruner,pivots=2,batch=3+4:0.2:random,seed=9"))
    source = open_source(config)
    assert [(cut.layer, cut.kept) for cut in source.geometry.cuts] == [(0, 12), (2, 8), (4, 3)]
    kinds = [(type(pruner).__name__, pruner.tokens) for pruner in make_plan(config, source, Eager()).pruners]
    assert kinds == [("DivPrune", 16), ("VlmPruner", 12), ("KeepRandom", 8)]
    asked = [{}, {"pivots": 2, "batch": 3}, {"seed": 9}]
    for own, wanted in zip(source.pruners, asked, strict=True):
        assert {name: getattr(own, name) for name in wanted} == wanted


def test_published_settings_are_those_of_the_paper() -> None:
    (own,) = open_source(config_of(stages=parse_schedule("2:0.5:vlm-pruner,settings=published,batch=2"))).pruners
    assert own == PrunerConfig(num_kept=8, batch=2)


def test_the_manifest_says_each_stage() -> None:
    config = config_of(stages=parse_schedule("1:0.75:fastv+3:0.5:vlm-pruner,fuse_weight=1"))
    shape = open_eager(config).session.manifest.shape
    first, last = shape.stages
    assert (first.place, first.index, first.pruner, first.tokens, first.num_kept) == ("layer", 1, "fastv", 16, 12)
    assert (last.place, last.index, last.pruner, last.tokens, last.num_kept) == ("layer", 3, "vlm-pruner", 12, 8)
    assert (first.by_prompt, last.by_prompt) == (True, False)
    assert (first.settings, last.settings["fuse_weight"]) == ({}, 1)
    assert set(last.settings) == {field.name for field in fields(PrunerConfig)} - {"num_kept", "seed", "weigh"}
    assert [(layer.base, layer.slots) for layer in shape.kv.layers] == [
        (15 + 16, 15 + 16 + 28), *[(15 + 12, 15 + 12 + 28)] * 2, *[(15 + 8, 15 + 8 + 28)] * 3,
    ]  # fmt: skip
    assert [stage.weighs for stage in shape.stages] == [False, False]
    assert parse_pruner("vlm-pruner,fuse_weight=1") == ("vlm-pruner", {"fuse_weight": 1.0}, False)


def test_a_stage_that_weighs_says_so_and_adds_its_biases() -> None:
    config = config_of(stages=parse_schedule("1:0.75:uniform,weigh=1+3:0.5:vlm-pruner"))
    manifest = open_eager(config).session.manifest
    assert [stage.weighs for stage in manifest.shape.stages] == [True, False]
    assert all("weigh" not in stage.settings for stage in manifest.shape.stages)
    assert manifest.method("prefill").outputs[-1].model_dump() == {"name": "bias_0", "shape": [12], "dtype": "float32"}
    for name in ("decode", "extend"):
        method = manifest.method(name)
        assert method.inputs[-1].model_dump() == {"name": "bias_cache_0", "shape": [12], "dtype": "float32"}
        assert not any(spec.name.startswith("bias") for spec in method.outputs)


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (Stage(place=Vision(0), keep=0.5), "so it must be at least vision.1"),
        (Stage(place=Layer(0), keep=0.5), "so it must be at least 1"),
        (Stage(place=Layer(2), keep=0.5, pruner="best"), "unknown pruner 'best'"),
        (Stage(place=Layer(2), keep=1.5), "greater than 0 and at most 1"),
        (Stage(place=Layer(2), keep=0.5, pruner="none"), "its share is 1"),
    ],
)
def test_a_stage_made_in_python_is_checked_as_a_spelled_one(stage: Stage, told: str) -> None:
    with pytest.raises(UserError, match=told):
        config_of(stages=(stage,))
