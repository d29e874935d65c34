"""What holds of every input: exactly S tokens, ascending, finite, the same each time; and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_pruner import plain_prune
from pruner_cases import KINDS, assert_well_formed, random_input, signs
from torch import Tensor
from vlmp.pruner import PrunerConfig, PruneResult, prune
from vlmp.pruner.vlm_pruner import VlmPruner

GRID = (5, 7)
CONFIG = PrunerConfig(num_kept=12, channels=16)
WIDTH = 24

Case = tuple[Tensor, Tensor, tuple[int, int], PrunerConfig]


def example(seed: int = 0) -> tuple[Tensor, Tensor]:
    return random_input("gaussian", GRID, seed, width=WIDTH)


def assert_same(left: PruneResult, right: PruneResult) -> None:
    assert all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    """Any small grid and settings; blank, constant, duplicated, opposed and ordinary values."""
    grid = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    tokens = grid[0] * grid[1]
    pivots = draw(st.integers(1, min(6, tokens)))
    config = PrunerConfig(
        num_kept=draw(st.integers(pivots, tokens)),
        pivots=pivots,
        channels=draw(st.sampled_from([1, 4, 8, 256])),
        bss_weight=draw(st.sampled_from([0.0, 0.5, 3.0])),
        threshold=draw(st.sampled_from([-2.0, 0.0, 0.8, 9.0])),
        threshold_step=draw(st.sampled_from([0.07, 0.1, 0.9])),
        batch=draw(st.sampled_from([1, 2, 5, 16, 64])),
        fuse_weight=draw(st.sampled_from([0.0, 0.3, 1.0])),
    )
    hidden_ND, keys_NC = random_input(draw(st.sampled_from(KINDS)), grid, draw(st.integers(0, 999)), 8, 4)
    change = draw(st.sampled_from(["none", "blank", "constant", "duplicated", "opposed", "signs", "few blank"]))
    if change == "blank":
        hidden_ND, keys_NC = torch.zeros_like(hidden_ND), torch.zeros_like(keys_NC)
    elif change == "constant":
        hidden_ND, keys_NC = hidden_ND[:1].repeat(tokens, 1), keys_NC[:1].repeat(tokens, 1)
    elif change == "duplicated":
        original_N = torch.arange(tokens) % 3 % tokens
        hidden_ND, keys_NC = hidden_ND[original_N], keys_NC[original_N]
    elif change == "opposed":
        hidden_ND = hidden_ND[:1] * (1 - 2.0 * (torch.arange(tokens) % 2)).unsqueeze(1)
    elif change == "signs":
        hidden_ND, keys_NC = signs(tokens, draw(st.integers(0, 99)), 8), signs(tokens, draw(st.integers(0, 99)), 4)
    elif change == "few blank":
        hidden_ND[::3], keys_NC[::2] = 0, 0
    return hidden_ND, keys_NC, grid, config


@given(case=any_case())
@settings(deadline=None, max_examples=300)
def test_any_input_keeps_exactly_s_and_equals_loops(case: Case) -> None:
    hidden_ND, keys_NC, grid, config = case
    result = prune(hidden_ND, keys_NC, grid, config)
    assert_well_formed(result, grid[0] * grid[1], config.num_kept, hidden_ND.shape[1])
    assert_same(prune(hidden_ND, keys_NC, grid, config), result)
    similarity_NN = VlmPruner(grid, config).similarity(hidden_ND)[: len(hidden_ND)].numpy()
    expected = plain_prune(hidden_ND.numpy(), keys_NC.numpy(), grid, config, similarity_NN)
    assert result.order_S.tolist() == expected.order


@given(case=any_case(), scales=st.tuples(*[st.sampled_from([1e-38, 1e-20, 1.0, 1e18, 1e30, 1e37])] * 3))
@settings(deadline=None, max_examples=300)
def test_extreme_values_keep_exactly_s(case: Case, scales: tuple[float, float, float]) -> None:
    """Squares overflow and underflow in float32; the answer is then not the paper's, but still complete and finite."""
    hidden_ND, keys_NC, grid, config = case
    hidden_ND = torch.cat([hidden_ND[:1] * scales[0], hidden_ND[1:] * scales[1]])
    result = prune(hidden_ND, keys_NC * scales[2], grid, config)
    assert_well_formed(result, grid[0] * grid[1], config.num_kept, hidden_ND.shape[1])


@pytest.mark.parametrize(("grid", "pivots"), [((1, 1), 1), ((1, 5), 4), ((5, 1), 4), ((2, 2), 4), ((3, 37), 4)])
def test_odd_and_tiny_grids(grid: tuple[int, int], pivots: int) -> None:
    tokens = grid[0] * grid[1]
    hidden_ND, keys_NC = random_input("gaussian", grid, 0, width=WIDTH)
    for keep in {pivots, (pivots + tokens) // 2, tokens}:
        assert_well_formed(
            prune(hidden_ND, keys_NC, grid, PrunerConfig(num_kept=keep, pivots=pivots)), tokens, keep, WIDTH
        )


@pytest.mark.parametrize("kind", KINDS)
def test_keeping_only_pivots_keeps_the_pivots(kind: str) -> None:
    hidden_ND, keys_NC = random_input(kind, GRID, 0)
    pruner = VlmPruner(GRID, PrunerConfig(num_kept=4))
    assert pruner(hidden_ND, keys_NC).order_S.tolist() == torch.cat(pruner.pivots(keys_NC)).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_keeping_all_changes_nothing(kind: str, dtype: torch.dtype) -> None:
    hidden_ND, keys_NC = (part.to(dtype) for part in random_input(kind, GRID, 0))
    result = prune(hidden_ND, keys_NC, GRID, PrunerConfig(num_kept=35))
    assert result.kept_S.tolist() == list(range(35))
    assert torch.equal(result.hidden_SD, hidden_ND)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_selects_as_its_values_do_in_float32(kind: str, dtype: torch.dtype) -> None:
    hidden_ND, keys_NC = (part.to(dtype) for part in random_input(kind, (12, 12), 0))
    result = prune(hidden_ND, keys_NC, (12, 12), PrunerConfig(num_kept=31))
    wide = prune(hidden_ND.float(), keys_NC.float(), (12, 12), PrunerConfig(num_kept=31))
    assert result.hidden_SD.dtype == dtype
    assert_same(result, wide._replace(hidden_SD=wide.hidden_SD.to(dtype)))


def test_non_contiguous_input_gives_the_same() -> None:
    hidden_ND, keys_NC = example()
    transposed_ND = hidden_ND.T.contiguous().T
    strided_NC = torch.stack([keys_NC, -keys_NC], 2)[..., 0]
    assert not transposed_ND.is_contiguous()
    assert not strided_NC.is_contiguous()
    assert_same(prune(transposed_ND, strided_NC, GRID, CONFIG), prune(hidden_ND, keys_NC, GRID, CONFIG))


def test_input_is_left_as_it_was() -> None:
    hidden_ND, keys_NC = example()
    prune(hidden_ND, keys_NC, GRID, CONFIG)
    assert torch.equal(hidden_ND, example()[0])
    assert torch.equal(keys_NC, example()[1])


@pytest.mark.parametrize("exponent", [-20, 3, 20])
def test_scale_of_the_input_does_not_matter(exponent: int) -> None:
    """Powers of two scale without rounding, so that the answer must be the same to the last bit."""
    hidden_ND, keys_NC = example()
    scaled = prune(hidden_ND * 2.0**exponent, keys_NC * 2.0**-exponent, GRID, CONFIG)
    assert_same(scaled._replace(hidden_SD=scaled.hidden_SD / 2.0**exponent), prune(hidden_ND, keys_NC, GRID, CONFIG))


def test_constant_input_keeps_row_after_row() -> None:
    """All gaps, similarities and scores at one distance tie: pivots are 0 to 3, then the nearest row in its order."""
    grid, values = (4, 4), (torch.ones(16, 16), torch.ones(16, 4))
    for keep in range(4, 17):
        assert prune(*values, grid, PrunerConfig(num_kept=keep)).order_S.tolist() == list(range(keep))


@pytest.mark.parametrize("keep", range(4, 17))
def test_blank_input_keeps_the_lowest_indices(keep: int) -> None:
    hidden_ND = torch.zeros(16, WIDTH)
    result = prune(hidden_ND, torch.zeros(16, 4), (4, 4), PrunerConfig(num_kept=keep))
    assert result.order_S.tolist() == list(range(keep))
    assert torch.equal(result.hidden_SD, hidden_ND[:keep])


def test_discarded_token_joins_the_first_of_equally_similar_ones() -> None:
    hidden_ND = torch.tensor([[4.0, 0.0], [4.0, 0.0], [8.0, 0.0], [0.0, 4.0]])
    keys_NC = torch.tensor([[4.0], [0.0], [2.0], [2.0]])
    result = prune(hidden_ND, keys_NC, (1, 4), PrunerConfig(num_kept=3, pivots=2, fuse_weight=0.25))
    assert result.order_S.tolist() == [0, 1, 3]
    assert result.hidden_SD.tolist() == [[7.0, 0.0], [4.0, 0.0], [0.0, 4.0]]


def test_tokens_unlike_all_kept_ones_are_dropped() -> None:
    """Weights that do not sum to more than 0 leave the kept token as it is."""
    hidden_ND = torch.tensor([[3.0, 1.0], [-3.0, -1.0], [-6.0, -2.0]])
    result = prune(hidden_ND, torch.tensor([[9.0], [1.0], [1.0]]), (1, 3), PrunerConfig(num_kept=1, pivots=1))
    assert result.kept_S.tolist() == [0]
    assert torch.equal(result.hidden_SD, hidden_ND[:1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["hidden_ND", "keys_NC"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_that_are_not_finite_are_refused(name: str, value: float, dtype: torch.dtype) -> None:
    values = dict(zip(("hidden_ND", "keys_NC"), (part.to(dtype) for part in example()), strict=True))
    values[name][3, 1] = value
    with pytest.raises(ValueError, match=rf"{name} holds values that are not finite"):
        prune(**values, grid=GRID, config=CONFIG)


def test_float64_beyond_float32_is_refused() -> None:
    hidden_ND, keys_NC = example()
    with pytest.raises(ValueError, match=r"hidden_ND holds values that are not finite in float32"):
        prune(hidden_ND.double() * 1e300, keys_NC, GRID, CONFIG)


@pytest.mark.parametrize("shape", [(34, 8), (36, 8), (35,), (1, 35, 8), (8, 35)])
@pytest.mark.parametrize("name", ["hidden_ND", "keys_NC"])
def test_wrong_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    values = dict(zip(("hidden_ND", "keys_NC"), example(), strict=True)) | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=rf"{name} has shape .*: a grid of 5 x 7 needs \[35, width\]"):
        prune(**values, grid=GRID, config=CONFIG)


@pytest.mark.parametrize(
    ("setting", "value", "limit"),
    [
        ("num_kept", 0, "at least 1"),
        ("num_kept", 3, "at least the number of pivots, 4"),
        ("pivots", 0, "at least 1"),
        ("channels", 0, "at least 1"),
        ("batch", 0, "at least 1"),
        ("seed", -1, "at least 0"),
        ("bss_weight", -0.1, "finite and not negative"),
        ("bss_weight", math.nan, "finite and not negative"),
        ("bss_weight", math.inf, "finite and not negative"),
        ("threshold", math.nan, "finite"),
        ("threshold", math.inf, "finite"),
        ("threshold_step", 0.0, "greater than 0"),
        ("threshold_step", -0.1, "greater than 0"),
        ("threshold_step", math.nan, "greater than 0"),
        ("threshold_step", 1e-17, "at most 1000"),
        ("fuse_weight", -0.1, r"\[0, 1\]"),
        ("fuse_weight", 1.1, r"\[0, 1\]"),
        ("fuse_weight", math.nan, r"\[0, 1\]"),
    ],
)
def test_setting_out_of_range_is_refused(setting: str, value: float, limit: str) -> None:
    given_settings: dict[str, Any] = {"num_kept": 8, setting: value}
    with pytest.raises(ValueError, match=rf"^{setting}={value}: .*{limit}"):
        PrunerConfig(**given_settings)


def test_more_pivots_than_kept_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_kept=8: must be at least the number of pivots, 9"):
        PrunerConfig(num_kept=8, pivots=9)


def test_settings_are_frozen_and_named() -> None:
    with pytest.raises(AttributeError):
        CONFIG.num_kept = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        PrunerConfig(8)  # type: ignore[misc]


def test_keeping_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_kept=36: a grid of 5 x 7 has only 35 visual tokens"):
        prune(*example(), GRID, PrunerConfig(num_kept=36))


@pytest.mark.parametrize("grid", [(0, 5), (5, 0), (-5, -7)])
def test_empty_grid_is_refused(grid: tuple[int, int]) -> None:
    values = torch.zeros(grid[0] * grid[1], 4)
    with pytest.raises(ValueError, match=r"both sides must be at least 1"):
        prune(values, values, grid, PrunerConfig(num_kept=4))
