"""Specs: what no module computes yet cannot be asked for, and positions, tables and tensors follow from the rest."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from test_decoders import SPEC
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding
from vlmp.export.geometry import Cut, Geometry, KvLayer
from vlmp.export.models.decoder import decoder_transforms
from vlmp.export.models.layers import RmsNorm
from vlmp.export.models.positions import prompt_positions, rope_rows, text_positions, text_start
from vlmp.export.models.spec import ConnectorSpec, LayerSpec, PictureSpec, RopeSpec, VisionSpec
from vlmp.runtimes.bundle.errors import UserError

LEAST: list[Any] = [
    SPEC,
    SPEC.rope,
    SPEC.layers[0],
    VisionSpec(depth=1, width=8, heads=2, inner=8, patch=14, norm_eps=1e-6, act="gelu"),
    ConnectorSpec(merge=2, width=8),
    PictureSpec(unit=28),
]
NOT_YET = [
    pytest.param(spec, each.name, id=f"{type(spec).__name__}.{each.name}")
    for spec in LEAST
    for each in fields(spec)
    if "only" in each.metadata
]
MROPE = RopeSpec(theta=1e4, layout="mrope", sections=(4, 6, 6))


def test_the_kinds_that_are_not_computed_are_fields() -> None:
    names = {param.values[1] for param in NOT_YET}
    assert names >= {
        "mixer",
        "window",
        "kv_from",
        "sandwich",
        "newline",
        "tiles",
        "frames",
    }
    assert all(each.default is not MISSING for spec in LEAST for each in fields(spec) if "only" in each.metadata)


@pytest.mark.parametrize(("spec", "name"), NOT_YET)
def test_what_is_not_computed_cannot_be_built(spec: Any, name: str) -> None:
    with pytest.raises(UserError, match=rf"{type(spec).__name__}: {name} is 'other', only .* is computed yet") as told:
        replace(spec, **{name: "other"})
    assert "\n" not in str(told.value)


def test_layers_with_heads_of_different_sizes_cannot_be_built() -> None:
    with pytest.raises(UserError, match=r"layers have heads of \[16, 32\] channels, only one size"):
        replace(SPEC, layers=(*SPEC.layers, LayerSpec(kv_heads=2, head_dim=32, inner=96)))


# --- Positions --------------------------------------------------------------------------------------------------------


def geometry_of(rope: RopeSpec) -> Geometry:
    return Geometry(
        height=56, width=84, grid=(2, 3), prefix=4, text_start=text_start(rope, 4, (2, 3)), cuts=(Cut(0, 2),),
        text=3, room=2, kv=(KvLayer(heads=1, head_dim=32),), hidden=8, vocab=9,
    )  # fmt: skip


def test_positions_in_a_row() -> None:
    rope = RopeSpec(theta=1e4)
    assert prompt_positions(rope, geometry_of(rope)).tolist() == [list(range(4 + 6 + 3))]
    assert text_positions(rope, geometry_of(rope)).tolist() == [list(range(10, 15))]


@pytest.mark.parametrize("layout", ["mrope", "interleaved"])
def test_positions_on_the_grid(layout: Any) -> None:
    rope = replace(MROPE, layout=layout)
    time, rows, columns = prompt_positions(rope, geometry_of(rope)).tolist()
    assert time == [0, 1, 2, 3, *[4] * 6, 7, 8, 9]
    assert rows == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 7, 8, 9]
    assert columns == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9]
    assert text_positions(rope, geometry_of(rope)).tolist() == [list(range(7, 12))] * 3
    assert text_start(rope, 15, (5, 4)) == text_start(rope, 15, (4, 5)) == 15 + 5


def places(axes: int) -> Tensor:
    return torch.randint(0, 300, (axes, 20), generator=torch.Generator().manual_seed(6)).float()


def test_tables_of_one_axis_equal_transformers() -> None:
    config = LlamaConfig(
        hidden_size=32, num_attention_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 5e3}
    )
    wanted = LlamaRotaryEmbedding(config)(torch.zeros(1), places(1).long())
    for found, table in zip(rope_rows(RopeSpec(theta=5e3), 32, places(1), torch.float32), wanted, strict=True):
        torch.testing.assert_close(found, table[0], rtol=0, atol=1e-5)


def test_interleaved_tables_equal_transformers() -> None:
    rope = {"rope_type": "default", "rope_theta": 5e3, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    config = Qwen3VLTextConfig(hidden_size=64, num_attention_heads=4, head_dim=32, rope_parameters=rope)
    wanted = Qwen3VLTextRotaryEmbedding(config)(torch.zeros(1), places(3)[:, None].long())
    spec = RopeSpec(theta=5e3, layout="interleaved", sections=(6, 5, 5))
    tables = rope_rows(spec, 32, places(3), torch.float32)
    for found, table in zip(tables, wanted, strict=True):
        torch.testing.assert_close(found, table[0], rtol=0, atol=1e-5)
    banded = rope_rows(replace(spec, layout="mrope"), 32, places(3), torch.float32)
    assert not torch.allclose(tables[0], banded[0], atol=0.1)


# --- Transforms -------------------------------------------------------------------------------------------------------


def test_one_is_added_in_float32(tmp_path: Path) -> None:
    """In bfloat16 it would swallow what the checkpoint holds."""
    small = torch.full((8,), 2**-9, dtype=torch.bfloat16)
    with torch.device("meta"):
        norms = torch.nn.ModuleDict({"norm": RmsNorm(8, 1e-6), "plain": RmsNorm(8, 1e-6)})
    tensors = {"a.weight": small, "b.weight": small}
    tiny_models.fill(norms, tensors, {"norm": "a", "plain": "b"}, {"norm": "plus_one"}, tmp_path)
    assert norms["norm"].weight.tolist() == [1 + 2**-9] * 8
    assert norms["plain"].weight.tolist() == [2**-9] * 8


def test_a_spec_without_offset_transforms_nothing() -> None:
    assert decoder_transforms(SPEC) == {}
    assert set(decoder_transforms(replace(SPEC, norm_offset=1)).values()) == {"plus_one"}
