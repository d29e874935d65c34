"""Counted work equals what is computed by hand from the sizes, and what torch counts when there are values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2VLConfig
from vlmp.export.config import ExportConfig, Precision
from vlmp.export.eager import Eager
from vlmp.export.geometry import Cut, KvLayer
from vlmp.export.models import family as family_module
from vlmp.export.pipeline import build_methods
from vlmp.export.plan import Source, make_plan, open_source
from vlmp.export.schedule import DEFAULT_PRUNER, parse_schedule
from vlmp.export.tracing import example_inputs
from vlmp.export.work import count_work, with_work
from vlmp.pruner import PRUNERS
from vlmp.runtimes.bundle.manifest import METHODS, MethodName, MethodSpec, Region, WorkSpec

# vlmp-tiny at 112 x 140 pixels
PREFIX, VISUAL, KEPT, TEXT, ROOM = 15, 20, 6, 64, 256
LAYERS, EARLY, WIDTH, INNER, HEADS, KV_HEADS, HEAD, VOCAB = 6, 2, 256, 768, 4, 2, 64, 2048
KV = KV_HEADS * HEAD
PATCHES, BLOCKS, VISION = 4 * VISUAL, 4, 128
LAYER_MATRICES = 2 * WIDTH * WIDTH + 2 * WIDTH * KV + 3 * WIDTH * INNER
LAYER_WEIGHTS = LAYER_MATRICES + WIDTH + 2 * KV + 2 * WIDTH  # with biases of query, key and value, and two norms


def open_tiny(
    pruner: str = "vlm-pruner", keep: float = 0.3, stages: str = ""
) -> tuple[Source, dict[MethodName, nn.Module]]:
    config = ExportConfig(
        model="vlmp-tiny", targets=(), output=Path("unused"), image_size=(112, 140), pruner=pruner,
        keep=None if pruner == "none" else keep,
    )  # fmt: skip
    if stages:
        config = replace(config, pruner=DEFAULT_PRUNER, keep=None, stages=parse_schedule(stages))
    source = open_source(config)
    return source, build_methods(make_plan(config, source, Eager()), "float32")


def specs_of(
    source: Source, methods: dict[MethodName, nn.Module], precision: Precision
) -> dict[MethodName, MethodSpec]:
    return Eager().lower(methods, source.geometry, precision, Path(), lambda _: None)


def work_of(
    source: Source, methods: dict[MethodName, nn.Module], precision: Precision = "float32"
) -> dict[Region, WorkSpec]:
    specs = specs_of(source, methods, precision)
    counted = with_work(specs, methods, source.geometry, precision)
    return {region: work for spec in counted.values() for region, work in spec.work.items()}


@pytest.fixture(scope="module")
def pruned() -> dict[Region, WorkSpec]:
    return work_of(*open_tiny())


@pytest.fixture(scope="module")
def unpruned() -> dict[Region, WorkSpec]:
    return work_of(*open_tiny("none"))


def attention_macs(tokens: int, slots: int = 0) -> int:
    """Scores and mixing in one layer: every query head over the cache and the new tokens."""
    return 2 * HEADS * HEAD * tokens * (slots + tokens)


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_vision(pruned: dict[Region, WorkSpec]) -> None:
    block = VISION * (3 * VISION + VISION + 8 * VISION)
    merger = 4 * VISION * (4 * VISION + WIDTH)
    matrices = 3 * 14 * 14 * VISION
    attention = BLOCKS * 2 * VISION * PATCHES * PATCHES
    assert pruned["vision"].macs == PATCHES * (matrices + BLOCKS * block) + attention + VISUAL * merger
    vectors = BLOCKS * ((3 + 1 + 4 + 1) * VISION + 4 * VISION) + 2 * VISION + 4 * VISION + WIDTH
    assert pruned["vision"].weight_bytes == 4 * (matrices + BLOCKS * block + merger + vectors)
    assert pruned["vision"].cache_bytes == 0
    products = [  # rows in, rows out; of attention, both operands
        (3 * 112 * 140, PATCHES * VISION),
        *[(PATCHES * VISION, PATCHES * 3 * VISION), (PATCHES * VISION, PATCHES * VISION)] * BLOCKS,
        *[(PATCHES * VISION, PATCHES * 4 * VISION), (PATCHES * 4 * VISION, PATCHES * VISION)] * BLOCKS,
        *[(2 * PATCHES * VISION, 4 * PATCHES * PATCHES)] * BLOCKS,
        *[(4 * PATCHES * PATCHES + PATCHES * VISION, PATCHES * VISION)] * BLOCKS,
        (VISUAL * 4 * VISION, VISUAL * 4 * VISION),
        (VISUAL * 4 * VISION, VISUAL * WIDTH),
    ]
    assert pruned["vision"].activation_bytes == 4 * sum(taken + made for taken, made in products)


def test_prefill(pruned: dict[Region, WorkSpec], unpruned: dict[Region, WorkSpec]) -> None:
    whole, fewer = PREFIX + VISUAL + TEXT, PREFIX + KEPT + TEXT
    head, row = WIDTH * VOCAB, 2 * KV * 4
    assert pruned["before"] == unpruned["before"]
    assert pruned["before"].macs == EARLY * (whole * LAYER_MATRICES + attention_macs(whole))
    assert pruned["before"].weight_bytes == 4 * (EARLY * LAYER_WEIGHTS + (PREFIX + TEXT) * WIDTH)
    assert pruned["before"].cache_bytes == EARLY * whole * row
    for work, tokens in ((pruned["after"], fewer), (unpruned["after"], whole)):
        assert work.macs == (LAYERS - EARLY) * (tokens * LAYER_MATRICES + attention_macs(tokens)) + head
        assert work.weight_bytes == 4 * ((LAYERS - EARLY) * LAYER_WEIGHTS + WIDTH + head)
        assert work.cache_bytes == (LAYERS - EARLY) * tokens * row


def test_a_graph_that_cuts_its_text_does_less_for_each_token_less() -> None:
    source, methods = open_tiny()
    counted = with_work(specs_of(source, methods, "float32"), methods, source.geometry, "float32", cuts_text=True)
    assert counted["vision"].work_per_token == counted["decode"].work_per_token == {}
    short = 12
    excess = 2 * HEADS * HEAD * (TEXT - short) * (short - 1)  # of a layer: the scores are no straight line
    prefill, extend = counted["prefill"], counted["extend"]
    for region, layers, base in (("before", EARLY, PREFIX + VISUAL), ("after", LAYERS - EARLY, PREFIX + KEPT)):
        each, whole, tokens = prefill.work_per_token[region], prefill.work[region], base + short
        macs = layers * (tokens * LAYER_MATRICES + attention_macs(tokens)) + (WIDTH * VOCAB if region == "after" else 0)
        left = whole.macs - (TEXT - short) * each.macs
        assert left == pytest.approx(macs + layers * excess, abs=TEXT)
        assert left < 1.02 * macs
        assert each.cache_bytes == layers * 2 * KV * 4
    assert prefill.work_per_token["pruner"].macs == 0
    slots = [PREFIX + (VISUAL if layer < EARLY else KEPT) + TEXT + ROOM for layer in range(LAYERS)]
    macs = LAYERS * short * LAYER_MATRICES + sum(attention_macs(short, each) for each in slots) + WIDTH * VOCAB
    left = extend.work["extend"].macs - (TEXT - short) * extend.work_per_token["extend"].macs
    assert left == pytest.approx(macs + LAYERS * excess, abs=TEXT)


def test_the_pruner(pruned: dict[Region, WorkSpec], unpruned: dict[Region, WorkSpec]) -> None:
    """Similarity of all pairs over all 256 channels, and fusion; keeping all is no product."""
    similarity, fusion = VISUAL * WIDTH * VISUAL, KEPT * VISUAL * WIDTH
    assert pruned["pruner"].macs == similarity + fusion
    operands = 2 * VISUAL * WIDTH + VISUAL * VISUAL + KEPT * VISUAL + VISUAL * WIDTH + KEPT * WIDTH
    assert pruned["pruner"].activation_bytes == 4 * operands
    assert pruned["pruner"].weight_bytes == pruned["pruner"].cache_bytes == 0  # its tables are baked
    assert unpruned["pruner"] == WorkSpec(macs=0, weight_bytes=0, cache_bytes=0, activation_bytes=0)


@pytest.mark.parametrize(("method", "tokens"), [("decode", 1), ("extend", TEXT)])
@pytest.mark.parametrize("late", [KEPT, VISUAL])
def test_steps(
    pruned: dict[Region, WorkSpec], unpruned: dict[Region, WorkSpec], method: Region, tokens: int, late: int
) -> None:
    work = (pruned if late == KEPT else unpruned)[method]
    slots = [PREFIX + (VISUAL if layer < EARLY else late) + TEXT + ROOM for layer in range(LAYERS)]
    attention = sum(attention_macs(tokens, each) for each in slots)
    assert work.macs == LAYERS * tokens * LAYER_MATRICES + attention + WIDTH * VOCAB
    assert work.weight_bytes == 4 * (LAYERS * LAYER_WEIGHTS + WIDTH + VOCAB * WIDTH)  # the tied table once
    assert work.cache_bytes == sum(2 * KV * 4 * (each + tokens) for each in slots)


def test_a_step_moves_no_cache_as_activation(pruned: dict[Region, WorkSpec]) -> None:
    """One token's vectors, and its scores over all slots, but not the slots."""
    scores = sum(HEADS * (PREFIX + seen + TEXT + ROOM) for seen in [VISUAL] * EARLY + [KEPT] * (LAYERS - EARLY))
    linear = (WIDTH + WIDTH + 2 * KV) + (WIDTH + WIDTH) + (WIDTH + 2 * INNER) + (INNER + WIDTH)
    attention = (WIDTH + KV + HEADS) + (HEADS + KV + WIDTH) + WIDTH + WIDTH  # new key, new value, both query and mix
    whole = LAYERS * (linear + attention) + 2 * scores + WIDTH + VOCAB
    assert pruned["decode"].activation_bytes == 4 * whole


# --- Several stages ---------------------------------------------------------------------------------------------------

STAGES = "1:0.5+3:0.3:uniform+4:0.2"
LEFT = (VISUAL, 10, 6, 4)
LAYERS_OF = (1, 2, 1, 2)
"""Layers of each group, and the visual tokens that they take."""


@pytest.fixture(scope="module")
def staged() -> tuple[dict[Region, WorkSpec], dict[Region, WorkSpec]]:
    """The work with a full bucket, and what a token less of text saves."""
    source, methods = open_tiny(stages=STAGES)
    counted = with_work(specs_of(source, methods, "float32"), methods, source.geometry, "float32", cuts_text=True)
    whole = {region: work for spec in counted.values() for region, work in spec.work.items()}
    return whole, {region: work for spec in counted.values() for region, work in spec.work_per_token.items()}


def test_prefill_of_several_stages(staged: tuple[dict[Region, WorkSpec], dict[Region, WorkSpec]]) -> None:
    """Before the first stage, all stages together, and all layers after the first."""
    whole, each = staged
    tokens = [PREFIX + left + TEXT for left in LEFT]
    macs = [
        layers * (many * LAYER_MATRICES + attention_macs(many))
        for layers, many in zip(LAYERS_OF, tokens, strict=True)
    ]  # fmt: skip
    head, row = WIDTH * VOCAB, 2 * KV * 4
    assert whole["before"].macs == macs[0]
    assert whole["after"].macs == sum(macs[1:]) + head
    # Similarity of all pairs and fusion, in the first stage and the last; `uniform` computes nothing.
    assert whole["pruner"].macs == WIDTH * (20 * 20 + 10 * 20 + 6 * 6 + 4 * 6)
    assert whole["before"].cache_bytes == tokens[0] * row
    assert whole["after"].cache_bytes == row * sum(a * b for a, b in zip(LAYERS_OF[1:], tokens[1:], strict=True))
    assert whole["pruner"].cache_bytes == whole["pruner"].weight_bytes == 0
    assert whole["before"].weight_bytes == 4 * (LAYER_WEIGHTS + (PREFIX + TEXT) * WIDTH)
    assert whole["after"].weight_bytes == 4 * (5 * LAYER_WEIGHTS + WIDTH + head)
    assert each["pruner"].macs == 0
    assert [each[region].cache_bytes for region in ("before", "after")] == [row, 5 * row]  # type: ignore[index]


@pytest.mark.parametrize(("method", "tokens"), [("decode", 1), ("extend", TEXT)])
def test_steps_of_several_stages(
    staged: tuple[dict[Region, WorkSpec], dict[Region, WorkSpec]], method: Region, tokens: int
) -> None:
    work = staged[0][method]
    slots = [PREFIX + left + TEXT + ROOM for left, many in zip(LEFT, LAYERS_OF, strict=True) for _ in range(many)]
    attention = sum(attention_macs(tokens, each) for each in slots)
    assert work.macs == LAYERS * tokens * LAYER_MATRICES + attention + WIDTH * VOCAB
    assert work.cache_bytes == sum(2 * KV * 4 * (each + tokens) for each in slots)


# --- Precision and kinds of weights -----------------------------------------------------------------------------------


def test_float16_halves_the_bytes_but_the_pruners(pruned: dict[Region, WorkSpec]) -> None:
    half = work_of(*open_tiny(), "float16")
    for region, work in pruned.items():
        assert half[region].macs == work.macs
        assert 2 * half[region].weight_bytes == work.weight_bytes
        assert 2 * half[region].cache_bytes == work.cache_bytes
        factor = 1 if region == "pruner" else 2
        assert factor * half[region].activation_bytes == work.activation_bytes


class Packed(nn.Module):
    """8-bit integers and a scale for each row, which become a matrix when it runs; and a baked table."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("packed", torch.zeros(7, 5, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(7, 1))
        self.register_buffer("table", torch.zeros(1000, 1000), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(7)
        weight: Any = self.packed.index_select(0, rows).float() * self.scale  # type: ignore[operator]
        return torch.nn.functional.linear(image + self.table[:3, :5], weight)  # type: ignore[index]


def test_quantized_weights_count_as_they_are_stored() -> None:
    spec = MethodSpec.model_validate(
        {"file": "", "entry": "", "inputs": [{"name": "image", "shape": [3, 5], "dtype": "float32"}], "outputs": []}
    )
    work = count_work("vision", Packed(), spec, 2, "float32")["vision"]
    assert work == WorkSpec(macs=3 * 5 * 7, weight_bytes=35 + 28, cache_bytes=0, activation_bytes=4 * (15 + 21))
    assert count_work("vision", Packed(), spec, 2, "float16")["vision"].weight_bytes == 35 + 14


# --- Every pruner -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pruner", [*PRUNERS, STAGES])
def test_nothing_is_missed_where_a_pruner_repeats_its_steps(pruner: str) -> None:
    """With real values all steps run; without them, none does."""
    source, methods = open_tiny(stages=pruner) if pruner == STAGES else open_tiny(pruner)
    counted = count_work(
        "prefill", methods["prefill"], specs_of(source, methods, "float32")["prefill"],
        source.geometry.cuts[0].layer, "float32",
    )  # fmt: skip
    torch.manual_seed(0)
    inputs = list(example_inputs(source.geometry.inputs("prefill", "float32")))
    inputs[2] = torch.randn_like(inputs[2])
    with torch.no_grad(), FlopCounterMode(display=False) as really:
        methods["prefill"](*inputs)
    assert 2 * sum(work.macs for work in counted.values()) == really.get_total_flops()


# --- Size -------------------------------------------------------------------------------------------------------------


def test_two_billion_parameters_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are one number seen as a matrix: reading or copying one would take gigabytes."""
    source, _ = open_tiny()
    text: dict[str, Any] = {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
    }  # fmt: skip
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536}
    family: Any = source.family
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    family.config = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    family.spec = family.specs()

    def load(module: nn.Module, *_: object) -> None:
        for owner in module.modules():
            for name, weight in list(owner.named_parameters(recurse=False)):
                setattr(owner, name, nn.Parameter(torch.zeros(()).expand(weight.shape), requires_grad=False))
        if isinstance(module, family_module.Decoder):
            module.head = module.embed

    monkeypatch.setattr(family_module, "load", load)
    geometry = replace(
        source.geometry, height=448, width=448, grid=(16, 16), cuts=(Cut(2, 28),),
        kv=(KvLayer(heads=2, head_dim=128),) * 28, hidden=1536, vocab=151936,
    )  # fmt: skip
    config = ExportConfig(model="vlmp-tiny", targets=(), output=Path("unused"))
    wide = replace(source, geometry=geometry, pruners=(replace(source.pruners[0], num_kept=28),))
    work = work_of(wide, build_methods(make_plan(config, wide, Eager()), "float32"))
    parameters = (work["vision"].weight_bytes + work["decode"].weight_bytes) / 4
    assert parameters == pytest.approx(2.21e9, rel=0.01)
    assert set(work) == {"vision", "before", "pruner", "after", "decode", "extend"}
    assert 1.2e9 < work["decode"].macs < 1.8e9  # about a multiply-accumulate for each parameter


def test_every_method_says_its_work() -> None:
    source, methods = open_tiny()
    specs = with_work(specs_of(source, methods, "float32"), methods, source.geometry, "float32")
    assert list(specs) == list(METHODS)
    assert {name: list(spec.work) for name, spec in specs.items()} == {
        "vision": ["vision"], "prefill": ["before", "pruner", "after"], "decode": ["decode"], "extend": ["extend"],
    }  # fmt: skip
