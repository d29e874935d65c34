"""Passes of XNNPACK that are left out where they find nothing: the program is the same to the last byte."""

from __future__ import annotations

import pytest
import torch
from executorch.backends.xnnpack import xnnpack_preprocess
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import nn
from vlmp.export.targets.executorch.passes import LOOKS_FOR, FewerPasses, fewer_passes


def lowered(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    program = torch.export.export(module.eval(), (torch.ones(shape),), strict=False)
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    return bytes(edge.to_executorch().buffer)


@torch.no_grad()
def test_what_a_pass_looks_for_keeps_it() -> None:
    """A convolution over rows, a norm that is fused with it, an activation that is, too, and a norm of its own."""
    model = nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.BatchNorm1d(6))
    whole = lowered(model, (1, 4, 8))
    with fewer_passes():
        assert lowered(model, (1, 4, 8)) == whole


@torch.no_grad()
def test_layers_of_a_model_need_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 6), nn.Softmax(-1))
    whole, left = lowered(model, (1, 5, 8)), []

    class Watched(FewerPasses):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[arg-type]
            left.append(set(self.passes))

    monkeypatch.setattr(xnnpack_preprocess, "XNNPACKPassManager", Watched)
    assert lowered(model, (1, 5, 8)) == whole
    assert left
    assert not any(found & set(LOOKS_FOR) for found in left)
