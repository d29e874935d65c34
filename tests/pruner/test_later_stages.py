"""Pruners after an earlier stage: of the tokens that it has left, each where it stands on the whole grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_peers import PEERS
from plain_pruner import plain_distance, plain_prune
from pruner_cases import KINDS, assert_well_formed, random_input, signs
from test_properties import Case, any_case, assert_same
from torch import Tensor
from vlmp.pruner import PRUNERS, Loop, PrunerConfig, PruneResult, build_pruner
from vlmp.pruner.vlm_pruner import VlmPruner

GRID, LEFT, KEEP = (9, 8), 40, 15
ROW_TOLERANCE = 1e-5
ABOVE_ANY_DISTANCE = 2


def some_places(seed: int, left: int = LEFT, grid: tuple[int, int] = GRID) -> Tensor:
    """`left` places of the grid, ascending."""
    drawn = torch.randperm(grid[0] * grid[1], generator=torch.Generator().manual_seed(seed))
    return torch.sort(drawn[:left]).values


def left_tokens(kind: str, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden_ND, keys_NC, attention_N and place_N of what is left of a grid."""
    place_N = some_places(seed)
    hidden_ND, keys_NC = (values[place_N] for values in random_input(kind, GRID, seed, width=24, key_width=8))
    return hidden_ND, keys_NC, torch.softmax(hidden_ND[:, 1], 0), place_N


@st.composite
def later_stages(draw: st.DrawFn) -> tuple[Case, list[int]]:
    """Any case, and the places that are left of it, at least as many as are kept."""
    hidden_ND, keys_NC, grid, config = draw(any_case())
    tokens = len(hidden_ND)
    left = draw(st.integers(config.num_kept, tokens))
    places = sorted(draw(st.permutations(range(tokens)))[:left])
    return (hidden_ND[places], keys_NC[places], grid, config), places


# --- VLM-Pruner -------------------------------------------------------------------------------------------------------


@given(drawn=later_stages())
@settings(deadline=None, max_examples=200)
def test_any_tokens_that_are_left_are_chosen_from_as_by_loops(drawn: tuple[Case, list[int]]) -> None:
    (hidden_ND, keys_NC, grid, config), places = drawn
    pruner = VlmPruner(grid, config, tokens=len(places))
    result = pruner(hidden_ND, keys_NC, None, torch.tensor(places))
    assert_well_formed(result, len(places), config.num_kept, hidden_ND.shape[1])
    similarity_NN = pruner.similarity(hidden_ND)[: len(places)].numpy()
    expected = plain_prune(hidden_ND.numpy(), keys_NC.numpy(), grid, config, similarity_NN, places)
    assert (result.order_S.tolist(), result.kept_S.tolist()) == (expected.order, expected.kept)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_fused_as_by_loops(kind: str) -> None:
    hidden_ND, keys_NC, _, place_N = left_tokens(kind, 2)
    config = PrunerConfig(num_kept=KEEP)
    pruner = VlmPruner(GRID, config, tokens=LEFT)
    result = pruner(hidden_ND, keys_NC, None, place_N)
    similarity_NN = pruner.similarity(hidden_ND)[:LEFT].numpy()
    expected = plain_prune(hidden_ND.numpy(), keys_NC.numpy(), GRID, config, similarity_NN, place_N.tolist())
    np.testing.assert_allclose(result.hidden_SD.numpy(), expected.fused, rtol=0, atol=ROW_TOLERANCE)


@pytest.mark.parametrize("grid", [(9, 8), (3, 14), (1, 42), (42, 1)], ids=str)
def test_distances_are_those_of_the_whole_grid(grid: tuple[int, int]) -> None:
    place_N = some_places(1, 20, grid)
    distance_RN = VlmPruner(grid, PrunerConfig(num_kept=5), tokens=20).distances(place_N)
    assert distance_RN.shape == (21, 20)
    np.testing.assert_array_equal(distance_RN[:20].numpy(), plain_distance(grid, place_N.tolist()))
    assert distance_RN[20].tolist() == [ABOVE_ANY_DISTANCE] * 20


def test_where_the_tokens_stand_changes_what_is_kept() -> None:
    """Otherwise the tests above would prove nothing about places."""
    hidden_ND, keys_NC = (values[:LEFT] for values in random_input("biased", GRID, 3))
    pruner = VlmPruner(GRID, PrunerConfig(num_kept=KEEP, bss_weight=3), tokens=LEFT)
    kept = {tuple(pruner(hidden_ND, keys_NC, None, some_places(seed)).kept_S.tolist()) for seed in range(4)}
    assert len(kept) > 1


# --- The peers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("peer", PEERS)
def test_peers_see_tokens_in_a_row(peer: str, kind: str) -> None:
    """None of them measures on the grid: the same tokens as a grid of one row give the same."""
    config = PrunerConfig(num_kept=KEEP, seed=3)
    values = left_tokens(kind, 5)
    result = build_pruner(peer, GRID, config, tokens=LEFT)(*values)
    assert_well_formed(result, LEFT, KEEP, 24)
    assert_same(result, build_pruner(peer, (1, LEFT), config)(*values[:3]))
    assert torch.equal(result.hidden_SD, values[0][result.kept_S])


def test_uniform_keeps_even_distances_of_what_is_left() -> None:
    result = build_pruner("uniform", (4, 5), PrunerConfig(num_kept=4), tokens=12)(torch.zeros(12, 2))
    assert result.order_S.tolist() == result.kept_S.tolist() == [1, 4, 7, 10]


def test_none_keeps_all_that_is_left() -> None:
    hidden_ND, _, _, place_N = left_tokens("gaussian", 0)
    result = build_pruner("none", GRID, PrunerConfig(num_kept=LEFT), tokens=LEFT)(hidden_ND, place_N=place_N)
    assert result.kept_S.tolist() == list(range(LEFT))
    with pytest.raises(ValueError, match=f"^num_kept={KEEP}: method 'none' keeps all {LEFT} visual tokens"):
        build_pruner("none", GRID, PrunerConfig(num_kept=KEEP), tokens=LEFT)


# --- Every method -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRUNERS)
def test_all_places_are_the_same_as_none_given(name: str) -> None:
    hidden_ND, keys_NC = random_input("smooth", GRID, 4, width=24, key_width=8)
    attention_N = torch.softmax(hidden_ND[:, 0], 0)
    config = PrunerConfig(num_kept=72 if name == "none" else KEEP)
    first = build_pruner(name, GRID, config)(hidden_ND, keys_NC, attention_N)
    later = build_pruner(name, GRID, config, tokens=72)(hidden_ND, keys_NC, attention_N, torch.arange(72))
    assert_same(later, first)


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("tokens", [0, -1, 73, 1000])
def test_no_more_tokens_than_the_grid_has(name: str, tokens: int) -> None:
    with pytest.raises(ValueError, match=rf"^tokens={tokens}: a grid of 9 x 8 has 1 to 72 visual tokens$"):
        build_pruner(name, GRID, PrunerConfig(num_kept=4), tokens=tokens)


@pytest.mark.parametrize("name", PRUNERS)
def test_no_more_are_kept_than_are_left(name: str) -> None:
    with pytest.raises(ValueError, match=r"^num_kept=41: there are only 40 visual tokens$"):
        build_pruner(name, GRID, PrunerConfig(num_kept=41), tokens=40)
    assert build_pruner(name, GRID, PrunerConfig(num_kept=40), tokens=40).tokens == 40


def test_a_batch_over_all_tokens_is_one_batch() -> None:
    hidden_ND, keys_NC, _, place_N = left_tokens("biased", 1)
    results = [
        VlmPruner(GRID, PrunerConfig(num_kept=KEEP, batch=batch), tokens=LEFT)(hidden_ND, keys_NC, None, place_N)
        for batch in (LEFT, LEFT + 1, 500, 10**30)
    ]
    for other in results[1:]:
        assert_same(other, results[0])


# --- Graphs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["while", "scan", "unroll"])
def graph(request: pytest.FixtureRequest) -> Callable[..., PruneResult]:
    loop: Loop = request.param
    pruner = VlmPruner(GRID, PrunerConfig(num_kept=KEEP), loop, LEFT).eval()
    with torch.no_grad():
        program = torch.export.export(pruner, (torch.randn(LEFT, 24), torch.randn(LEFT, 8), None, some_places(0)))
    assert not program.range_constraints
    names = {str(node.target) for module in program.graph_module.modules() for node in module.graph.nodes}
    assert not [name for name in names if any(word in name for word in ("sort", "scatter", "index_put", "nonzero"))]
    call = program.module()
    return lambda *values: PruneResult(*call(*values))


def test_graph_equals_eager(graph: Callable[..., PruneResult]) -> None:
    """One graph for any places: ordinary tokens, alike ones, blank ones and exact ties."""
    cases = [left_tokens(kind, seed) for kind in KINDS for seed in (6, 7)]
    hidden_ND, keys_NC, attention_N, place_N = cases[0]
    cases.append((torch.zeros_like(hidden_ND), torch.zeros_like(keys_NC), attention_N, place_N))
    cases.append((torch.cat([signs(LEFT, 3), torch.zeros(LEFT, 8)], 1), signs(LEFT, 4, 8), attention_N, some_places(9)))
    eager = VlmPruner(GRID, PrunerConfig(num_kept=KEEP), tokens=LEFT)
    for hidden_ND, keys_NC, _, place_N in cases:
        found, wanted = (call(hidden_ND, keys_NC, None, place_N) for call in (graph, eager))
        assert torch.equal(found.kept_S, wanted.kept_S)
        assert torch.equal(found.order_S, wanted.order_S)
        assert found.filled_1.tolist() == [0]
        torch.testing.assert_close(found.hidden_SD, wanted.hidden_SD, rtol=ROW_TOLERANCE, atol=ROW_TOLERANCE)
