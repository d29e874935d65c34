"""The parts of vision-language models: attention, norms, activations, rotation, masks.

Dims: M patches, E vision width, L tokens of a call, D hidden size, H heads, J key/value heads, g = H / J, d head size.
"""

import math

import torch
from torch import Tensor, nn
from vlmp.export.models.spec import Activation, Norm

MASKED = -40000.0
"""Added to scores that must not count: finite in float16, and exp(-40000) is 0 in every precision."""


class JoinedLinear(nn.Linear):
    """Linear layers that take the same input as one: their outputs follow each other, `sizes` of each."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], *, bias: bool) -> None:
        super().__init__(inputs, sum(sizes), bias=bias)
        self.sizes = sizes


class PatchAttention(nn.Module):
    """Attention of a vision tower: over all patches, or within windows.

    windows: (count, size) of windows of one size, in the order of their patches, which they hold all; none: one window.
    """

    def __init__(self, heads: int, windows: tuple[tuple[int, int], ...] = ()) -> None:
        super().__init__()
        self.heads, self.windows = heads, windows

    def forward(self, qkv_ME: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None = None) -> Tensor:
        """Queries, keys and values [M, 3 E], not rotated, cos and sin [M, d] or None -> mixed values [M, E].

        mask: added to scores, [M, M] or [1, M]; not together with windows.
        """
        patches = qkv_ME.shape[0]
        query_HMd, key_HMd, value_HMd = patch_heads(qkv_ME, self.heads, rope)
        query_HMd = query_HMd * query_HMd.shape[-1] ** -0.5
        if not self.windows:
            return mix(query_HMd, key_HMd, value_HMd, mask).permute(1, 0, 2).reshape(patches, -1)
        parts, start = [], 0
        for count, size in self.windows:
            stop = start + count * size
            # The windows of a head are consecutive: as heads of their own they need no further dim.
            apart = (
                part[:, start:stop].reshape(self.heads * count, size, -1) for part in (query_HMd, key_HMd, value_HMd)
            )
            parts.append(mix(*apart).reshape(self.heads, stop - start, -1))
            start = stop
        return torch.cat(parts, 1).permute(1, 0, 2).reshape(patches, -1)


def patch_heads(qkv_ME: Tensor, heads: int, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [M, 3 E] -> each [H, M, d], the first two rotated by cos and sin [M, d]."""
    width = qkv_ME.shape[1] // 3
    # Slices rather than an index or a split: XNNPACK has no other way to take a part.
    query_HMd, key_HMd, value_HMd = (
        qkv_ME[:, start : start + width].reshape(qkv_ME.shape[0], heads, -1).permute(1, 0, 2)
        for start in (0, width, 2 * width)
    )
    if rope:
        query_HMd, key_HMd = rotate(query_HMd, *rope), rotate(key_HMd, *rope)
    return query_HMd, key_HMd, value_HMd


def mix(query_HMd: Tensor, key_HMd: Tensor, value_HMd: Tensor, mask: Tensor | None = None) -> Tensor:
    """Values [H, M, d] mixed by what each query, scaled already, attends to. mask: added to scores, [M or 1, M]."""
    score_HMM = torch.bmm(query_HMd, key_HMd.transpose(1, 2))
    if mask is not None:
        score_HMM = score_HMM + mask
    return torch.bmm(torch.softmax(score_HMM, -1), value_HMd)


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32 whatever the precision of the rest."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, hidden_LD: Tensor) -> Tensor:
        """hidden [L, D] -> [L, D]."""
        tokens, width = hidden_LD.shape
        wide = hidden_LD.float()
        # XNNPACK takes a mean over the last two of four dims only.
        mean_L1 = (wide * wide).reshape(1, tokens, 1, width).mean((2, 3), keepdim=True).reshape(tokens, 1)
        wide = wide * torch.rsqrt(mean_L1 + self.eps)
        return wide.to(hidden_LD.dtype) * self.weight


def new_norm(kind: Norm, width: int, eps: float) -> nn.Module:
    """A norm of this kind; a layer norm has a bias."""
    return RmsNorm(width, eps) if kind == "rms" else nn.LayerNorm(width, eps=eps)


class QuickGelu(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [...] -> [...]."""
        return hidden * torch.sigmoid(1.702 * hidden)


class TanhGelu(nn.Module):
    """GELU by its approximation with tanh: x sigmoid(2 z), z = sqrt(2 / pi) (x + 0.044715 x^3).

    Not PyTorch's own: ExecuTorch and Core ML would compute the exact one in its place.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [...] -> [...]."""
        return hidden * torch.sigmoid(2 * math.sqrt(2 / math.pi) * hidden * (1 + 0.044715 * hidden * hidden))


def activation(name: Activation) -> nn.Module:
    """The activation of this name."""
    match name:
        case "silu":
            return nn.SiLU()
        case "gelu":
            return nn.GELU()
        case "gelu_tanh":
            return TanhGelu()
        case "quick_gelu":
            return QuickGelu()


class AddNorm(nn.Module):
    """A sum and what a norm makes of it, which some targets have one operator for."""

    def forward(self, residual: Tensor, hidden: Tensor | None, norm: RmsNorm) -> tuple[Tensor, Tensor]:
        """residual and hidden [L, D], or None for nothing to add -> the normed sum, the sum."""
        whole = residual if hidden is None else residual + hidden
        return norm(whole), whole


class RowAttention(nn.Module):
    """What tokens attend to, averaged over them and over heads, in float32 whatever the precision of the rest."""

    def forward(self, query_HQd: Tensor, key_JLd: Tensor, mask_1L: Tensor) -> Tensor:
        """queries [H, Q, d], keys [J, L, d], all rotated, mask [1, L] -> shares of attention [L], their sum is 1.

        Q: usually the one token at the prompt's end; a vision tower's patches may be many.
        """
        kv_heads, tokens, head_dim = key_JLd.shape
        query_Jgd = query_HQd.float().reshape(kv_heads, -1, head_dim) * head_dim**-0.5
        score_JgL = torch.bmm(query_Jgd, key_JLd.float().transpose(1, 2)) + mask_1L.float()
        return torch.softmax(score_JgL, -1).reshape(-1, tokens).mean(0)


def rotate(heads_HLd: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
    """Rotary embedding of [H, L, d]."""
    half = heads_HLd.shape[-1] // 2
    turned_HLd = torch.cat([-heads_HLd[..., half:], heads_HLd[..., :half]], -1)
    return heads_HLd * cos_Ld + turned_HLd * sin_Ld


def causal_mask(tokens: int, dtype: torch.dtype) -> Tensor:
    """0 where a token may look, MASKED where it may not. [L, L]."""
    return torch.full((tokens, tokens), MASKED, dtype=dtype).triu(1)
