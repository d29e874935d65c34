"""The small ops: the same answers as torch's own, and defined ones where values tie."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vlmp.pruner.ops import choose, first_argmax, matmul, squared_norm, stable_order, stable_rank

few_values = st.lists(st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 0.25, 1.0, math.inf]), min_size=1, max_size=80)


@given(values=few_values)
@settings(deadline=None)
def test_stable_order_equals_stable_sort(values: list[float]) -> None:
    values_N = torch.tensor(values)
    assert torch.equal(stable_order(values_N), torch.sort(values_N, stable=True).indices)


@pytest.mark.parametrize("distinct", [1, 2, 30, 100_000])
@pytest.mark.parametrize("count", [1, 2, 17, 576, 5000])
def test_stable_order_of_many_values(count: int, distinct: int) -> None:
    values_N = torch.randint(distinct, (count,), generator=torch.Generator().manual_seed(count)) / 7
    assert torch.equal(stable_order(values_N), torch.sort(values_N, stable=True).indices)
    assert torch.equal(stable_order(-values_N), torch.sort(-values_N, stable=True).indices)


def test_stable_order_of_integers() -> None:
    assert stable_order(torch.tensor([2, 1, 2, 1, 0])).tolist() == [4, 1, 3, 0, 2]


@given(values=few_values)
@settings(deadline=None)
def test_stable_rank_is_the_place_in_the_stable_order(values: list[float]) -> None:
    values_N = torch.tensor(values)
    assert stable_rank(values_N)[stable_order(values_N)].tolist() == list(range(len(values)))


@given(values=few_values)
@settings(deadline=None)
def test_first_argmax_takes_the_lowest_index(values: list[float]) -> None:
    assert first_argmax(torch.tensor(values)).tolist() == [values.index(max(values))]


def test_first_argmax_of_a_long_tie() -> None:
    values_N = torch.zeros(5000)
    values_N[[70, 71, 4000]] = 1
    assert first_argmax(values_N).tolist() == [70]


def test_squared_norm_sums_over_the_last_axis() -> None:
    assert squared_norm(torch.tensor([[3.0, 4.0], [0.0, -2.0]])).tolist() == [25.0, 4.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int64])
def test_choose_keeps_the_dtype(dtype: torch.dtype) -> None:
    chosen = choose(torch.tensor([True, False]), torch.tensor([5, 6], dtype=dtype), -1.0)
    assert chosen.dtype == dtype
    assert chosen.tolist() == [5, -1]


def test_matmul_equals_torch() -> None:
    left, right = torch.randn(3, 4), torch.randn(4, 5)
    torch.testing.assert_close(matmul(left, right), left @ right)
