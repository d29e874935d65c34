"""Modules as ONNX Runtime's own operators (domain com.microsoft).

Dims: O outputs, I inputs, G groups of inputs, g inputs of a group, L rows, M patches, E vision width, D hidden size,
X positions, C cache slots, H query heads, J key/value heads, d head size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from vlmp.export.models.layers import AddNorm, PatchAttention, RmsNorm, TanhGelu
from vlmp.export.models.mixers import Attention, ShortConv, convolve
from vlmp.export.quantize import QuantLinear, constant


class RowLinear(QuantLinear):
    """DynamicQuantizeMatMul: int8 weights with a scale for each output, activations uint8 with one scale and zero."""

    def pack(self, codes_OI: Tensor, scale_OG: Tensor) -> None:
        """The kernel reads the weight as [I, O]."""
        self.codes = constant(codes_OI.T.contiguous())
        self.scale = constant(scale_OG[:, 0].contiguous())

    def rows(self, index_L: Tensor) -> Tensor:
        """Rows of the weight. int [L] -> float32 [L, I]."""
        return (self.codes.index_select(1, index_L).float() * self.scale.index_select(0, index_L)).T

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [..., I] -> [..., O]."""
        if self.lowering:
            inputs = (hidden_LI, self.codes, self.scale, None, self.bias)
            return contrib("DynamicQuantizeMatMul", inputs[: 5 if self.bias is not None else 3], width=self.outputs)
        low, high = hidden_LI.amin().clamp_max(0), hidden_LI.amax().clamp_min(0)
        scale = (high - low) / 255
        zero = (-low / scale).round()
        codes_LI = ((hidden_LI / scale).round() + zero).clamp(0, 255) - zero
        return self.product(codes_LI * scale)


class GroupLinear(QuantLinear):
    """MatMulNBits at accuracy level 4: activations are int8 with a scale for each row and group of inputs.

    The weight is uint8 [O, G, g * bits / 8] around 2^(bits - 1), two 4-bit codes in a byte, the first one low.
    """

    def pack(self, codes_OI: Tensor, scale_OG: Tensor) -> None:
        """Offset and pack."""
        codes_OGg = (
            (codes_OI.to(torch.int16) + (self.scheme.largest + 1)).to(torch.uint8).unflatten(1, (-1, self.group))
        )
        if self.scheme.bits == 4:
            codes_OGg = codes_OGg[..., ::2] | (codes_OGg[..., 1::2] << 4)
        self.codes = constant(codes_OGg.contiguous())
        self.scale = constant(scale_OG.contiguous())

    def rows(self, index_L: Tensor) -> Tensor:
        """Rows of the weight. int [L] -> float32 [L, I]."""
        codes_LGg = self.codes.index_select(0, index_L)
        if self.scheme.bits == 4:
            codes_LGg = torch.stack([codes_LGg & 15, codes_LGg >> 4], -1).flatten(-2)
        scale_LG1 = self.scale.index_select(0, index_L).unsqueeze(-1)
        return ((codes_LGg.float() - (self.scheme.largest + 1)) * scale_LG1).reshape(-1, self.inputs)

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [..., I] -> [..., O]."""
        if self.lowering:
            sizes = {"K": self.inputs, "N": self.outputs, "bits": self.scheme.bits, "block_size": self.group}
            inputs = (hidden_LI, self.codes, self.scale)
            product = contrib("MatMulNBits", inputs, {**sizes, "accuracy_level": 4}, width=self.outputs)
            return product if self.bias is None else product + self.bias
        hidden_LGg = hidden_LI.unflatten(-1, (-1, self.group))
        scale_LG1 = (hidden_LGg.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-30)
        rounded_LI = ((hidden_LGg / scale_LG1).round() * scale_LG1).flatten(-2)
        return self.product(rounded_LI)


class FusedPatchAttention(nn.Module):
    """MultiHeadAttention: scores are never written to memory as a whole."""

    def __init__(self, attention: PatchAttention) -> None:
        super().__init__()
        self.heads, self.windows = attention.heads, attention.windows

    def forward(self, qkv_ME: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None = None) -> Tensor:
        """Queries, keys and values [M, 3 E], not rotated, cos and sin [M, d] or None -> mixed values [M, E].

        mask: added to scores, [M, M] or [1, M]; not together with windows.
        """
        position_1M = torch.arange(qkv_ME.shape[0]).unsqueeze(0)
        query_1ME, key_1ME, value_1ME = qkv_ME.unsqueeze(0).chunk(3, -1)
        heads = {"num_heads": self.heads}

        def rotated(hidden_1ME: Tensor) -> Tensor:
            if rope is None:
                return hidden_1ME
            cos_Mh, sin_Mh = (table[:, : table.shape[1] // 2] for table in rope)  # the other half is the same
            return contrib("RotaryEmbedding", (hidden_1ME, position_1M, cos_Mh, sin_Mh), heads)

        inputs = (rotated(query_1ME), rotated(key_1ME), value_1ME)
        if mask is not None and mask.shape[0] == 1:
            return self._weighed(*inputs, mask)[0]
        if mask is not None:
            patches = qkv_ME.shape[0]
            return contrib("MultiHeadAttention", (*inputs, None, None, mask.expand(1, 1, patches, patches)), heads)[0]
        if not self.windows:
            return contrib("MultiHeadAttention", inputs, heads)[0]
        parts, start = [], 0
        for count, size in self.windows:
            stop = start + count * size
            apart = [part[0, start:stop].unflatten(0, (count, size)) for part in inputs]
            parts.append(contrib("MultiHeadAttention", apart, heads).flatten(0, 1))
            start = stop
        return torch.cat(parts)

    def _weighed(self, query_1ME: Tensor, key_1ME: Tensor, value_1ME: Tensor, bias_1M: Tensor) -> Tensor:
        """With what is added to the scores of each key in one more channel of every head.

        As `attention_bias` the operator would write all scores to memory.
        """
        query_1MHd, key_1MHd = (each.unflatten(-1, (self.heads, -1)) for each in (query_1ME, key_1ME))
        scale = query_1MHd.shape[-1] ** -0.5
        bias_1MH1 = (bias_1M / scale)[..., None, None].expand(-1, -1, self.heads, 1)
        inputs = (
            torch.cat([query_1MHd, torch.ones_like(query_1MHd[..., :1])], -1).flatten(-2),
            torch.cat([key_1MHd, bias_1MH1], -1).flatten(-2),
            value_1ME,
        )
        width = value_1ME.shape[-1]
        return contrib("MultiHeadAttention", inputs, {"num_heads": self.heads, "scale": scale}, width=width)


class FusedRmsNorm(nn.Module):
    """SimplifiedLayerNormalization."""

    def __init__(self, norm: RmsNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, hidden_LD: Tensor) -> Tensor:
        """hidden [..., D] -> [..., D]."""
        attributes = {"axis": -1, "epsilon": self.eps, "stash_type": 1}
        return contrib("SimplifiedLayerNormalization", (hidden_LD, self.weight), attributes, domain="")


class FusedAddNorm(nn.Module):
    """SkipSimplifiedLayerNormalization."""

    def __init__(self, _: AddNorm) -> None:
        super().__init__()

    def forward(self, residual: Tensor, hidden: Tensor | None, norm: RmsNorm) -> tuple[Tensor, Tensor]:
        """residual and hidden [..., D] -> the normed sum, the sum."""
        if hidden is None:
            return norm(residual), residual
        shape = hidden.shape
        normed, _, _, whole = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::SkipSimplifiedLayerNormalization",
            (hidden, residual, norm.weight),
            {"epsilon": norm.eps},
            dtypes=(hidden.dtype,) * 4,
            shapes=(shape, (1,), (1,), shape),
            version=1,
        )
        return normed, whole


class FusedSilu(nn.Module):
    """QuickGelu is x sigmoid(alpha x)."""

    def __init__(self, _: nn.SiLU) -> None:
        super().__init__()

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [...] -> [...]."""
        return contrib("QuickGelu", (hidden,), {"alpha": 1.0})


class CacheContext(NamedTuple):
    """Where the tokens of a call stand, for FusedAttention.

    position int64 [1, L]: rows of the rotary tables cos and sin [X, d / 2]. seen int32 [1]: tokens in the cache once
    these are in it, less one; total: the same as a scalar and not less one.
    """

    position: Tensor
    cos: Tensor
    sin: Tensor
    seen: Tensor
    total: Tensor
    bias: Tensor | None


class FusedAttention(nn.Module):
    """GroupQueryAttention: appends to the two caches, attends causally."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = attention.heads, attention.kv_heads, attention.head_dim

    def forward(self, qkv: Tensor, context: CacheContext, cache: Sequence[Tensor]) -> Sequence[Tensor]:
        """Projected tokens [1, L, (H + 2 J) d], caches [1, J, C, d] -> mixed values [1, L, H d], updated caches."""
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        query, key, value = qkv.split((width, kv_width, kv_width), -1)

        # Not by GroupQueryAttention itself: in a first prompt it counts positions from 0 whatever it is given.
        def rotated(hidden: Tensor, heads: int) -> Tensor:
            inputs = (hidden, context.position, context.cos, context.sin)
            return contrib("RotaryEmbedding", inputs, {"num_heads": heads})

        turned = rotated(query, self.heads), rotated(key, self.kv_heads)
        inputs: tuple[Tensor | None, ...] = (*turned, value, *cache, context.seen, context.total)
        if context.bias is not None:
            inputs = (*inputs, None, None, None, context.bias)
        return torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            inputs,
            {"num_heads": self.heads, "kv_num_heads": self.kv_heads},
            dtypes=(qkv.dtype,) * 3,
            shapes=(query.shape, cache[0].shape, cache[1].shape),
            version=1,
        )


class FusedShortConv(nn.Module):
    """No operator of its own: over tokens with a dim for a batch, all of which are valid."""

    def __init__(self, conv: ShortConv) -> None:
        super().__init__()
        self.weight = conv.weight

    def forward(self, gated: Tensor, context: CacheContext, cache: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens [1, L, D], state [r, D] -> mixed tokens [1, L, D], state after them."""
        mixed, everything = convolve(gated[0], cache[0], self.weight)
        return mixed.unsqueeze(0), everything[1 - self.weight.shape[0] :]


FUSED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    PatchAttention: FusedPatchAttention,
    Attention: FusedAttention,
    ShortConv: FusedShortConv,
    RmsNorm: FusedRmsNorm,
    AddNorm: FusedAddNorm,
    nn.SiLU: FusedSilu,
    TanhGelu: lambda _: nn.GELU(approximate="tanh"),
}
"""What ONNX Runtime has operators of its own for."""


@contextmanager
def fused(root: nn.Module) -> Iterator[None]:
    """Inside, the modules that ONNX Runtime has operators for stand for those operators: for tracing only."""
    swaps = [
        (parent, name, child)
        for parent in list(root.modules())
        for name, child in parent.named_children()
        if type(child) in FUSED
    ]
    quantized = [part for part in root.modules() if isinstance(part, QuantLinear)]
    for parent, name, child in swaps:
        setattr(parent, name, FUSED[type(child)](child))
    for part in quantized:
        part.lowering = True
    try:
        yield
    finally:
        for parent, name, child in swaps:
            setattr(parent, name, child)
        for part in quantized:
            part.lowering = False


def contrib(
    name: str,
    inputs: Sequence[Tensor | None],
    attributes: dict[str, Any] | None = None,
    *,
    width: int | None = None,
    domain: str = "com.microsoft::",
) -> Tensor:
    """An operator in the graph; its value at tracing is of no use. The first input [..., I] -> [..., width or I]."""
    hidden_LI = inputs[0]
    assert hidden_LI is not None
    return torch.onnx.ops.symbolic(
        f"{domain}{name}",
        inputs,
        attributes or {},
        dtype=hidden_LI.dtype,
        shape=(*hidden_LI.shape[:-1], width or hidden_LI.shape[-1]),
        version=1,
    )
