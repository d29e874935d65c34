"""The method `none`: all tokens, untouched."""

from __future__ import annotations

import pytest
import torch
from vlmp.pruner import PrunerConfig, PruneResult, build_pruner

GRID = (3, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_keeps_all(dtype: torch.dtype) -> None:
    hidden_ND = torch.randn(15, 8).to(dtype)
    pruner = build_pruner("none", GRID, PrunerConfig(num_kept=15))
    result = pruner(hidden_ND, torch.randn(15, 4))
    assert pruner.exact
    assert result.kept_S.tolist() == result.order_S.tolist() == list(range(15))
    assert result.kept_S.dtype == result.order_S.dtype == result.filled_1.dtype == torch.int64
    assert result.filled_1.tolist() == [0]
    assert torch.equal(result.hidden_SD, hidden_ND)
    assert result.hidden_SD.dtype == dtype


def test_needs_no_pivots() -> None:
    result = build_pruner("none", (1, 2), PrunerConfig(num_kept=2, pivots=1))(torch.ones(2, 8), torch.ones(2, 4))
    assert result.kept_S.tolist() == [0, 1]


@pytest.mark.parametrize("keep", [4, 14])
def test_refuses_to_drop_any(keep: int) -> None:
    with pytest.raises(ValueError, match=rf"^num_kept={keep}: method 'none' keeps all 15 visual tokens"):
        build_pruner("none", GRID, PrunerConfig(num_kept=keep))


def test_refuses_to_keep_more_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"^num_kept=16: a grid of 3 x 5 has only 15 visual tokens"):
        build_pruner("none", GRID, PrunerConfig(num_kept=16))


def test_graph_equals_eager() -> None:
    pruner = build_pruner("none", GRID, PrunerConfig(num_kept=15))
    values = torch.randn(15, 8), torch.randn(15, 4)
    result = PruneResult(*torch.export.export(pruner, values).module()(*values))
    assert all(torch.equal(one, other) for one, other in zip(result, pruner(*values), strict=True))
