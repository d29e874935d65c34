"""The static-shape pruner against plain loops written from the paper's steps.

Random inputs have close scores whose last bits depend on how a processor sums. So similarities are compared within
2e-6, and the loops then choose from the pruner's own: from there on tokens and their order must be equal, always.
Inputs of signs have exact cosines; there the loops compute everything themselves, ties included.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_pruner import plain_distance, plain_pivots, plain_prune, plain_similarity
from pruner_cases import GOLDEN, KINDS, golden, random_input, signs
from torch import Tensor
from vlmp.pruner import PrunerConfig, prune
from vlmp.pruner.vlm_pruner import VlmPruner, grid_distance

GRIDS = [(8, 8), (12, 12), (5, 13), (17, 6)]
PRUNED_SHARES = [0.667, 0.778, 0.889]
SEEDS = [0, 1]
SIMILARITY_TOLERANCE = 2e-6
ROW_TOLERANCE = 1e-5


def assert_equals_loops(
    hidden_ND: Tensor, keys_NC: Tensor, grid: tuple[int, int], config: PrunerConfig, exact: bool = False
) -> None:
    similarity_NN = None if exact else VlmPruner(grid, config).similarity(hidden_ND)[: len(hidden_ND)].numpy()
    expected = plain_prune(hidden_ND.numpy(), keys_NC.numpy(), grid, config, similarity_NN)
    result = prune(hidden_ND, keys_NC, grid, config)
    assert result.kept_S.tolist() == expected.kept
    assert result.order_S.tolist() == expected.order
    np.testing.assert_allclose(result.hidden_SD.numpy(), expected.fused, rtol=0, atol=ROW_TOLERANCE)


@pytest.mark.parametrize("name", GOLDEN)
def test_loops_equal_the_authors_code(name: str) -> None:
    case = golden(name)
    config = PrunerConfig(num_kept=len(case.kept))
    expected = plain_prune(case.hidden_ND.numpy(), case.keys_NC.numpy(), case.grid, config)
    assert expected.order == case.order
    np.testing.assert_allclose(expected.fused, case.fused_rows.numpy(), rtol=0, atol=ROW_TOLERANCE)


@pytest.mark.parametrize("share", PRUNED_SHARES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_loops(kind: str, grid: tuple[int, int], share: float) -> None:
    keep = int(grid[0] * grid[1] * (1 - share))
    for seed in SEEDS:
        assert_equals_loops(*random_input(kind, grid, seed), grid, PrunerConfig(num_kept=keep))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_parts_equal_loops(kind: str, grid: tuple[int, int]) -> None:
    config = PrunerConfig(num_kept=8, pivots=8)
    pruner = VlmPruner(grid, config)
    for seed in SEEDS:
        hidden_ND, keys_NC = random_input(kind, grid, seed)
        expected_NN = plain_similarity(hidden_ND.numpy(), config.channels)
        similarity_NN = pruner.similarity(hidden_ND)[: pruner.tokens].numpy()
        np.testing.assert_allclose(similarity_NN, expected_NN, rtol=0, atol=SIMILARITY_TOLERANCE)
        assert torch.cat(pruner.pivots(keys_NC)).tolist() == plain_pivots(keys_NC.numpy(), config.pivots)


@pytest.mark.parametrize("grid", [*GRIDS, (1, 1), (1, 9), (9, 1)], ids=str)
def test_distance_equals_loops(grid: tuple[int, int]) -> None:
    np.testing.assert_array_equal(grid_distance(grid).numpy(), plain_distance(grid))


@pytest.mark.parametrize(
    "settings",
    [
        {"pivots": 1},
        {"pivots": 9},
        {"channels": 16},
        {"bss_weight": 0.0},
        {"bss_weight": 2.0},
        {"threshold": 0.1},
        {"threshold": -0.5, "threshold_step": 0.4},
        {"threshold": 5.0},
        {"batch": 1},
        {"batch": 7},
        {"batch": 500},
        {"fuse_weight": 0.0},
        {"fuse_weight": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_counts(kind: str, settings: dict[str, float]) -> None:
    grid = (9, 11)
    assert_equals_loops(*random_input(kind, grid, 0), grid, PrunerConfig(num_kept=30, **settings))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("grid", "keep", "batch"), [((6, 7), 20, 16), ((3, 4), 7, 2), ((1, 24), 9, 16), ((8, 8), 64, 5)]
)
def test_ties_equal_loops(grid: tuple[int, int], keep: int, batch: int, seed: int) -> None:
    tokens = grid[0] * grid[1]
    config = PrunerConfig(num_kept=keep, batch=batch)
    hidden_ND, keys_NC = signs(tokens, seed), signs(tokens, seed + 100, width=4)
    assert_equals_loops(hidden_ND, keys_NC, grid, config, exact=True)


@pytest.mark.parametrize("grid", [(4, 4), (5, 7), (9, 2), (1, 12)], ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_constant_input_equals_loops(grid: tuple[int, int], value: float) -> None:
    tokens = grid[0] * grid[1]
    hidden_ND, keys_NC = torch.full((tokens, 16), value), torch.full((tokens, 4), value)
    for keep in (4, 7, tokens - 1, tokens):
        assert_equals_loops(hidden_ND, keys_NC, grid, PrunerConfig(num_kept=keep), exact=True)


def test_loops_take_more_than_one_pass() -> None:
    """Otherwise the cases above would prove little about passes."""
    passes = {
        plain_prune(*(part.numpy() for part in random_input(kind, (8, 8), 0)), (8, 8), PrunerConfig(num_kept=21)).passes
        for kind in KINDS
    }
    assert min(passes) <= 2
    assert max(passes) >= 3
