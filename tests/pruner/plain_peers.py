"""The peers of VLM-Pruner once more, as the loops of their papers: numpy, float64, one token at a time.

Nothing is shared with `vlmp.pruner`. Where close values would be ordered by rounding, a caller passes what was computed
in float32 (`distance`, `similarity`), as tests of VLM-Pruner do. Each function returns tokens in the order of choice.

`python tests/pruner/plain_peers.py` writes the golden cases anew.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

PEERS = ("random", "uniform", "fastv", "divprune", "dart")
GOLDEN_FOLDER = Path(__file__).parents[1] / "data/golden/peers"


def plain_fastv(attention: Floats, keep: int) -> list[int]:
    """FastV: most attended first."""
    return sorted(range(len(attention)), key=lambda token: (-float(attention[token]), token))[:keep]


def plain_cosine(left: Floats, right: Floats) -> float:
    """Cosine of two vectors; 0 where one is zero."""
    left, right = np.float64(left), np.float64(right)
    norm = math.sqrt(sum(left * left)) * math.sqrt(sum(right * right))
    return float(sum(left * right)) / norm if norm > 0 else 0.0


def plain_cosines(rows: Floats) -> Floats:
    """Cosine of every pair of rows."""
    return np.array([[plain_cosine(one, other) for other in rows] for one in rows])


def plain_divprune(distance: Floats, keep: int) -> list[int]:
    """DivPrune (its code): first the token whose nearest other is farthest, then by turns the farthest from all."""
    tokens = range(len(distance))
    first, best = 0, -math.inf
    for token in tokens:
        nearest = min((distance[token, other] for other in tokens if other != token), default=math.inf)
        if nearest > best:
            first, best = token, nearest
    chosen = [first]
    while len(chosen) < keep:
        farthest, best = -1, -math.inf
        for token in tokens:
            nearest = min(distance[other, token] for other in chosen)
            if token not in chosen and nearest > best:
                farthest, best = token, nearest
        chosen.append(farthest)
    return chosen


def plain_dart(similarity: Floats, keys: Floats, pivots: int, keep: int) -> list[int]:
    """DART with image pivots: largest L1 norms of keys, then by turns the free tokens least similar to each."""
    tokens = range(len(keys))
    norms = [float(sum(abs(value) for value in np.float64(key))) for key in keys]
    chosen = sorted(tokens, key=lambda token: (-norms[token], token))[:pivots]
    for turn, pivot in enumerate(list(chosen)):
        quota = len([token for token in range(keep - pivots) if token % pivots == turn])
        free = sorted((float(similarity[pivot, token]), token) for token in tokens if token not in chosen)
        chosen += [token for _, token in free[:quota]]
    return chosen


def plain_random(tokens: int, seed: int, keep: int) -> list[int]:
    """Lots from Python's generator, lowest first."""
    import random

    random.seed(seed)
    lots = [(random.random(), token) for token in range(tokens)]
    return [token for _, token in sorted(lots)[:keep]]


def plain_uniform(grid: tuple[int, int], keep: int) -> list[int]:
    """Even rows, even places on each: the middle cell (the later of two) of every band of cells."""
    height, width = grid
    rows = min(max(round(math.sqrt(keep * height / width)), math.ceil(keep / width)), height, keep)
    chosen = []
    for row in range(rows):
        places = math.floor((row + 1) * keep / rows) - math.floor(row * keep / rows)
        y = math.floor((row + 0.5) * height / rows)
        chosen += [y * width + math.floor((place + 0.5) * width / places) for place in range(places)]
    return chosen


# --- Golden cases -----------------------------------------------------------------------------------------------------


def freeze() -> None:
    """Inputs of three kinds and what each method chooses of them."""
    from pruner_cases import random_input

    GOLDEN_FOLDER.mkdir(exist_ok=True)
    for kind, grid, keep in (("smooth", (8, 8), 9), ("clustered", (6, 10), 17), ("gaussian", (7, 5), 12)):
        hidden, keys = (values.numpy().astype(np.float16) for values in random_input(kind, grid, 3, 32, 16))
        attention = np.random.default_rng(len(hidden)).dirichlet(np.full(len(hidden), 0.3)).astype(np.float16)
        similarity = plain_cosines(hidden)
        np.savez_compressed(
            GOLDEN_FOLDER / f"{kind}_{grid[0]}x{grid[1]}.npz",
            hidden=hidden, keys=keys, attention=attention, grid=grid, keep=keep, seed=7,
            random=plain_random(len(hidden), 7, keep),
            uniform=plain_uniform(grid, keep),
            fastv=plain_fastv(attention, keep),
            divprune=plain_divprune(1 - similarity, keep),
            dart=plain_dart(similarity, keys, 4, keep),
        )  # fmt: skip


if __name__ == "__main__":
    freeze()
