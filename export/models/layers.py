"""What vision-language models share: attention, RMSNorm, M-RoPE positions and rotation, masks.

Dims: P prefix ids, N visual tokens, M patches, E vision width, T text bucket, G room, L tokens of a call, D hidden
size, H heads, J key/value heads, g = H / J, d head size.
"""

import torch
from torch import Tensor, nn
from vlmp.export.geometry import Geometry

MASKED = -40000.0
"""Added to scores that must not count: finite in float16, and exp(-40000) is 0 in every precision."""


class JoinedLinear(nn.Linear):
    """Linear layers that take the same input as one: their outputs follow each other, `sizes` of each."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], *, bias: bool) -> None:
        super().__init__(inputs, sum(sizes), bias=bias)
        self.sizes = sizes


class PatchAttention(nn.Module):
    """Full attention of a vision tower over all patches."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv_ME: Tensor, cos_Md: Tensor, sin_Md: Tensor) -> Tensor:
        """Queries, keys and values [M, 3 E], not rotated -> mixed values [M, E]."""
        patches, width = qkv_ME.shape[0], qkv_ME.shape[1] // 3
        # Slices rather than an index or a split: XNNPACK has no other way to take a part.
        query_HMd, key_HMd, value_HMd = (
            qkv_ME[:, start : start + width].reshape(patches, self.heads, -1).permute(1, 0, 2)
            for start in (0, width, 2 * width)
        )
        query_HMd, key_HMd = rotate(query_HMd, cos_Md, sin_Md), rotate(key_HMd, cos_Md, sin_Md)
        score_HMM = torch.bmm(query_HMd * query_HMd.shape[-1] ** -0.5, key_HMd.transpose(1, 2))
        mixed_HMd = torch.bmm(torch.softmax(score_HMM, -1), value_HMd)
        return mixed_HMd.permute(1, 0, 2).reshape(patches, -1)


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


class AddNorm(nn.Module):
    """A sum and what a norm makes of it, which some targets have one operator for."""

    def forward(self, residual: Tensor, hidden: Tensor | None, norm: RmsNorm) -> tuple[Tensor, Tensor]:
        """residual and hidden [L, D], or None for nothing to add -> the normed sum, the sum."""
        whole = residual if hidden is None else residual + hidden
        return norm(whole), whole


class RowAttention(nn.Module):
    """What one token attends to, averaged over heads, in float32 whatever the precision of the rest."""

    def forward(self, query_H1d: Tensor, key_JLd: Tensor, mask_1L: Tensor) -> Tensor:
        """query [H, 1, d], keys [J, L, d], both rotated, mask [1, L] -> shares of attention [L], their sum is 1."""
        kv_heads, tokens, head_dim = key_JLd.shape
        query_Jgd = query_H1d.float().reshape(kv_heads, -1, head_dim) * head_dim**-0.5
        score_JgL = torch.bmm(query_Jgd, key_JLd.float().transpose(1, 2)) + mask_1L.float()
        return torch.softmax(score_JgL, -1).reshape(-1, tokens).mean(0)


def in_merge_order(plane: Tensor) -> Tensor:
    """[2h, 2w] -> [4 h w]: the four patches of a merged token follow each other."""
    rows, columns = plane.shape
    return plane.reshape(rows // 2, 2, columns // 2, 2).permute(0, 2, 1, 3).reshape(-1)


def prompt_positions(geometry: Geometry) -> Tensor:
    """M-RoPE positions (time, row, column) of prefix, image and text bucket. float32 [3, P+N+T]."""
    columns = geometry.grid[1]
    prefix_3P = torch.arange(geometry.prefix).expand(3, -1)
    index_N = torch.arange(geometry.visual)
    visual_3N = geometry.prefix + torch.stack([torch.zeros_like(index_N), index_N // columns, index_N % columns])
    text_3T = (geometry.text_start + torch.arange(geometry.text)).expand(3, -1)
    return torch.cat([prefix_3P, visual_3N, text_3T], 1).float()


def text_positions(geometry: Geometry) -> Tensor:
    """M-RoPE positions of all text that may follow the image. float32 [3, T+G]."""
    return (geometry.text_start + torch.arange(geometry.text_room)).expand(3, -1).float()


def rope_rows(
    positions_3L: Tensor, head_dim: int, theta: float, sections: list[int], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin [L, d]: each frequency band turns with the time, row or column position (M-RoPE)."""
    half = head_dim // 2
    frequency = 1.0 / theta ** (torch.arange(0, half).float() * 2 / head_dim)
    axis_h = torch.repeat_interleave(torch.arange(3), torch.tensor(sections))
    angle_Lh = positions_3L[axis_h].T * frequency
    angle_Ld = torch.cat([angle_Lh, angle_Lh], -1)
    return angle_Ld.cos().to(dtype), angle_Ld.sin().to(dtype)


def rotate(heads_HLd: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
    """Rotary embedding of [H, L, d]."""
    half = heads_HLd.shape[-1] // 2
    turned_HLd = torch.cat([-heads_HLd[..., half:], heads_HLd[..., :half]], -1)
    return heads_HLd * cos_Ld + turned_HLd * sin_Ld


def causal_mask(tokens: int, dtype: torch.dtype) -> Tensor:
    """0 where a token may look, MASKED where it may not. [L, L]."""
    return torch.full((tokens, tokens), MASKED, dtype=dtype).triu(1)
