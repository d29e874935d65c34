"""The graph of each method but VLM-Pruner, run by every target: the same tokens in the same order as eager PyTorch.

Whole models with some of them are exported in tests/export/test_peer_exports.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from plain_peers import PEERS
from pruner_cases import random_input, signs
from torch import Tensor, nn
from vlmp.export.targets import TARGETS, open_target
from vlmp.export.targets.onnx.graphs import trace
from vlmp.pruner import Loop, Pruner, PrunerConfig, PruneResult, build_pruner
from vlmp.runtimes.bundle.manifest import Manifest, MethodName, ShapeSpec, TensorSpec
from vlmp.runtimes.session import RUNTIMES, Session

GRID, KEEP, WIDTH, KEY_WIDTH = (6, 7), 13, 24, 8
Float = Literal["float32", "float16"]
METHODS = (*PEERS, "local", "contrast")


class Alone(nn.Module):
    """A pruner with indices as a prefill puts them out."""

    def __init__(self, pruner: Pruner) -> None:
        super().__init__()
        self.pruner = pruner

    def forward(self, hidden: Tensor, keys: Tensor, attention: Tensor) -> tuple[Tensor, ...]:
        result = self.pruner(hidden, keys, attention)
        # Inputs that a method does not read would vanish from the graph.
        unread = (keys.sum((0, 1)) + attention.sum(0)) * 0
        return (*(part.to(torch.int32) for part in (result.kept_S, result.order_S)), result.hidden_SD + unread)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of what a target asks a geometry for."""

    prune_layer = 0

    def inputs(self, _method: MethodName, dtype: Float) -> list[TensorSpec]:
        tokens = GRID[0] * GRID[1]
        shapes = {"hidden": [tokens, WIDTH], "keys": [tokens, KEY_WIDTH], "attention": [tokens]}
        return [TensorSpec(name=name, shape=shape, dtype=dtype) for name, shape in shapes.items()]

    def outputs(self, _method: MethodName, dtype: Float) -> list[TensorSpec]:
        indices = [TensorSpec(name=name, shape=[KEEP], dtype="int32") for name in ("kept", "order")]
        return [*indices, TensorSpec(name="pruned", shape=[KEEP, WIDTH], dtype=dtype)]


def lowered(target: str, peer: str, folder: Path) -> Callable[..., tuple[Tensor, ...]]:
    """The peer's graph on the target's own runtime, in float32."""
    opened: Any = open_target(target)
    module = Alone(build_pruner(peer, GRID, PrunerConfig(num_kept=KEEP), opened.loop)).eval()
    return on_onnx(module, folder) if target == "onnx" else on_session(opened, target, module, folder)


def on_onnx(module: Alone, folder: Path) -> Callable[..., tuple[Tensor, ...]]:
    """As the pruner becomes a part of the language model's graph, here a graph of its own."""
    examples = {spec.name: torch.zeros(spec.shape) for spec in Sizes().inputs("prefill", "float32")}
    ir.save(trace(module, examples, ["kept", "order", "pruned"]), folder / "pruner.onnx")
    session = ort.InferenceSession(folder / "pruner.onnx", providers=["CPUExecutionProvider"])

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        inputs = {name: value.numpy() for name, value in zip(examples, values, strict=True)}
        return tuple(torch.from_numpy(output) for output in session.run(None, inputs))

    return run


def on_session(opened: Any, target: str, module: Alone, folder: Path) -> Callable[..., tuple[Tensor, ...]]:
    """As the only method of a bundle."""
    sizes: Any = Sizes()
    spec = opened.lower({"prefill": module}, sizes, "float32", folder, lambda _: None)["prefill"]
    if not (folder / spec.data_file).is_file():  # a peer has no weights
        spec = spec.model_copy(update={"data_file": ""})
    place, attribute = RUNTIMES[target].split(":")
    methods = {"prefill": spec, "decode": spec}
    shape = ShapeSpec.model_construct(methods={name: name for name in methods})
    manifest = Manifest.model_construct(target=target, quantization="none", methods=methods, shapes=[shape])
    session: Session = getattr(import_module(place), attribute)(folder, manifest)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        inputs = {tensor.name: value.numpy() for tensor, value in zip(spec.inputs, values, strict=True)}
        outputs = session.run("prefill", inputs)
        return tuple(torch.from_numpy(np.array(outputs[tensor.name])) for tensor in spec.outputs)

    return run


def inputs() -> list[tuple[Tensor, ...]]:
    """Ordinary, smooth, alike, blank, huge, with exact ties, and duplicated; the last two without any rounding."""
    tokens = GRID[0] * GRID[1]
    rng = torch.Generator().manual_seed(0)
    attention_N = torch.softmax(torch.randn(tokens, generator=rng), 0)
    cases: list[tuple[Tensor, ...]]
    cases = [(*random_input(kind, GRID, 1, WIDTH, KEY_WIDTH), attention_N) for kind in ("gaussian", "smooth", "biased")]
    hidden_ND, keys_NC, _ = cases[0]
    cases.append((torch.zeros_like(hidden_ND), torch.zeros_like(keys_NC), torch.zeros_like(attention_N)))
    cases.append((hidden_ND * 1e18, keys_NC * 1e18, attention_N))
    tied_ND = torch.cat([signs(tokens, 3), torch.zeros(tokens, WIDTH - 16)], 1)
    tied = (tied_ND, signs(tokens, 4, KEY_WIDTH), (attention_N > 0.02).float())
    fifth_N = torch.arange(tokens) % 5
    return [*cases, tied, tuple(values[fifth_N] for values in tied)]


@pytest.mark.parametrize("peer", METHODS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_chooses_as_eager(target: str, peer: str, tmp_path: Path) -> None:
    run = lowered(target, peer, tmp_path)
    eager = build_pruner(peer, GRID, PrunerConfig(num_kept=KEEP))
    for values in inputs():
        kept_S, order_S, hidden_SD = run(*values)
        wanted = eager(*values)
        assert order_S.tolist() == wanted.order_S.tolist()
        assert kept_S.tolist() == wanted.kept_S.tolist()
        assert torch.equal(hidden_SD, wanted.hidden_SD)


@pytest.mark.parametrize("keep", [1, 4, 42])
@pytest.mark.parametrize("loop", ["while", "scan", "unroll"])
@pytest.mark.parametrize("peer", METHODS)
def test_graph_equals_eager(peer: str, loop: Loop, keep: int) -> None:
    """Also at the edges: one token, the pivots alone, all tokens."""
    config = PrunerConfig(num_kept=keep, pivots=min(4, keep))
    pruner = build_pruner(peer, GRID, config, loop)
    assert pruner.exact
    values = inputs()[0]
    with torch.no_grad():
        program = torch.export.export(pruner, values)
    assert not program.range_constraints
    names = {str(node.target) for module in program.graph_module.modules() for node in module.graph.nodes}
    assert not [name for name in names if any(word in name for word in ("sort", "scatter", "index_put", "nonzero"))]
    for values in inputs():
        found, wanted = PruneResult(*program.module()(*values)), build_pruner(peer, GRID, config)(*values)
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
