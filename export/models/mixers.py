"""The layers of a decoder: tokens are mixed by attention or by a short convolution, then comes a gated MLP.

Dims: L tokens of a call, R rows of queries g L, D hidden size, W width of projected heads, C cache slots, H query
heads, J key/value heads, g = H / J, d head size. Of a convolution k tokens, r = k - 1 rows of its state, Z = r + L.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from vlmp.export.models.layers import AddNorm, JoinedLinear, RmsNorm, activation, rotate
from vlmp.export.models.spec import DecoderSpec, LayerSpec


class Context(NamedTuple):
    """Where the tokens of a call stand: their rotary rows [L, d] and what each may look at of the others [L, L]."""

    cos_Ld: Tensor
    sin_Ld: Tensor
    mask_LL: Tensor
    tail_r: Tensor | None = None
    """Rows of a convolution's state and the tokens after it that are its state after the last valid one; where a layer
    is one."""


class Attention(nn.Module):
    """Grouped-query attention over cached and new tokens, after rotary embedding.

    What it is told of the tokens and their cache is its own matter: the layer passes both through.
    """

    def __init__(self, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim

    def forward(
        self, qkv_LW: Tensor, context: Context, cache: tuple[Tensor, Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Projected tokens [L, (H + 2 J) d], cache (keys [J, C, d], values [J, C, d], mask [1, C]), None where empty.

        Returns mixed values [L, H d], and the new keys and values [J, L, d].
        """
        tokens = qkv_LW.shape[0]
        query_HLd, key_JLd, value_JLd = split_heads(qkv_LW, self.heads, self.kv_heads)
        query_HLd, key_JLd = (rotate(each, context.cos_Ld, context.sin_Ld) for each in (query_HLd, key_JLd))

        # The g query heads of a key head are consecutive: as extra rows they need no repeated keys.
        query_JRd = query_HLd.reshape(self.kv_heads, -1, self.head_dim) * self.head_dim**-0.5
        score_HLK = torch.bmm(query_JRd, key_JLd.transpose(1, 2)).reshape(self.heads, tokens, tokens) + context.mask_LL
        if cache is None:
            share_JRK = torch.softmax(score_HLK, -1).reshape(self.kv_heads, -1, tokens)
            mixed_JRd = torch.bmm(share_JRK, value_JLd)
        else:
            old_key_JCd, old_value_JCd, mask_1C = cache
            slots = old_key_JCd.shape[1]
            old_HLC = torch.bmm(query_JRd, old_key_JCd.transpose(1, 2)).reshape(self.heads, tokens, slots) + mask_1C
            share_HLK = torch.softmax(torch.cat([old_HLC, score_HLK], -1), -1)
            share_JRK = share_HLK.reshape(self.kv_heads, -1, slots + tokens)
            mixed_JRd = torch.bmm(share_JRK[:, :, :slots], old_value_JCd)
            mixed_JRd = mixed_JRd + torch.bmm(share_JRK[:, :, slots:], value_JLd)
        mixed_LW = mixed_JRd.reshape(self.heads, tokens, self.head_dim).permute(1, 0, 2).reshape(tokens, -1)
        return mixed_LW, key_JLd, value_JLd


class ShortConv(nn.Module):
    """Each channel of a token becomes a weighted sum of its last r + 1 tokens, the first of which a state holds."""

    def __init__(self, kernel: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel, width))

    def forward(self, gated_LD: Tensor, context: Context, cache: tuple[Tensor, ...] | None) -> tuple[Tensor, Tensor]:
        """Tokens [L, D], state [r, D], None where it is zero -> mixed tokens [L, D], state after the last valid one."""
        assert context.tail_r is not None
        mixed_LD, all_ZD = convolve(gated_LD, cache[0] if cache else None, self.weight)
        return mixed_LD, all_ZD.index_select(0, context.tail_r)


def convolve(gated_LD: Tensor, state_rD: Tensor | None, weight_kD: Tensor) -> tuple[Tensor, Tensor]:
    """Mixed tokens [L, D], and the state with the tokens after it [r + L, D].

    Sums of slices rather than a convolution, which targets have for pictures.
    """
    tokens, kernel = gated_LD.shape[0], weight_kD.shape[0]
    if state_rD is None:
        state_rD = gated_LD.new_zeros(kernel - 1, gated_LD.shape[1])
    all_ZD = torch.cat([state_rD, gated_LD])
    mixed_LD = gated_LD * weight_kD[kernel - 1 :]
    for place in range(kernel - 1):
        mixed_LD = mixed_LD + all_ZD.narrow(0, place, tokens) * weight_kD[place : place + 1]
    return mixed_LD, all_ZD


class LayerResult(NamedTuple):
    """What a layer leaves. Its output is residual + hidden, which the next one's norm adds up.

    before: the layer's input. cached: what its mixer returns beside the mixed tokens, keys and values or a state.
    """

    residual: Tensor
    hidden: Tensor
    before: Tensor
    cached: tuple[Tensor, ...]

    @property
    def key(self) -> Tensor | None:
        """Keys [J, L, d] of its attention."""
        return self.cached[0] if len(self.cached) == 2 else None


class Layer(nn.Module):
    """Decoder layer: tokens are mixed, then comes a gated MLP, each on a normed sum and added to it.

    Written once: for targets with operators of their own, the parameterless parts are exchanged.
    """

    def __init__(self, spec: DecoderSpec, layer: LayerSpec) -> None:
        super().__init__()
        width, inner = spec.width, layer.inner
        self.input_norm = RmsNorm(width, spec.norm_eps)
        self.mlp_norm = RmsNorm(width, spec.norm_eps)
        self.gate_up = JoinedLinear(width, (inner, inner), bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.add_norm = AddNorm()
        self.act = activation(spec.act)

    def forward(self, residual: Tensor, hidden: Tensor | None, context: Any, cache: Any) -> LayerResult:
        """residual, hidden [L, D]: two parts of the input, or the whole and None. context, cache: the mixer's."""
        normed, before = self.add_norm(residual, hidden, self.input_norm)
        mixed, *cached = self.mix(normed, context, cache)
        normed, residual = self.add_norm(before, mixed, self.mlp_norm)
        gate, up = self.gate_up(normed).chunk(2, -1)
        return LayerResult(residual, self.down(self.act(gate) * up), before, tuple(cached))

    def mix(self, normed: Tensor, context: Any, cache: Any) -> tuple[Tensor, ...]:
        """normed [L, D] -> mixed tokens [L, D], and what is cached of them."""
        raise NotImplementedError


class ConvLayer(Layer):
    """A layer with a gated short convolution: it sees the tokens next to it, and keeps no keys."""

    def __init__(self, spec: DecoderSpec, layer: LayerSpec) -> None:
        super().__init__(spec, layer)
        self.conv_in = JoinedLinear(spec.width, (spec.width,) * 3, bias=False)
        self.conv = ShortConv(spec.conv_kernel, spec.width)
        self.conv_out = nn.Linear(spec.width, spec.width, bias=False)

    def mix(self, normed: Tensor, context: Any, cache: Any) -> tuple[Tensor, ...]:
        """See Layer."""
        before, after, value = self.conv_in(normed).chunk(3, -1)
        mixed, state = self.conv(before * value, context, cache)
        return self.conv_out(after * mixed), state


class AttentionLayer(Layer):
    """A layer with attention."""

    def __init__(self, spec: DecoderSpec, layer: LayerSpec) -> None:
        super().__init__(spec, layer)
        width, head_dim = spec.width, layer.head_dim
        self.widths = spec.heads * head_dim, layer.kv_heads * head_dim, layer.kv_heads * head_dim
        self.qkv = JoinedLinear(width, self.widths, bias=spec.qkv_bias)
        self.q_norm = RmsNorm(head_dim, spec.norm_eps) if spec.qk_norm else None
        self.k_norm = RmsNorm(head_dim, spec.norm_eps) if spec.qk_norm else None
        self.out = nn.Linear(spec.heads * head_dim, width, bias=spec.out_bias)
        self.attention = Attention(spec.heads, layer.kv_heads, head_dim)

    def mix(self, normed: Tensor, context: Any, cache: Any) -> tuple[Tensor, ...]:
        """See Layer."""
        mixed, key, value = self.attention(self.project(normed), context, cache)
        return self.out(mixed), key, value

    def project(self, normed: Tensor) -> Tensor:
        """normed [..., L, D] -> queries, keys and values [..., L, (H + 2 J) d], not rotated."""
        qkv = self.qkv(normed)
        if self.q_norm is None or self.k_norm is None:
            return qkv
        query, key, value = qkv.split(self.widths, -1)
        return torch.cat([norm_heads(query, self.q_norm), norm_heads(key, self.k_norm), value], -1)

    def queries(self, hidden_LD: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
        """The queries [H, L, d] of some of the tokens that `forward` takes, from the same input."""
        qkv_LW = self.project(self.input_norm(hidden_LD))
        return rotate(split_heads(qkv_LW, self.attention.heads, self.attention.kv_heads)[0], cos_Ld, sin_Ld)


def norm_heads(hidden: Tensor, norm: nn.Module) -> Tensor:
    """Each head by itself, whose size is the norm's. [..., H d] -> [..., H d]."""
    head_dim = cast(RmsNorm, norm).weight.shape[0]
    return norm(hidden.reshape(-1, head_dim)).reshape(hidden.shape)


def split_heads(qkv_LW: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[L, (H + 2 J) d] -> queries [H, L, d], keys [J, L, d], values [J, L, d]."""
    parts = qkv_LW.reshape(qkv_LW.shape[0], heads + 2 * kv_heads, -1).permute(1, 0, 2)
    query_HLd, key_JLd, value_JLd = parts.split((heads, kv_heads, kv_heads))
    return query_HLd, key_JLd, value_JLd
