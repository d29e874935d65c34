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
from vlmp.export.schedule import parse_schedule
from vlmp.export.targets.onnx import OnnxTarget
from vlmp.export.targets.onnx.language import language_graph

LAYERS = 6


@pytest.mark.parametrize(
    ("stages", "parts"),
    [("0:0.5:uniform", 1), ("2:0.5:uniform", 2), ("0:0.75:uniform+2:0.5:uniform+3:0.4:uniform", 3)],
)
def test_operators_of_the_layers(stages: str, parts: int) -> None:
    """Each sum and its norm are one operator, but for the first layer after the tokens and after each stage."""
    schedule = parse_schedule(stages)
    config = ExportConfig(
        model="vlmp-tiny", targets=(), output=Path(), stages=schedule, image_size=(112, 112), text_len=24,
        max_new_tokens=8,
    )  # fmt: skip
    source = open_source(config)
    methods = build_methods(make_plan(config, source, OnnxTarget()), "float32")
    graph = language_graph(cast(Prefill, methods["prefill"]), cast(Decode, methods["decode"])).graph
    found = Counter(node.op_type for node in graph.all_nodes())
    assert [output.name for output in graph.outputs] == [
        spec.name for spec in source.geometry.outputs("prefill", "float32")
    ]
    choices = [node.name for node in graph.all_nodes() if node.op_type == "If"]
    assert len(set(choices)) == len(choices) == 1 + len(schedule)
    assert sum(node.op_type == "Add" and str(node.name).startswith("pruner/filled") for node in graph) == (
        len(schedule) - 1
    )
    assert found["GroupQueryAttention"] == found["QuickGelu"] == LAYERS
    assert found["RotaryEmbedding"] == 2 * LAYERS
    assert found["SkipSimplifiedLayerNormalization"] == 2 * LAYERS - parts
    assert found["SimplifiedLayerNormalization"] == parts + 1  # the head's
    assert found["MatMul"] + found["Gemm"] == 4 * LAYERS + 1
    assert not {"Softmax", "Sigmoid", "ReduceMean", "Pow", "Sqrt", "Transpose"} & found.keys()
