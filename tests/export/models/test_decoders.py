"""A decoder by its spec equals transformers' own, whatever its spec says that Qwen2-VL does otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import tiny_models
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from vlmp.export.geometry import Cut, Geometry, KvLayer
from vlmp.export.models.decoder import Context, Decode, Decoder, Prefill, decoder_transforms, run_layers
from vlmp.export.models.layers import causal_mask
from vlmp.export.models.names import DECODER
from vlmp.export.models.positions import prompt_positions, rope_rows, text_positions
from vlmp.export.models.spec import DecoderSpec, LayerSpec, RopeSpec
from vlmp.export.targets.onnx.language import language_graph
from vlmp.pruner import PrunerConfig, build_pruner

SIZES: dict[str, Any] = dict(
    vocab_size=200, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-3, tie_word_embeddings=False, pad_token_id=0,
    attn_implementation="eager",
)  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 5e3}
SPEC = DecoderSpec(
    width=64, vocab=200, heads=4, layers=(LayerSpec(kv_heads=2, head_dim=16, inner=96),) * 3,
    rope=RopeSpec(theta=5e3), tied=False, norm_eps=1e-3,
)  # fmt: skip
WIDE = (LayerSpec(kv_heads=2, head_dim=32, inner=96),) * 3
CASES: dict[str, tuple[Any, DecoderSpec]] = {
    "no bias": (LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=ROPE)), SPEC),
    "bias everywhere": (
        LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=ROPE, attention_bias=True)),
        replace(SPEC, qkv_bias=True, out_bias=True),
    ),
    "qkv bias": (Qwen2ForCausalLM(Qwen2Config(**SIZES, rope_parameters=ROPE)), replace(SPEC, qkv_bias=True)),
    "head norms, wide heads": (
        Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32, rope_parameters=ROPE)),
        replace(SPEC, layers=WIDE, qk_norm=True),
    ),
    "norm offset, gelu": (
        GemmaForCausalLM(
            GemmaConfig(**SIZES, head_dim=32, rope_parameters=ROPE, hidden_activation="gelu_pytorch_tanh")
        ),
        replace(SPEC, layers=WIDE, norm_offset=1, act="gelu_tanh"),
    ),
}


UNSCALED = [name for name in CASES if name != "norm offset, gelu"]
"""Gemma multiplies its embedding, which no spec has yet."""


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, DecoderSpec]:
    model, spec = CASES[request.param]
    tiny_models.enliven(model)
    return model.eval(), spec


def filled(model: nn.Module, spec: DecoderSpec, folder: Path) -> Decoder:
    with torch.device("meta"):
        decoder = Decoder(spec)
    tiny_models.fill(decoder, model.state_dict(), DECODER, decoder_transforms(spec), folder)
    return decoder


def logits(decoder: Decoder, spec: DecoderSpec, hidden_LD: Tensor) -> Tensor:
    tokens = hidden_LD.shape[0]
    position_1L = torch.arange(tokens).expand(1, -1).float()
    context = Context(
        *rope_rows(spec.rope, spec.layers[0].head_dim, position_1L, torch.float32), causal_mask(tokens, torch.float32)
    )
    hidden_LD, _ = run_layers(decoder.layers, hidden_LD, context, [])
    return decoder.head(decoder.norm(hidden_LD))


@torch.no_grad()
def test_logits_equal_transformers(case: tuple[Any, DecoderSpec], tmp_path: Path) -> None:
    model, spec = case
    ids_L = torch.arange(40) * 7 % 200
    hidden_LD = model.get_input_embeddings()(ids_L)  # with Gemma's scale, which no spec has yet
    found = logits(filled(model, spec, tmp_path), spec, hidden_LD)
    tiny_models.assert_close(found, model(ids_L[None]).logits[0])


@torch.no_grad()
def test_a_head_norm_with_an_offset_equals_transformers(tmp_path: Path) -> None:
    """Gemma 3 without its further norms: its attention alone."""
    config = Gemma3TextConfig(
        **SIZES, head_dim=32, query_pre_attn_scalar=32, layer_types=["full_attention"] * 3,
        rope_parameters={"full_attention": ROPE, "sliding_attention": ROPE},
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    tiny_models.enliven(model)
    spec = replace(SPEC, layers=WIDE, norm_offset=1, act="gelu_tanh", qk_norm=True)
    layer, theirs = filled(model, spec, tmp_path).layers[1], model.model.layers[1]
    hidden_LD = torch.randn(12, 64, generator=torch.Generator().manual_seed(1))
    rope = rope_rows(spec.rope, 32, torch.arange(12).expand(1, -1).float(), torch.float32)
    mask_LL = causal_mask(12, torch.float32)
    mixed_LW, _, _ = layer.attention(layer.project(layer.input_norm(hidden_LD)), Context(*rope, mask_LL), None)
    normed = theirs.input_layernorm(hidden_LD[None])
    wanted, _ = theirs.self_attn(normed, tuple(table[None] for table in rope), mask_LL[None, None])
    tiny_models.assert_close(layer.out(mixed_LW), wanted[0])


# --- In the graphs ----------------------------------------------------------------------------------------------------


def language(decoder: Decoder, spec: DecoderSpec) -> tuple[Geometry, Prefill, Decode]:
    kv = tuple(KvLayer(heads=layer.kv_heads, head_dim=layer.head_dim) for layer in spec.layers)
    geometry = Geometry(
        height=28, width=42, grid=(2, 3), prefix=3, text_start=9, cuts=(Cut(1, 6),), text=8, room=4, kv=kv,
        hidden=64, vocab=200,
    )  # fmt: skip
    pruner = build_pruner("none", geometry.grid, PrunerConfig(num_kept=6), "while")
    prompt, text = (
        rope_rows(spec.rope, kv[0].head_dim, places(spec.rope, geometry), torch.float32)
        for places in (prompt_positions, text_positions)
    )
    prefill = Prefill(decoder, [pruner], geometry, [1, 2, 3], prompt)
    return geometry, prefill.eval(), Decode(decoder, geometry, text).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", UNSCALED)
def test_prefill_and_decode_equal_transformers(name: str, tmp_path: Path) -> None:
    """With words in the place of visual tokens, so that the prompt is plain text."""
    model, spec = CASES[name]
    tiny_models.enliven(model)
    decoder = filled(model, spec, tmp_path)
    geometry, prefill, decode = language(decoder, spec)
    ids_L = torch.tensor([1, 2, 3, *range(20, 26), 40, 41, 42, 43])
    text_1T = torch.cat([ids_L[9:12], torch.zeros(5, dtype=torch.int64)])[None].int()
    text_len = torch.tensor([3], dtype=torch.int32)
    wanted = model(ids_L[None]).logits[0]

    found, _, _, _, *rows = prefill(text_1T, text_len, decoder.embed(ids_L[3:9]))
    tiny_models.assert_close(found, wanted[11])
    caches = [F.pad(row, (0, 0, 0, geometry.room)) for row in rows]
    tiny_models.assert_close(decode(ids_L[None, 12:].int(), text_len, *caches)[0], wanted[12])


@torch.no_grad()
@pytest.mark.parametrize("name", UNSCALED)
def test_the_graph_of_onnx_runtime_equals_pytorch(name: str, tmp_path: Path) -> None:
    model, spec = CASES[name]
    tiny_models.enliven(model)
    decoder = filled(model, spec, tmp_path)
    geometry, prefill, decode = language(decoder, spec)
    visual = torch.randn(6, 64, generator=torch.Generator().manual_seed(2))
    ids = torch.arange(60, 68, dtype=torch.int32)[None]
    text_len = torch.tensor([5], dtype=torch.int32)
    wanted, _, _, _, *rows = prefill(ids, text_len, visual)

    ir.save(language_graph(prefill, decode), tmp_path / "language.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "language.onnx", providers=["CPUExecutionProvider"])
    given: dict[str, Any] = {
        "ids": ids.numpy(), "text_len": text_len.numpy(), "past": np.zeros(1, np.int32), "visual": visual.numpy(),
    }  # fmt: skip
    for layer, kv in enumerate(geometry.kv):
        for kind in ("key", "value"):
            shape = (1, kv.heads, geometry.slots(layer), kv.head_dim)
            given[f"{kind}_cache_{layer}"] = np.zeros(shape, np.float32)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, cast(list[Any], session.run(None, given)), strict=True))
    tiny_models.assert_close(torch.from_numpy(found["logits"]), wanted)
    filled_slots = geometry.whole_base + 5
    tiny_models.assert_close(torch.from_numpy(found["key_2"])[0, :, :filled_slots], rows[4][:, :filled_slots])
