"""Exported graphs of the pruner: static, equal to eager, and ending with exactly S tokens when steps are bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings, target
from hypothesis import strategies as st
from pruner_cases import GOLDEN, KINDS, golden, random_input
from torch import Tensor, nn
from torch.export import ExportedProgram
from vlmp.pruner import Loop, PrunerConfig, PruneResult, prune
from vlmp.pruner.ops import stable_order
from vlmp.pruner.vlm_pruner import Pairs, Selection, VlmPruner

LOOPS: tuple[Loop, ...] = ("while", "scan", "unroll")
GRID_8, GRID_12 = (8, 8), (12, 12)
KEEP = {GRID_8: 21, GRID_12: 15}
ROW_TOLERANCE = 1e-5


class BoundedPruner(VlmPruner):
    """Unrolls three steps only, which suffices for few inputs."""

    unrolled_steps = 3


class CountingPruner(VlmPruner):
    """Counts the steps of an eager call."""

    steps = 0

    def step(self, pairs: Pairs, state: Selection) -> Selection:
        self.steps += 1
        return super().step(pairs, state)


class GivenSimilarity(CountingPruner):
    """Takes the similarities between tokens as given."""

    given_NN: Tensor

    def similarity(self, hidden_ND: Tensor) -> Tensor:
        similarity = super().similarity(hidden_ND)
        return torch.cat([self.given_NN, similarity[self.tokens :]])


def exported(pruner: VlmPruner) -> ExportedProgram:
    tokens = pruner.tokens
    with torch.no_grad():
        return torch.export.export(pruner.eval(), (torch.randn(tokens, 288), torch.randn(tokens, 64)))


def graph_inputs(grid: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Golden, random, blank, constant, duplicated and huge ones."""
    tokens = grid[0] * grid[1]
    yield from ((case.hidden_ND, case.keys_NC) for case in map(golden, GOLDEN) if case.grid == grid)
    yield from (random_input(kind, grid, 7) for kind in KINDS)
    hidden_ND, keys_NC = random_input("gaussian", grid, 8)
    yield torch.zeros(tokens, 288), torch.zeros(tokens, 64)
    yield torch.ones(tokens, 288), torch.ones(tokens, 64)
    yield hidden_ND[torch.arange(tokens) % 5], keys_NC[torch.arange(tokens) % 5]
    yield hidden_ND * 1e18, keys_NC * 1e18
    yield hidden_ND * 1e30, keys_NC * 1e30


@pytest.fixture(scope="module", params=[(grid, loop) for grid in KEEP for loop in LOOPS], ids=str)
def graph(request: pytest.FixtureRequest) -> tuple[VlmPruner, ExportedProgram]:
    grid, loop = request.param
    pruner = VlmPruner(grid, PrunerConfig(num_kept=KEEP[grid]), loop)
    return pruner, exported(pruner)


def test_graph_equals_eager(graph: tuple[VlmPruner, ExportedProgram]) -> None:
    pruner, program = graph
    call = program.module()
    inputs = list(graph_inputs(pruner.grid))
    assert len(inputs) >= 10
    for hidden_ND, keys_NC in inputs:
        result, eager = PruneResult(*call(hidden_ND, keys_NC)), prune(hidden_ND, keys_NC, pruner.grid, pruner.config)
        assert torch.equal(result.kept_S, eager.kept_S)
        assert torch.equal(result.order_S, eager.order_S)
        assert result.filled_1.tolist() == [0]
        torch.testing.assert_close(result.hidden_SD, eager.hidden_SD, rtol=ROW_TOLERANCE, atol=ROW_TOLERANCE)


def test_graph_equals_golden(graph: tuple[VlmPruner, ExportedProgram]) -> None:
    pruner, program = graph
    names = [
        name for name in GOLDEN if golden(name).grid == pruner.grid and golden(name).keep == pruner.config.num_kept
    ]
    assert len(names) == 1
    case = golden(names[0])
    result = PruneResult(*program.module()(case.hidden_ND, case.keys_NC))
    assert result.kept_S.tolist() == sorted(case.kept)
    assert result.order_S.tolist() == case.order
    torch.testing.assert_close(result.hidden_SD, case.fused_rows, rtol=0, atol=ROW_TOLERANCE)


def test_graph_is_static(graph: tuple[VlmPruner, ExportedProgram]) -> None:
    _, program = graph
    assert not program.range_constraints
    tensors = 0
    for module in program.graph_module.modules():
        for node in module.graph.nodes:
            assert not any(word in str(node.target) for word in ("nonzero", "_local_scalar_dense", "masked_select"))
            values = node.meta.get("val")
            for value in values if isinstance(values, (tuple, list)) else [values]:
                assert not isinstance(value, (torch.SymInt, torch.SymFloat))
                if isinstance(value, Tensor):
                    tensors += 1
                    assert all(type(size) is int for size in value.shape), node.format_node()
    assert tensors > 100


def test_graph_has_no_sort_and_no_scatter(graph: tuple[VlmPruner, ExportedProgram]) -> None:
    """Some runtime lacks each of them."""
    _, program = graph
    names = {str(node.target) for module in program.graph_module.modules() for node in module.graph.nodes}
    assert any("topk" in name for name in names)
    assert not [name for name in names if any(word in name for word in ("sort", "scatter", "index_put"))]


@pytest.mark.parametrize(
    ("loop", "keep", "exact"),
    [("while", 21, True), ("scan", 21, True), ("unroll", 15, True), ("unroll", 21, False), ("unroll", 63, False)],
)
def test_only_an_unrolled_graph_that_is_too_short_is_inexact(loop: Loop, keep: int, exact: bool) -> None:
    pruner = VlmPruner(GRID_8, PrunerConfig(num_kept=keep), loop)
    assert pruner.exact is exact
    assert pruner.unrolled_steps <= pruner.max_steps
    assert (pruner.unrolled_steps == pruner.max_steps) is (keep == 15)


@pytest.fixture(scope="module")
def bounded() -> Callable[[Tensor, Tensor], PruneResult]:
    pruner = BoundedPruner(GRID_8, PrunerConfig(num_kept=KEEP[GRID_8]), "unroll")
    assert not pruner.exact
    call = exported(pruner).module()
    return lambda hidden_ND, keys_NC: PruneResult(*call(hidden_ND, keys_NC))


@pytest.mark.parametrize(
    ("hidden_ND", "keys_NC"),
    [
        (torch.ones(64, 288), torch.ones(64, 64)),
        random_input("biased", GRID_8, 1),
        random_input("biased", GRID_8, 7),
    ],
    ids=["constant", "biased-1", "biased-7"],
)
def test_bounded_graph_fills_by_lowest_score(
    hidden_ND: Tensor, keys_NC: Tensor, bounded: Callable[[Tensor, Tensor], PruneResult]
) -> None:
    result = bounded(hidden_ND, keys_NC)
    config = PrunerConfig(num_kept=KEEP[GRID_8])
    kept, order, filled = result.kept_S.tolist(), result.order_S.tolist(), int(result.filled_1)
    selected = order[: config.num_kept - filled]
    assert filled > 0
    assert kept == sorted(set(order))
    assert len(kept) == config.num_kept
    assert set(selected) == set(prune(hidden_ND, keys_NC, GRID_8, config).order_S[: len(selected)].tolist())

    pruner = VlmPruner(GRID_8, config)
    pairs = pruner.pairs(hidden_ND)
    state = pruner.start(pairs, pruner.pivots(keys_NC))
    for _ in range(BoundedPruner.unrolled_steps):
        state = pruner.step(pairs, state)
    score_N = pruner.open_scores(state.stamp_N, state.nearest_N, state.distance_N)
    others = [token for token in torch.sort(score_N, stable=True).indices.tolist() if token not in selected]
    assert order[-filled:] == others[:filled]

    stamp_N = torch.tensor([order.index(token) if token in order else -1 for token in range(64)])
    fused_SD = pruner.fuse(hidden_ND, pairs.similarity_RN, result.kept_S, stamp_N)
    torch.testing.assert_close(result.hidden_SD, fused_SD, rtol=0, atol=ROW_TOLERANCE)


def test_bounded_graph_is_exact_where_its_steps_suffice(bounded: Callable[[Tensor, Tensor], PruneResult]) -> None:
    hidden_ND, keys_NC = random_input("gaussian", GRID_8, 7)
    result, eager = bounded(hidden_ND, keys_NC), prune(hidden_ND, keys_NC, GRID_8, PrunerConfig(num_kept=KEEP[GRID_8]))
    assert result.filled_1.tolist() == [0]
    assert torch.equal(result.order_S, eager.order_S)


def test_eager_runs_to_the_end_whatever_the_bound() -> None:
    config = PrunerConfig(num_kept=KEEP[GRID_8])
    hidden_ND, keys_NC = random_input("biased", GRID_8, 7)
    result = BoundedPruner(GRID_8, config, "unroll")(hidden_ND, keys_NC)
    assert result.filled_1.tolist() == [0]
    assert torch.equal(result.order_S, prune(hidden_ND, keys_NC, GRID_8, config).order_S)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_steps_never_exceed_their_bound(data: st.DataObject) -> None:
    """Any symmetric similarities in [-1, 1], whether or not hidden states could have them; hypothesis aims high."""
    grid = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    tokens = grid[0] * grid[1]
    pivots = data.draw(st.integers(1, min(4, tokens)))
    config = PrunerConfig(
        num_kept=data.draw(st.integers(pivots, tokens)),
        pivots=pivots,
        batch=data.draw(st.sampled_from([1, 2, 16])),
        bss_weight=data.draw(st.sampled_from([0.0, 0.5, 2.0])),
        threshold_step=data.draw(st.sampled_from([0.05, 0.1, 1.0])),
    )
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    low = data.draw(st.sampled_from([-1.0, 0.0, 0.7, 0.99, 1.0]))
    similarity_NN = low + (1 - low) * torch.rand(tokens, tokens, generator=rng)
    pruner = GivenSimilarity(grid, config)
    pruner.given_NN = torch.maximum(similarity_NN, similarity_NN.T).fill_diagonal_(1.0)
    result = pruner(torch.ones(tokens, 4), torch.randn(tokens, 4, generator=rng))
    target(pruner.steps / pruner.max_steps)
    assert pruner.steps <= pruner.max_steps
    assert result.filled_1.tolist() == [0]
    assert len(set(result.kept_S.tolist())) == config.num_kept


def test_bound_on_steps_is_close() -> None:
    """One token a step after every pass but the last has added nothing: one step less than the bound."""
    config = PrunerConfig(num_kept=20, pivots=1, batch=1, bss_weight=0.0)
    pruner = CountingPruner((1, 40), config)
    result = pruner(torch.ones(40, 4), torch.ones(40, 4))
    assert result.order_S.tolist() == list(range(20))
    assert pruner.steps == pruner.max_steps - 1


def test_measured_cases_stay_within_the_unrolled_steps() -> None:
    for name in GOLDEN:
        case = golden(name)
        pruner = CountingPruner(case.grid, PrunerConfig(num_kept=case.keep))
        pruner(case.hidden_ND, case.keys_NC)
        assert 1 <= pruner.steps <= pruner.unrolled_steps


@pytest.mark.parametrize("keep", [64, 192])
@pytest.mark.parametrize("kind", KINDS)
def test_unrolled_steps_are_half_again_what_is_needed(kind: str, keep: int) -> None:
    for seed in range(4):
        pruner = CountingPruner((24, 24), PrunerConfig(num_kept=keep))
        pruner(*random_input(kind, (24, 24), seed))
        assert pruner.steps * 1.5 <= pruner.unrolled_steps


@pytest.mark.parametrize("keep", [4, 21, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_after_the_last_change_nothing(kind: str, keep: int) -> None:
    hidden_ND, keys_NC = random_input(kind, GRID_8, 0)
    pruner = VlmPruner(GRID_8, PrunerConfig(num_kept=keep))
    pairs = pruner.pairs(hidden_ND)
    done = after = pruner.repeat_steps(pairs, pruner.start(pairs, pruner.pivots(keys_NC)))
    for _ in range(12):
        after = pruner.step(pairs, after)
    for name in ("stamp_N", "nearest_N", "distance_N", "pass_1", "count_1"):
        assert torch.equal(getattr(after, name), getattr(done, name)), name


def test_stable_order_is_traceable() -> None:
    class Order(nn.Module):
        def forward(self, values_N: Tensor) -> Tensor:
            return stable_order(values_N)

    values_N = torch.tensor([2.0, 1.0, 2.0, 1.0])
    assert torch.export.export(Order(), (values_N,)).module()(values_N).tolist() == [1, 3, 0, 2]
