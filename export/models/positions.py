"""Where tokens stand, by the rule of a model's rotary embedding, and the tables that it turns them by.

Dims: A axes (1, or time, row and column), P prefix ids, N visual tokens, T text bucket, G room, L tokens, d head size,
h = d / 2 frequencies.
"""

import torch
from torch import Tensor
from vlmp.export.geometry import Geometry
from vlmp.export.models.spec import RopeSpec


def text_start(rope: RopeSpec, prefix: int, grid: tuple[int, int]) -> int:
    """Position of the first text token after the image.

    M-RoPE counts on from the largest position in the image (Qwen2-VL, arXiv 2409.12191, section 2.1).
    """
    return prefix + (grid[0] * grid[1] if rope.layout == "1d" else max(grid))


def prompt_positions(rope: RopeSpec, geometry: Geometry) -> Tensor:
    """Positions of prefix, image and text bucket. float32 [A, P+N+T]."""
    axes = _axes(rope)
    prefix_AP = torch.arange(geometry.prefix).expand(axes, -1)
    index_N = torch.arange(geometry.visual)
    place_AN = index_N.expand(1, -1)
    if axes == 3:
        columns = geometry.grid[1]
        place_AN = torch.stack([torch.zeros_like(index_N), index_N // columns, index_N % columns])
    text_AT = (geometry.text_start + torch.arange(geometry.text)).expand(axes, -1)
    return torch.cat([prefix_AP, geometry.prefix + place_AN, text_AT], 1).float()


def text_positions(rope: RopeSpec, geometry: Geometry) -> Tensor:
    """Positions of all text that may follow the image. float32 [A, T+G]."""
    return (geometry.text_start + torch.arange(geometry.text_room)).expand(_axes(rope), -1).float()


def rope_rows(rope: RopeSpec, head_dim: int, positions_AL: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin [L, d]: each frequency turns with the position on its axis."""
    half = head_dim // 2
    frequency_h = 1.0 / rope.theta ** (torch.arange(0, half).float() * 2 / head_dim)
    angle_Lh = positions_AL[_axis_of(rope, half)].T * frequency_h
    angle_Ld = torch.cat([angle_Lh, angle_Lh], -1)
    return angle_Ld.cos().to(dtype), angle_Ld.sin().to(dtype)


def _axes(rope: RopeSpec) -> int:
    return 1 if rope.layout == "1d" else 3


def _axis_of(rope: RopeSpec, half: int) -> Tensor:
    """The axis of each frequency. int64 [h]."""
    match rope.layout:
        case "1d":
            return torch.zeros(half, dtype=torch.int64)
        case "mrope":
            return torch.repeat_interleave(torch.arange(3), torch.tensor(rope.sections))
        case "interleaved":
            axis_h = torch.zeros(half, dtype=torch.int64)
            for axis in (1, 2):
                axis_h[axis : 3 * rope.sections[axis] : 3] = axis
            return axis_h
