"""The pruner against what the paper's code gave for the same inputs."""

from __future__ import annotations

import pytest
import torch
from pruner_cases import GOLDEN, golden
from vlmp.pruner import PrunerConfig, prune

STOPS_SHORT = [name for name in GOLDEN if golden(name).stops_short]
REACHES_S = [name for name in GOLDEN if name not in STOPS_SHORT]
ABSOLUTE_TOLERANCE = 1e-5


def test_golden_cases_are_complete() -> None:
    assert [name[:6] for name in STOPS_SHORT] == ["case05", "case06", "case07", "case09", "case11"]
    assert len(REACHES_S) == 7


@pytest.mark.parametrize("name", REACHES_S)
def test_equals_the_reference(name: str) -> None:
    case = golden(name)
    result = prune(case.hidden_ND, case.keys_NC, case.grid, PrunerConfig(num_kept=case.keep))
    assert result.kept_S.tolist() == sorted(case.kept)
    assert result.order_S.tolist() == case.order
    torch.testing.assert_close(result.hidden_SD, case.fused_rows, rtol=0, atol=ABSOLUTE_TOLERANCE)


@pytest.mark.parametrize("name", STOPS_SHORT)
def test_goes_on_where_the_reference_stops_short(name: str) -> None:
    case = golden(name)
    result = prune(case.hidden_ND, case.keys_NC, case.grid, PrunerConfig(num_kept=case.keep))
    assert len(result.kept_S) == case.keep
    assert set(result.kept_S.tolist()) > set(case.kept)
    assert result.order_S.tolist()[: len(case.order)] == case.order


@pytest.mark.parametrize("name", STOPS_SHORT)
def test_equals_the_reference_up_to_where_it_stops(name: str) -> None:
    case = golden(name)
    result = prune(case.hidden_ND, case.keys_NC, case.grid, PrunerConfig(num_kept=len(case.kept)))
    assert result.order_S.tolist() == case.order
    torch.testing.assert_close(result.hidden_SD, case.fused_rows, rtol=0, atol=ABSOLUTE_TOLERANCE)
