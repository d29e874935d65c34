"""How many tokens a kept one stands for."""

from __future__ import annotations

import pytest
import torch
from vlmp.pruner import PrunerConfig
from vlmp.pruner.weighing import tokens_stood_for

APART = torch.eye(4)


def test_copies_count_for_the_one_that_is_kept() -> None:
    """Nine tokens of four kinds, at right angles to each other: each kind is that of one kept token, but for one."""
    kinds = [0, 0, 1, 0, 2, 2, 1, 3, 0]
    hidden_ND = APART[kinds] * torch.arange(1.0, 10).unsqueeze(1)  # lengths are of no account
    stood_S = tokens_stood_for(hidden_ND, torch.tensor([0, 2, 4]), None).exp()
    # The last kind is like none of them, so it is divided among the three.
    assert stood_S.tolist() == pytest.approx([4 + 1 / 3, 2 + 1 / 3, 2 + 1 / 3], abs=1e-6)


def test_nothing_is_lost_from_stage_to_stage() -> None:
    hidden_ND = torch.randn(50, 24, generator=torch.Generator().manual_seed(0))
    kept_S, later_S = torch.arange(0, 50, 3), torch.tensor([1, 4, 9])
    first_S = tokens_stood_for(hidden_ND, kept_S, None)
    second_S = tokens_stood_for(hidden_ND[kept_S], later_S, first_S)
    assert first_S.exp().sum() == pytest.approx(50, rel=1e-5)
    assert second_S.exp().sum() == pytest.approx(50, rel=1e-5)
    assert second_S[0] >= first_S[1]  # a kept token goes on standing for what it stood for


def test_all_kept_and_unlike_stand_for_themselves() -> None:
    assert tokens_stood_for(APART, torch.arange(4), None).tolist() == pytest.approx([0.0] * 4, abs=1e-6)


def test_rows_of_zeros_give_numbers() -> None:
    stood_S = tokens_stood_for(torch.zeros(6, 5), torch.tensor([1, 2]), None)
    assert stood_S.exp().tolist() == pytest.approx([3, 3])


def test_the_result_moves_as_little_as_its_input() -> None:
    """Two kept tokens that are almost equally alike: a rounding error must not send a token from one to the other."""
    hidden_ND = torch.randn(30, 16, generator=torch.Generator().manual_seed(1))
    hidden_ND[1] = hidden_ND[0]
    kept_S = torch.tensor([0, 1, 7])
    moved_ND = hidden_ND + 1e-6 * torch.randn(30, 16, generator=torch.Generator().manual_seed(2))
    found, other = (tokens_stood_for(each, kept_S, None) for each in (hidden_ND, moved_ND))
    assert float((found - other).abs().max()) < 1e-4


def test_half_precision_is_computed_in_float32() -> None:
    hidden_ND = torch.randn(20, 8, generator=torch.Generator().manual_seed(3)).half()
    kept_S = torch.arange(5)
    found_S = tokens_stood_for(hidden_ND, kept_S, None)
    assert found_S.dtype == torch.float32
    assert torch.equal(found_S, tokens_stood_for(hidden_ND.float(), kept_S, None))


@pytest.mark.parametrize("weigh", [-1, 2])
def test_weigh_is_yes_or_no(weigh: int) -> None:
    with pytest.raises(ValueError, match=rf"^weigh={weigh}: must be 0 or 1$"):
        PrunerConfig(num_kept=4, weigh=weigh)
