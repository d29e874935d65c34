"""VLM-Pruner once more, as the loops of its description: one token, one batch and one pass at a time.

Nothing is shared with `vlmp.pruner` but the settings. Scores are compared in float32, as thresholds make them
sensitive; everything else is computed in float64. Steps 1 to 5 are those of the paper's code, except that a pass that
adds nothing is followed by the next one, so that exactly S tokens are always kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from vlmp.pruner import PrunerConfig

Floats = NDArray[np.floating]


class PlainResult(NamedTuple):
    """Kept tokens ascending, the same in their order of selection, their fused rows, and the passes it took."""

    kept: list[int]
    order: list[int]
    fused: Floats
    passes: int


def plain_prune(
    hidden: Floats,
    keys: Floats,
    grid: tuple[int, int],
    config: PrunerConfig,
    similarity: Floats | None = None,
    places: Sequence[int] | None = None,
) -> PlainResult:
    """Prune by loops. `similarity` [N, N] replaces step 2, where its last bits would decide between close scores.

    places: where on the grid the tokens stand, row major; None: they are all of it.
    """
    if similarity is None:
        similarity = plain_similarity(hidden, config.channels)
    pivots = plain_pivots(keys, config.pivots)
    order, passes = plain_selection(np.float32(similarity), plain_distance(grid, places), pivots, config)
    return PlainResult(
        sorted(order), order, plain_fusion(hidden, similarity, sorted(order), config.fuse_weight), passes
    )


def plain_pivots(keys: Floats, count: int) -> list[int]:
    """Step 1."""
    keys = np.float64(keys)
    norms = [sum(abs(value) for value in key) for key in keys]
    pivots = [norms.index(max(norms))]
    while len(pivots) < count:
        best, best_gap = -1, -1.0
        for token, key in enumerate(keys):
            gap = min(math.dist(key, keys[pivot]) for pivot in pivots)
            if token not in pivots and gap > best_gap:
                best, best_gap = token, gap
        pivots.append(best)
    return pivots


def plain_similarity(hidden: Floats, channels: int) -> Floats:
    """Step 2: cosine over the channels of highest unbiased variance."""
    hidden = np.float64(hidden)
    tokens, width = hidden.shape
    if width > channels:
        variance = hidden.var(axis=0, ddof=1 if tokens > 1 else 0)
        hidden = hidden[:, sorted(range(width), key=lambda channel: (-variance[channel], channel))[:channels]]
    similarity = np.zeros((tokens, tokens))
    norms = [max(math.sqrt(sum(row * row)), 1e-12) for row in hidden]
    for i in range(tokens):
        for j in range(tokens):
            similarity[i, j] = float(hidden[i] @ hidden[j]) / (norms[i] * norms[j])
    return similarity


def plain_distance(grid: tuple[int, int], places: Sequence[int] | None = None) -> Floats:
    """Step 2: distance on the grid as a share of its diagonal, in float32."""
    height, width = grid
    places = range(height * width) if places is None else places
    distance = np.zeros((len(places), len(places)), dtype=np.float32)
    diagonal = np.float32(math.sqrt(height**2 + width**2))
    for row, i in enumerate(places):
        for column, j in enumerate(places):
            squared = (i // width - j // width) ** 2 + (i % width - j % width) ** 2
            distance[row, column] = np.sqrt(np.float32(squared)) / diagonal
    return distance


def plain_selection(
    similarity: Floats, distance: Floats, pivots: list[int], config: PrunerConfig
) -> tuple[list[int], int]:
    """Steps 3 and 4. Returns the tokens in the order in which they were selected, and the number of passes."""
    tokens, weight = len(similarity), np.float32(config.bss_weight)
    selected = list(pivots)
    threshold, passes = config.threshold, 0

    def score(token: int) -> np.float32:
        nearest, apart = similarity[selected, token].max(), distance[selected, token].min()
        return nearest * (np.float32(1) + weight * apart)

    while len(selected) < config.num_kept:
        passes += 1
        ranked = sorted((score(token), token) for token in range(tokens) if token not in selected)
        for begin in range(0, len(ranked), config.batch):
            judged = [(score(token), token) for _, token in ranked[begin : begin + config.batch]]
            valid = [(now, token) for now, token in judged if now < np.float32(threshold)]
            room = config.num_kept - len(selected)
            if len(valid) > room:
                valid = sorted(valid)[:room]
            selected += [token for _, token in valid]
            if len(selected) == config.num_kept:
                break
        threshold += config.threshold_step
    return selected, passes


def plain_fusion(hidden: Floats, similarity: Floats, kept: list[int], own: float) -> Floats:
    """Step 5."""
    hidden, similarity = np.float64(hidden), np.float64(similarity)
    guests: dict[int, list[int]] = {token: [] for token in kept}
    for token in range(len(hidden)):
        if token not in guests:
            guests[max(kept, key=lambda home: similarity[home, token])].append(token)
    fused = []
    for home in kept:
        total = sum(similarity[home, guest] for guest in guests[home])
        row = hidden[home]
        if total > 0:
            mixed = sum(similarity[home, guest] / max(total, 1e-8) * hidden[guest] for guest in guests[home])
            row = own * row + (1 - own) * mixed
        fused.append(row)
    return np.array(fused)
