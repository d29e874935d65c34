"""Sizes: what the methods declare is what the graphs take and return, and caches have room for every token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vlmp.export.config import ExportConfig
from vlmp.export.eager import Eager
from vlmp.export.geometry import Cut, Geometry, KvLayer, StateLayer
from vlmp.export.pipeline import build_methods
from vlmp.export.plan import make_plan, open_source, pruner_configs
from vlmp.export.tracing import example_inputs
from vlmp.pruner import PRUNERS, PrunerConfig
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import METHODS

LAYERS = 4
DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.int32: "int32"}
EXAMPLE = Geometry(
    height=112, width=140, grid=(4, 5), prefix=15, text_start=20, cuts=(Cut(3, 6),), text=32, room=8,
    kv=(KvLayer(heads=2, head_dim=64),) * LAYERS, hidden=256, vocab=2048,
)  # fmt: skip
STAGED = replace(EXAMPLE, cuts=(Cut(0, 12), Cut(2, 6), Cut(3, 4)))


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    rows, columns = (draw(st.integers(1, 40)) for _ in range(2))
    kv = st.builds(KvLayer, heads=st.integers(1, 8), head_dim=st.integers(1, 128))
    layers = draw(st.lists(kv, min_size=2, max_size=40))
    places = draw(st.sets(st.integers(0, len(layers) - 1), min_size=1, max_size=4))
    kept = draw(st.lists(st.integers(1, rows * columns), min_size=len(places), max_size=len(places)))
    cuts = zip(sorted(places), sorted(kept, reverse=True), strict=True)
    return Geometry(
        height=28 * rows,
        width=28 * columns,
        grid=(rows, columns),
        prefix=draw(st.integers(0, 99)),
        text_start=draw(st.integers(0, 999)),
        cuts=tuple(Cut(layer, left) for layer, left in cuts),
        text=draw(st.integers(1, 99)),
        room=draw(st.integers(1, 99)),
        kv=tuple(layers),
        hidden=draw(st.integers(1, 999)),
        vocab=draw(st.integers(1, 9999)),
    )


def test_derived_sizes() -> None:
    assert EXAMPLE.visual == 20
    assert (EXAMPLE.whole_base, EXAMPLE.bases, EXAMPLE.text_room) == (35, [35, 21], 40)
    assert [EXAMPLE.base(layer) for layer in range(4)] == [35, 35, 35, 21]
    assert [EXAMPLE.slots(layer) for layer in range(4)] == [75, 75, 75, 61]
    assert EXAMPLE.groups == [range(3), range(3, 4)]
    assert [replace(EXAMPLE, cuts=(Cut(0, 6),)).base(layer) for layer in range(4)] == [21] * 4
    assert replace(EXAMPLE, cuts=(Cut(0, 6),)).groups == [range(0), range(4)]


def test_derived_sizes_of_several_stages() -> None:
    assert (STAGED.whole_base, STAGED.bases) == (35, [35, 27, 21, 19])
    assert STAGED.groups == [range(0), range(2), range(2, 3), range(3, 4)]
    assert [STAGED.base(layer) for layer in range(4)] == [27, 27, 21, 19]
    assert [STAGED.slots(layer) for layer in range(4)] == [67, 67, 61, 59]
    outputs = STAGED.outputs("prefill", "float16")
    assert [(spec.name, spec.shape, spec.dtype) for spec in outputs[:6]] == [
        ("logits", [2048], "float16"), ("kept_0", [12], "int32"), ("kept_1", [6], "int32"), ("kept", [4], "int32"),
        ("order", [4], "int32"), ("filled", [1], "int32"),
    ]  # fmt: skip
    assert [spec.shape[1] for spec in outputs[6::2]] == [59, 59, 53, 51]
    assert [spec.name for spec in STAGED.outputs("decode", "float16")][:2] == ["logits", "key_0"]


def test_declared_inputs_and_outputs() -> None:
    names = {method: [spec.name for spec in EXAMPLE.inputs(method, "float16")] for method in METHODS}
    caches = [f"{kind}_cache_{layer}" for layer in range(4) for kind in ("key", "value")]
    rows = [f"{kind}_{layer}" for layer in range(4) for kind in ("key", "value")]
    assert names == {
        "vision": ["image"],
        "prefill": ["ids", "text_len", "visual"],
        "decode": ["ids", "past", *caches],
        "extend": ["ids", "text_len", "past", *caches],
    }
    outputs = {method: {spec.name: spec for spec in EXAMPLE.outputs(method, "float16")} for method in METHODS}
    assert list(outputs["prefill"]) == ["logits", "kept", "order", "filled", *rows]
    assert list(outputs["decode"]) == list(outputs["extend"]) == ["logits", *rows]
    assert outputs["prefill"]["key_2"].shape == [2, 35 + 32, 64]
    assert outputs["prefill"]["value_3"].shape == [2, 21 + 32, 64]
    assert outputs["decode"]["key_0"].shape == [2, 1, 64]
    assert outputs["extend"]["key_3"].shape == [2, 32, 64]
    for method in METHODS:
        for spec in (*EXAMPLE.inputs(method, "float16"), *outputs[method].values()):
            whole = spec.name in ("ids", "text_len", "past", "kept", "order", "filled")
            assert spec.dtype == ("int32" if whole else "float16"), spec


def test_a_state_has_one_size_in_all_methods() -> None:
    mixed = replace(EXAMPLE, kv=(StateLayer(rows=2, width=256), *EXAMPLE.kv[1:]))
    for method, slots in (("prefill", 67), ("decode", 1), ("extend", 32)):
        outputs = [
            (spec.name, spec.shape) for spec in mixed.outputs(method, "float16") if spec.name[-2:] in ("_0", "_1")
        ]
        assert outputs == [("state_0", [2, 256]), ("key_1", [2, slots, 64]), ("value_1", [2, slots, 64])]
    caches = [(spec.name, spec.shape) for spec in mixed.inputs("decode", "float16")[2:4]]
    assert caches == [("state_cache_0", [2, 256]), ("key_cache_1", [2, 75, 64])]
    assert "state_cache_0" not in [spec.name for spec in mixed.inputs("prefill", "float16")]


@settings(deadline=None)
@given(geometry=geometries())
def test_caches_have_room_for_whatever_is_stored(geometry: Geometry) -> None:
    slots = {spec.name: spec.shape for spec in geometry.inputs("decode", "float32") if "_cache_" in spec.name}
    assert slots == {spec.name: spec.shape for spec in geometry.inputs("extend", "float32") if "_cache_" in spec.name}
    prefilled = {spec.name: spec.shape for spec in geometry.outputs("prefill", "float32")}
    for layer in range(geometry.layers):
        kv_heads, rows, head_dim = prefilled[f"key_{layer}"]
        assert [kv_heads, head_dim] == [geometry.kv[layer].heads, geometry.kv[layer].head_dim]
        assert (
            slots[f"key_cache_{layer}"] == slots[f"value_cache_{layer}"] == [kv_heads, rows + geometry.room, head_dim]
        )
        visual = min([geometry.visual, *(cut.kept for cut in geometry.cuts if cut.layer <= layer)])
        assert rows == geometry.prefix + visual + geometry.text
    assert [layer for group in geometry.groups for layer in group] == list(range(geometry.layers))
    for group, base in zip(geometry.groups, geometry.bases, strict=True):
        assert all(geometry.base(layer) == base for layer in group)
    left = [prefilled[f"kept_{stage}"] for stage in range(len(geometry.cuts) - 1)]
    assert [*left, prefilled["kept"]] == [[cut.kept] for cut in geometry.cuts]
    assert prefilled["order"] == prefilled["kept"]
    for method in METHODS:
        names = [spec.name for spec in geometry.inputs(method, "float32")]
        assert len(set(names)) == len(names)
        assert all(size >= 1 for spec in geometry.inputs(method, "float32") for size in spec.shape)


@pytest.mark.parametrize("pruner", PRUNERS)
@torch.no_grad()
def test_graphs_return_what_is_declared(pruner: str) -> None:
    config = ExportConfig(
        model="vlmp-tiny", targets=("fake",), output=Path("out"), image_size=(84, 140),
        keep=None if pruner == "none" else 0.4, text_len=20, max_new_tokens=3, pruner=pruner,
    )  # fmt: skip

    source = open_source(config)
    methods = build_methods(make_plan(config, source, Eager()), "float32")
    assert list(methods) == list(METHODS)
    for name, module in methods.items():
        outputs = module(*example_inputs(source.geometry.inputs(name, "float32")))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        found = [(list(output.shape), DTYPES[output.dtype]) for output in outputs]
        assert found == [(spec.shape, spec.dtype) for spec in source.geometry.outputs(name, "float32")], name


def config(**changes: object) -> ExportConfig:
    return ExportConfig(**{"model": "m", "targets": (), "output": Path(), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keep", "visual", "kept"),
    [(0.111, 144, 16), (0.111, 256, 28), (1, 7, 7), (0.5, 9, 5), (0.25, 16, 4), (0.219, 16, 4), (0.9999, 5, 5)],
)
def test_the_kept_share_is_rounded_half_up(keep: float, visual: int, kept: int) -> None:
    assert [own.num_kept for own in pruner_configs(config(keep=keep), visual, LAYERS)] == [kept]


@pytest.mark.parametrize(
    ("kept", "batch", "pivots"),
    [(4, 1, 4), (8, 1, 4), (12, 1, 6), (16, 2, 8), (28, 3, 14), (31, 3, 15), (32, 16, 4), (64, 16, 4), (191, 16, 4)],
)
def test_settings_fit_the_kept_tokens_unless_the_published_ones_are_asked_for(
    kept: int, batch: int, pivots: int
) -> None:
    asked = config(keep=kept / 576)
    assert pruner_configs(asked, 576, LAYERS) == [PrunerConfig(num_kept=kept, batch=batch, pivots=pivots)]
    published = replace(asked, pruner="vlm-pruner,settings=published")
    assert pruner_configs(published, 576, LAYERS) == [PrunerConfig(num_kept=kept)]
    own = replace(asked, pruner="vlm-pruner,pivots=3")
    assert pruner_configs(own, 576, LAYERS) == [PrunerConfig(num_kept=kept, batch=batch, pivots=3)]
    dart = replace(asked, pruner="dart")
    assert pruner_configs(dart, 576, LAYERS) == [PrunerConfig(num_kept=kept)]


@settings(deadline=None)
@given(keep=st.floats(0, 1, exclude_min=True), visual=st.integers(1, 3000))
def test_whatever_share_is_taken_lies_between_pivots_and_all(keep: float, visual: int) -> None:
    try:
        (settings,) = pruner_configs(config(keep=keep), visual, LAYERS)
    except UserError:
        assert visual < 4 or int(keep * visual + 0.5) < 4
        return
    assert 4 <= settings.pivots <= settings.num_kept <= visual
    assert abs(settings.num_kept - keep * visual) <= 0.5


@pytest.mark.parametrize("keep", [None, 1])
@pytest.mark.parametrize("visual", [1, 3, 4, 144])
def test_without_pruning_all_tokens_stay(visual: int, keep: float | None) -> None:
    assert pruner_configs(config(pruner="none", keep=keep), visual, LAYERS)[0].num_kept == visual


def test_a_share_for_the_method_that_keeps_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--keep 0.5: --pruner none keeps all visual tokens, leave one of the two"):
        config(pruner="none", keep=0.5)


@pytest.mark.parametrize(("keep", "visual", "kept"), [(0.111, 144, 16), (0.1, 5, 1), (0.3, 9, 3)])
def test_methods_without_pivots_may_keep_fewer(keep: float, visual: int, kept: int) -> None:
    assert pruner_configs(config(pruner="fastv", keep=keep), visual, LAYERS)[0].num_kept == kept
