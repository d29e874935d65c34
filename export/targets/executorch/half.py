"""Attention in float16 between float32 layers: phones multiply twice as many of these numbers at a time.

XNNPACK converts between the two, but ExecuTorch's partitioner leaves conversions out of delegates. Ours are operators
of their own, `vlmp::narrow` and `vlmp::widen`, which the partitioner is told to take.

Dims: M patches, E vision width, d head size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from executorch.backends.xnnpack.operators.node_visitor import NodeVisitor, register_node_visitor
from executorch.backends.xnnpack.partition.config.generic_node_configs import GenericNodePartitionerConfig
from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNConvert, XNNGraph, XNode
from torch import Tensor, nn
from torch.fx import Node
from vlmp.export.models.layers import PatchAttention


@torch.library.custom_op("vlmp::narrow", mutates_args=())
def narrow(value: Tensor) -> Tensor:
    """float32 -> float16."""
    return value.half()


@torch.library.custom_op("vlmp::widen", mutates_args=())
def widen(value: Tensor) -> Tensor:
    """float16 -> float32."""
    return value.float()


narrow.register_fake(lambda value: torch.empty_like(value, dtype=torch.float16))
widen.register_fake(lambda value: torch.empty_like(value, dtype=torch.float32))


class HalfPatchAttention(nn.Module):
    """PatchAttention, computed in float16 from its projections to what it mixes."""

    def __init__(self, attention: PatchAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, qkv_ME: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None = None) -> Tensor:
        """As PatchAttention: float32 in, float32 out."""
        half_rope = (narrow(rope[0]), narrow(rope[1])) if rope else None
        return widen(self.attention(narrow(qkv_ME), half_rope, None if mask is None else narrow(mask)))


class _Conversion(NodeVisitor):
    """Writes a conversion into XNNPACK's graph; the types are those of its two tensors."""

    def define_node(self, node: Node, xnn_graph: XNNGraph, vals_to_ids: Mapping[Node, int], debug_handle: int) -> None:
        (source,) = node.all_input_nodes
        self.define_tensor(source, xnn_graph, vals_to_ids)
        self.define_tensor(node, xnn_graph, vals_to_ids)
        convert = XNNConvert(input_id=vals_to_ids[source], output_id=vals_to_ids[node], flags=0)
        xnn_graph.xnodes.append(XNode(xnode_union=convert, debug_handle=debug_handle))


class _Taken(GenericNodePartitionerConfig):
    """Lets the partitioner take it."""

    def supported_precision_types(self) -> list[ConfigPrecisionType]:
        return [ConfigPrecisionType.FP32]


def _conversion(name: str) -> type[_Taken]:
    """Registers the visitor of an operator of ours; what the partitioner is to be told of it."""
    register_node_visitor(type(f"_{name}", (_Conversion,), {"target": f"vlmp.{name}.default"}))
    return type(f"_{name}_taken", (_Taken,), {"target_name": f"{name}.default"})


CONVERSIONS: list[Any] = [_conversion("narrow"), _conversion("widen")]
"""For XnnpackPartitioner, beside its own."""
