"""The peers of VLM-Pruner: as their papers say, and exactly S tokens of any input."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_peers import (
    GOLDEN_FOLDER,
    PEERS,
    plain_cosines,
    plain_dart,
    plain_divprune,
    plain_fastv,
    plain_random,
    plain_uniform,
)  # fmt: skip
from pruner_cases import KINDS, assert_well_formed, random_input, signs
from torch import Tensor
from vlmp.pruner import PRUNERS, PrunerConfig, build_pruner, pruner_class
from vlmp.pruner.dart import Dart
from vlmp.pruner.divprune import DivPrune
from vlmp.pruner.ops import matmul, unit_rows
from vlmp.pruner.random import KeepRandom
from vlmp.pruner.uniform import even_places

GOLDEN = sorted(path.stem for path in GOLDEN_FOLDER.glob("*.npz"))
GRID, WIDTH, KEY_WIDTH = (5, 7), 16, 8


class Case(NamedTuple):
    """What a method is given. hidden_ND, keys_NC, attention_N float32."""

    grid: tuple[int, int]
    hidden_ND: Tensor
    keys_NC: Tensor
    attention_N: Tensor

    def order(self, peer: str, config: PrunerConfig) -> list[int]:
        """What the method chooses, checked for what holds of every result."""
        result = build_pruner(peer, self.grid, config)(self.hidden_ND, self.keys_NC, self.attention_N)
        assert_well_formed(result, len(self.hidden_ND), config.num_kept, self.hidden_ND.shape[1])
        assert torch.equal(result.hidden_SD, self.hidden_ND[result.kept_S])
        return result.order_S.tolist()

    def plain(self, peer: str, config: PrunerConfig) -> list[int]:
        """What its loops choose, given the float32 similarities, whose last bits may decide between close tokens."""
        unit_ND = unit_rows(self.hidden_ND)
        cosine_NN = matmul(unit_ND, unit_ND.transpose(0, 1))
        match peer:
            case "random":
                return plain_random(len(self.hidden_ND), config.seed, config.num_kept)
            case "uniform":
                return plain_uniform(self.grid, config.num_kept)
            case "fastv":
                return plain_fastv(self.attention_N.numpy(), config.num_kept)
            case "divprune":
                return plain_divprune((1 - cosine_NN).numpy(), config.num_kept)
            case "dart":
                norm_N1 = self.keys_NC.abs().sum(-1, keepdim=True)  # likewise
                return plain_dart(dart_cosines(self, config).numpy(), norm_N1.numpy(), config.pivots, config.num_kept)
            case _:
                raise ValueError(f"{peer}: Case.plain does not call its loops")


def dart_cosines(case: Case, config: PrunerConfig) -> Tensor:
    """[N, N], of which only the pivots' rows are filled, as DART computes them."""
    unit_ND = unit_rows(case.hidden_ND)
    pivot_P = torch.sort(-case.keys_NC.abs().sum(-1), stable=True).indices[: config.pivots]
    cosine_NN = torch.zeros(len(unit_ND), len(unit_ND))
    cosine_NN[pivot_P] = matmul(unit_ND[pivot_P], unit_ND.transpose(0, 1))
    return cosine_NN


def golden(name: str) -> tuple[Case, PrunerConfig, dict[str, list[int]]]:
    with np.load(GOLDEN_FOLDER / f"{name}.npz", allow_pickle=False) as stored:
        height, width = stored["grid"].tolist()
        values = [torch.from_numpy(stored[part]).float() for part in ("hidden", "keys", "attention")]
        config = PrunerConfig(num_kept=int(stored["keep"]), seed=int(stored["seed"]))
        return Case((height, width), *values), config, {peer: stored[peer].tolist() for peer in PEERS}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", GOLDEN)
def test_equals_golden(name: str, peer: str) -> None:
    case, config, orders = golden(name)
    assert case.order(peer, config) == orders[peer]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_is_what_the_loops_choose(name: str) -> None:
    """In float64 and from nothing but the inputs: no close call in these cases hangs on rounding."""
    case, config, orders = golden(name)
    cosine_NN, keys_NC = plain_cosines(case.hidden_ND.numpy()), case.keys_NC.numpy()
    assert plain_divprune(1 - cosine_NN, config.num_kept) == orders["divprune"]
    assert plain_dart(cosine_NN, keys_NC, config.pivots, config.num_kept) == orders["dart"]
    for peer in set(PEERS) - {"divprune", "dart"}:
        assert case.plain(peer, config) == orders[peer]
    assert len({tuple(sorted(order)) for order in orders.values()}) == len(PEERS)


def test_golden_cases_are_complete_and_small() -> None:
    assert GOLDEN == ["clustered_6x10", "gaussian_7x5", "smooth_8x8"]
    assert sum(path.stat().st_size for path in GOLDEN_FOLDER.iterdir()) < 100_000
    assert set(PEERS) == set(PRUNERS) - {"vlm-pruner", "none", "local", "contrast"}  # ours: no paper to read it off


@st.composite
def any_case(draw: st.DrawFn) -> tuple[Case, PrunerConfig]:
    """Any small grid and size of the set; blank, constant, duplicated, tied, huge and ordinary values."""
    grid = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    tokens = grid[0] * grid[1]
    keep = draw(st.integers(1, tokens) | st.just(tokens))
    config = PrunerConfig(num_kept=keep, pivots=draw(st.integers(1, min(6, keep))), seed=draw(st.integers(0, 2**40)))
    hidden_ND, keys_NC = random_input(draw(st.sampled_from(KINDS)), grid, draw(st.integers(0, 999)), 16, 4)
    attention_N = torch.softmax(hidden_ND[:, 0], 0)
    change = draw(st.sampled_from(["none", "blank", "constant", "duplicated", "opposed", "signs", "few blank", "huge"]))
    if change == "blank":
        hidden_ND, keys_NC, attention_N = (torch.zeros_like(part) for part in (hidden_ND, keys_NC, attention_N))
    elif change == "constant":
        hidden_ND, keys_NC, attention_N = (part[:1].expand_as(part) for part in (hidden_ND, keys_NC, attention_N))
    elif change == "duplicated":
        original_N = torch.arange(tokens) % 3 % tokens
        hidden_ND, keys_NC, attention_N = (part[original_N] for part in (hidden_ND, keys_NC, attention_N))
    elif change == "opposed":
        hidden_ND = hidden_ND[:1] * (1 - 2.0 * (torch.arange(tokens) % 2)).unsqueeze(1)
    elif change == "signs":
        hidden_ND, keys_NC = signs(tokens, draw(st.integers(0, 99))), signs(tokens, draw(st.integers(0, 99)), 4)
        attention_N = (attention_N > attention_N.median()).float()
    elif change == "few blank":
        hidden_ND[::3], keys_NC[::2], attention_N[::2] = 0, 0, 0
    elif change == "huge":
        hidden_ND, keys_NC = hidden_ND * 1e30, keys_NC * 1e37
    return Case(grid, hidden_ND, keys_NC, attention_N), config


@pytest.mark.parametrize("peer", PEERS)
@given(drawn=any_case())
@settings(deadline=None, max_examples=80)
def test_any_input_keeps_exactly_s_and_equals_loops(peer: str, drawn: tuple[Case, PrunerConfig]) -> None:
    case, config = drawn
    order = case.order(peer, config)
    assert order == case.order(peer, config)
    assert order == case.plain(peer, config)


def example(kind: str = "gaussian", seed: int = 0) -> Case:
    hidden_ND, keys_NC = random_input(kind, GRID, seed, WIDTH, KEY_WIDTH)
    return Case(GRID, hidden_ND, keys_NC, torch.softmax(hidden_ND[:, 1], 0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("peer", PEERS)
def test_other_precisions_select_as_their_values_do_in_float32(peer: str, dtype: torch.dtype) -> None:
    _, *values = example()
    narrow = [part.to(dtype) for part in values]
    pruner = build_pruner(peer, GRID, PrunerConfig(num_kept=11))
    found, wanted = pruner(*narrow), pruner(*(part.float() for part in narrow))
    assert torch.equal(found.order_S, wanted.order_S)
    assert found.hidden_SD.dtype == dtype
    assert torch.equal(found.hidden_SD, narrow[0][found.kept_S])


@pytest.mark.parametrize("peer", PEERS)
def test_keeping_all_changes_nothing(peer: str) -> None:
    case = example()
    assert sorted(case.order(peer, PrunerConfig(num_kept=35))) == list(range(35))


@pytest.mark.parametrize("name", PRUNERS)
def test_reads_nothing_but_what_it_says(name: str) -> None:
    """`needs` decides what an exporter computes, and `settings` what a manifest records."""
    kind, case = pruner_class(name), example()
    config = PrunerConfig(num_kept=35 if name == "none" else 11)
    keys_NC = case.keys_NC if "keys" in kind.needs else None
    attention_N = case.attention_N if "attention" in kind.needs else None
    wanted = build_pruner(name, GRID, config)(case.hidden_ND, case.keys_NC, case.attention_N)
    found = build_pruner(name, GRID, config)(case.hidden_ND, keys_NC, attention_N)
    assert torch.equal(found.order_S, wanted.order_S)
    if kind.needs:
        with pytest.raises(ValueError, match="is missing: this method chooses by it"):
            build_pruner(name, GRID, config)(case.hidden_ND)
    others = {
        "pivots": 2,
        "channels": 3,
        "threshold": 0.1,
        "batch": 1,
        "seed": 9,
        "bss_weight": 2.0,
        "fuse_weight": 1.0,
    }
    unread = {setting: value for setting, value in others.items() if setting not in kind.settings}
    changed = build_pruner(name, GRID, PrunerConfig(num_kept=config.num_kept, **unread))  # type: ignore[arg-type]
    result = changed(case.hidden_ND, case.keys_NC, case.attention_N)
    assert all(torch.equal(one, other) for one, other in zip(result, wanted, strict=True))


def test_places() -> None:
    assert {name: pruner_class(name).place for name in PRUNERS if pruner_class(name).place is not None} == {
        "divprune": 0
    }
    assert {name for name in PRUNERS if pruner_class(name).needs} == {"vlm-pruner", "fastv", "dart"}


# --- random -----------------------------------------------------------------------------------------------------------


def test_random_depends_on_its_seed_alone() -> None:
    config = PrunerConfig(num_kept=9, seed=5)
    random.seed(1)
    torch.manual_seed(1)
    order = example().order("random", config)
    state = torch.random.get_rng_state(), random.getstate()
    assert example("smooth").order("random", config) == order
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert state[1] == random.getstate()
    assert example().order("random", PrunerConfig(num_kept=20, seed=5))[:9] == order
    assert len({tuple(example().order("random", PrunerConfig(num_kept=9, seed=seed))) for seed in range(50)}) == 50


def test_random_keeps_every_token_equally_often() -> None:
    draws = 2000
    kept_N = torch.zeros(35)
    for seed in range(draws):
        kept_N[KeepRandom(GRID, PrunerConfig(num_kept=7, seed=seed)).order_S] += 1
    assert float((kept_N / draws - 0.2).abs().max()) < 4 * (0.2 * 0.8 / draws) ** 0.5


# --- uniform ----------------------------------------------------------------------------------------------------------


@given(height=st.integers(1, 40), width=st.integers(1, 40), share=st.floats(0, 1))
@settings(deadline=None, max_examples=300)
def test_uniform_places_are_even(height: int, width: int, share: float) -> None:
    count = max(1, round(share * height * width))
    places = even_places((height, width), count)
    assert len(places) == count
    assert places == sorted(set(places))
    assert places[0] >= 0
    assert places[-1] < height * width
    rows: dict[int, list[int]] = {}
    for place in places:
        rows.setdefault(place // width, []).append(place % width)
    sizes = [len(columns) for columns in rows.values()]
    assert max(sizes) - min(sizes) <= 1
    for line, length in [(list(rows), height), *((columns, width) for columns in rows.values())]:
        gaps = [after - before for before, after in pairwise(line)]
        assert max(gaps, default=0) - min(gaps, default=0) <= 1
        assert abs(line[0] - (length - 1 - line[-1])) <= 1, "as far from one edge as from the other"
    # As far apart down as across, as far as whole rows and columns allow.
    assert len(rows) in (height, count, -(-count // width)) or abs(len(rows) - (count * height / width) ** 0.5) <= 0.5


def test_uniform_places_that_one_would_draw() -> None:
    assert even_places((12, 12), 16) == [12 * y + x for y in (1, 4, 7, 10) for x in (1, 4, 7, 10)]
    assert even_places((4, 8), 8) == [8 * y + x for y in (1, 3) for x in (1, 3, 5, 7)]
    assert even_places((1, 9), 3) == [1, 4, 7]
    assert even_places((9, 1), 3) == [1, 4, 7]


# --- fastv, divprune, dart --------------------------------------------------------------------------------------------


def test_fastv_keeps_the_most_attended_and_of_equals_the_first() -> None:
    attention_N = torch.tensor([0.1, 0.3, 0.1, 0.3, 0.0, 0.2])
    result = build_pruner("fastv", (2, 3), PrunerConfig(num_kept=4))(torch.randn(6, 3), None, attention_N)
    assert result.order_S.tolist() == [1, 3, 5, 0]
    assert result.kept_S.tolist() == [0, 1, 3, 5]


def test_divprune_starts_with_the_loneliest_and_never_takes_one_twice() -> None:
    """Three directions; the authors' code would take token 0 again once all directions are taken."""
    hidden_ND = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 5], [0, 3, 0], [4, 0, 0]])
    pruner = DivPrune((1, 6), PrunerConfig(num_kept=5))
    assert pruner(hidden_ND).order_S.tolist() == [3, 0, 2, 1, 4]


@pytest.mark.parametrize(("keep", "pivots", "quotas"), [(4, 4, [0] * 4), (11, 4, [2, 2, 2, 1]), (3, 1, [2])])
def test_dart_pivots_take_equally_many(keep: int, pivots: int, quotas: list[int]) -> None:
    assert Dart(GRID, PrunerConfig(num_kept=keep, pivots=pivots)).quotas == quotas


def test_dart_keeps_pivots_and_what_is_unlike_them() -> None:
    hidden_ND = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [-1, 0], [-1, 0.1], [0, -1]])
    keys_NC = torch.tensor([[0.0, 1], [0, 2], [5, -5], [-1, 1], [0, 0], [-3, 3]])
    result = build_pruner("dart", (2, 3), PrunerConfig(num_kept=4, pivots=2))(hidden_ND, keys_NC)
    # Pivots 2 and 5 by L1 norm. Least like 2 would be 5, but it is taken; 0 and 3 tie behind it. For 5, 1 and 4 tie.
    assert result.order_S.tolist() == [2, 5, 0, 1]
