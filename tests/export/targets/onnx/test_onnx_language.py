"""The language model's graph for ONNX Runtime: its layers, written once, come out in fused operators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from vlmp.export.config import ExportConfig
from vlmp.export.models.decoder import Decode, Prefill
from vlmp.export.pipeline import build_methods
from vlmp.export.plan import make_plan, open_source
from vlmp.export.targets.onnx import OnnxTarget
from vlmp.export.targets.onnx.language import language_graph

LAYERS = 6


@pytest.mark.parametrize("prune_layer", [0, 2])
def test_operators_of_the_layers(prune_layer: int) -> None:
    """Each sum and its norm are one operator, but for the first layer after the tokens and after the pruner."""
    config = ExportConfig(
        model="vlmp-tiny", targets=(), output=Path(), pruner="uniform", keep=0.5, prune_layer=prune_layer,
        image_size=(112, 112), text_len=24, max_new_tokens=8,
    )  # fmt: skip
    methods = build_methods(make_plan(config, open_source(config), OnnxTarget()), "float32")
    graph = language_graph(cast(Prefill, methods["prefill"]), cast(Decode, methods["decode"])).graph
    found = Counter(node.op_type for node in graph.all_nodes())
    parts = 2 if prune_layer else 1
    assert found["GroupQueryAttention"] == found["QuickGelu"] == LAYERS
    assert found["RotaryEmbedding"] == 2 * LAYERS
    assert found["SkipSimplifiedLayerNormalization"] == 2 * LAYERS - parts
    assert found["SimplifiedLayerNormalization"] == parts + 1  # the head's
    assert found["MatMul"] + found["Gemm"] == 4 * LAYERS + 1
    assert not {"Softmax", "Sigmoid", "ReduceMean", "Pow", "Sqrt", "Transpose"} & found.keys()
