"""Attention in float16: inside the delegate, on the real kernels."""

from __future__ import annotations

import pytest
import torch
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch import Tensor, nn
from vlmp.export.models.layers import PatchAttention
from vlmp.export.targets.executorch import _SkippingPartitioner
from vlmp.export.targets.executorch.half import HalfPatchAttention

PATCHES, HEADS, WIDTH = 48, 4, 64


class Whole(nn.Module):
    """Attention with constants of its own around."""

    def __init__(self, attention: nn.Module, *, rope: bool, weights: bool) -> None:
        super().__init__()
        self.attention = attention
        angle = torch.linspace(0, 3, PATCHES * WIDTH // HEADS).reshape(PATCHES, -1)
        self.rope = (angle.cos(), angle.sin()) if rope else None
        self.mask = torch.linspace(0, 2, PATCHES).unsqueeze(0) if weights else None

    def forward(self, qkv_ME: Tensor) -> Tensor:
        return self.attention(qkv_ME + 1, self.rope, self.mask) * 2


@pytest.mark.parametrize(("rope", "weights"), [(True, False), (False, True)])
def test_one_delegate_computes_it_and_rounds_as_pytorch_in_float16(rope: bool, weights: bool) -> None:
    qkv_ME = torch.randn(PATCHES, 3 * WIDTH, generator=torch.Generator().manual_seed(0))
    attention = PatchAttention(HEADS)
    exact = Whole(attention, rope=rope, weights=weights)
    half = Whole(HalfPatchAttention(attention), rope=rope, weights=weights)
    wanted = half(qkv_ME)
    traced = torch.export.export(half, (qkv_ME,), strict=False)
    lowered = to_edge_transform_and_lower(
        traced,
        partitioner=[_SkippingPartitioner(lambda _: False)],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    calls = [node for node in lowered.exported_program().graph.nodes if node.op == "call_function"]
    # Numbers that stand in the graph may be converted before it.
    outside = [node.name for node in calls if not isinstance(node.meta["val"], Tensor) or node.meta["val"].dim()]
    assert outside == ["executorch_call_delegate", "getitem"]
    program = Runtime.get().load_program(lowered.to_executorch().buffer)
    (found,) = program.load_method("forward").execute([qkv_ME])
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 1e-2 * wanted.abs().max()
    assert (wanted - exact(qkv_ME)).abs().max() > 1e-4 * wanted.abs().max()
    assert (found - exact(qkv_ME)).abs().max() > 1e-4 * wanted.abs().max()
