"""Inputs that the pruner's tests share: the reference's golden cases, and random ones of four kinds.

Dims: N visual tokens on a grid (h, w), S kept tokens, D hidden size, C key width.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from vlmp.pruner import PruneResult

GOLDEN_FOLDER = Path(__file__).parents[1] / "data/golden"
GOLDEN = sorted(path.stem for path in GOLDEN_FOLDER.glob("*.npz"))
KINDS = ("gaussian", "smooth", "biased", "clustered")


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenCase:
    """What the authors' code was given and what it answered; with `stops_short` it kept fewer than `keep`."""

    hidden_ND: Tensor
    keys_NC: Tensor
    grid: tuple[int, int]
    keep: int
    kept: list[int]
    order: list[int]
    fused_rows: Tensor
    stops_short: bool


def golden(name: str) -> GoldenCase:
    """The case of that file name. Inputs are stored in float16 and go to both sides as float32."""
    with np.load(GOLDEN_FOLDER / f"{name}.npz", allow_pickle=False) as stored:
        height, width = stored["grid"].tolist()
        return GoldenCase(
            hidden_ND=torch.from_numpy(stored["hidden"]).float(),
            keys_NC=torch.from_numpy(stored["keys"]).float(),
            grid=(height, width),
            keep=int(stored["target_kept"]),
            kept=stored["kept"].tolist(),
            order=stored["order"].tolist(),
            fused_rows=torch.from_numpy(stored["fused_rows"]),
            stops_short=bool(stored["stops_short"]),
        )


def random_input(
    kind: str, grid: tuple[int, int], seed: int, width: int = 288, key_width: int = 64
) -> tuple[Tensor, Tensor]:
    """hidden_ND and keys_NC, float32. By default D = 288, so that 32 channels are screened out.

    gaussian: all tokens unlike. smooth: waves over the grid, neighbours alike. biased: one large common part, all
    similarities high. clustered: few centres with noise.
    """
    rng = torch.Generator().manual_seed(zlib.crc32(f"{kind} {grid} {seed}".encode()))
    height, columns = grid
    tokens = height * columns
    noise_ND, keys_NC = torch.randn(tokens, width, generator=rng), torch.randn(tokens, key_width, generator=rng)
    if kind == "gaussian":
        return noise_ND, keys_NC
    if kind == "biased":
        return noise_ND * 0.4 + 2 * torch.randn(width, generator=rng), keys_NC
    if kind == "clustered":
        centre_N = torch.randint(6, (tokens,), generator=rng)
        return torch.randn(6, width, generator=rng)[centre_N] + 0.3 * noise_ND, keys_NC
    assert kind == "smooth"
    y_N1 = torch.arange(height).repeat_interleave(columns).unsqueeze(1) / height
    x_N1 = torch.arange(columns).repeat(height).unsqueeze(1) / columns
    turns_2D, phase_D = 4 * torch.rand(2, width, generator=rng), 6.28 * torch.rand(width, generator=rng)
    return torch.sin(6.28 * (turns_2D[0] * y_N1 + turns_2D[1] * x_N1) + phase_D) + 0.1 * noise_ND, keys_NC


def signs(tokens: int, seed: int, width: int = 16) -> Tensor:
    """Rows of -1 and 1, float32 [N, width]. With 4, 16 or 64 columns cosines are exact, so that ties are exact too."""
    return torch.randint(2, (tokens, width), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1


def assert_well_formed(result: PruneResult, tokens: int, keep: int, width: int) -> None:
    """Exactly S indices, ascending and unique within [0, N), the same in their order, and finite hidden states."""
    kept = result.kept_S.tolist()
    assert len(kept) == keep
    assert kept == sorted(set(kept))
    assert kept[0] >= 0
    assert kept[-1] < tokens
    assert sorted(result.order_S.tolist()) == kept
    assert result.kept_S.dtype == result.order_S.dtype == result.filled_1.dtype == torch.int64
    assert result.filled_1.tolist() == [0]
    assert result.hidden_SD.shape == (keep, width)
    assert bool(torch.isfinite(result.hidden_SD).all())
