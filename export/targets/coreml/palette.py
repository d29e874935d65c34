"""Weights as places in tables of 16 values, one table for some rows: Core ML's palettization.

Dims: O outputs, I inputs, R rows of a table, P = O / R tables, V = 16 values, L rows, n = R I weights of a table.
"""

from typing import Any

import torch
from coremltools.converters.mil.frontend._utils import _construct_constexpr_lut_op
from coremltools.converters.mil.frontend.torch.ops import _get_inputs
from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op
from torch import Tensor
from torch.nn import functional as F
from vlmp.export.quantize import CHUNK, QuantLinear, constant

VALUES = 16
LLOYD_STEPS = 12


class PaletteLinear(QuantLinear):
    """Only the weight is stored in integers; Core ML turns it into floats and computes with these."""

    def encode(self, weight_OI: Tensor) -> None:
        """Find the tables, in float16, and each weight's place in its own."""
        shared = self.scheme.palette
        assert shared is not None
        # Some tables at a time: sorting and summing a whole matrix takes many times its size.
        rows = shared * max(1, CHUNK // (shared * self.inputs))
        codes, values = zip(*(palettize(part.float(), shared) for part in weight_OI.split(rows)), strict=True)
        self.codes, self.scale = constant(torch.cat(codes)), constant(torch.cat(values))

    def rows(self, index_L: Tensor) -> Tensor:
        """Rows of the weight. int [L] -> float32 [L, I]."""
        values_LV = self.scale.index_select(0, index_L // (self.outputs // len(self.scale))).float()
        return values_LV.gather(1, self.codes.index_select(0, index_L).long())

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [L, I] -> [L, O]."""
        if self.in_parts:
            return self.product(hidden_LI)
        weight_OI = torch.ops.vlmp.from_palette(self.codes, self.scale)
        return F.linear(hidden_LI, weight_OI.to(hidden_LI.dtype), self.bias)


def palettize(weight_OI: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """k-means of the weights of each R rows (Lloyd): places int8 [O, I], values float16 [P, V]."""
    outputs, inputs = weight_OI.shape
    weight_Pn = weight_OI.reshape(-1, rows * inputs)
    sorted_Pn = weight_Pn.sort(1).values
    total_Pn = torch.cat([sorted_Pn.new_zeros(len(sorted_Pn), 1), sorted_Pn.cumsum(1, dtype=torch.float64)], 1)
    # Begins at the middle of 16 equal shares; a step moves each value to the mean of what is nearest to it.
    middle_V = ((torch.arange(VALUES) + 0.5) * (sorted_Pn.shape[1] / VALUES)).long()
    values_PV = sorted_Pn[:, middle_V].contiguous()
    for _ in range(LLOYD_STEPS):
        border_PV = torch.searchsorted(sorted_Pn, (values_PV[:, 1:] + values_PV[:, :-1]) / 2)
        edge_PV = F.pad(F.pad(border_PV, (1, 0)), (0, 1), value=sorted_Pn.shape[1])
        count_PV = edge_PV.diff()
        mean_PV = total_Pn.gather(1, edge_PV).diff() / count_PV.clamp_min(1)
        values_PV = torch.where(count_PV > 0, mean_PV.float(), values_PV)
    values_PV = values_PV.half().sort(1).values
    wide_PV = values_PV.float()
    codes_Pn = torch.searchsorted((wide_PV[:, 1:] + wide_PV[:, :-1]) / 2, weight_Pn.contiguous())
    return codes_Pn.to(torch.int8).reshape(outputs, inputs), values_PV


@torch.library.custom_op("vlmp::from_palette", mutates_args=())
def from_palette(codes_OI: Tensor, values_PV: Tensor) -> Tensor:
    """The weight that places stand for. int8 [O, I], float16 [P, V] -> float16 [O, I]."""
    places_Pn = codes_OI.reshape(len(values_PV), -1).long()
    return values_PV.gather(1, places_Pn).reshape(codes_OI.shape)


@from_palette.register_fake
def _(codes_OI: Tensor, values_PV: Tensor) -> Tensor:
    return values_PV.new_empty(codes_OI.shape)


@register_torch_op(torch_alias=["vlmp::from_palette", "vlmp.from_palette"], override=True)
def vlmp_from_palette(context: Any, node: Any) -> None:
    """How coremltools converts it."""
    codes, values = _get_inputs(context, node, expected=2)
    tables = values.val.reshape(-1, 1, VALUES, 1)
    context.add(_construct_constexpr_lut_op(codes.val, tables, name=node.name), node.name)
