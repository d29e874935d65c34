"""VLM-Pruner (arXiv 2512.02700) as static-shape ops: pivots, selection by buffered spatial sparsity, fusion.

The paper's code walks through passes and batches with data-dependent lengths. Here one selection step finds the next
batch that adds something, adds it, and otherwise starts the next pass; a step after the last changes nothing. Steps
can therefore be looped or unrolled, and every tensor has a static shape.

Dims: N visual tokens, D hidden size, C key width, Q screened channels, B batch of candidates, S kept,
R = N rounded up to whole batches (positions of a pass's ranking).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .interface import Loop, Pruner, PrunerConfig, PruneResult
from .ops import choose, first_argmax, matmul, squared_norm, stable_order

BELOW_ANY_SIMILARITY = -2.0
ABOVE_ANY_DISTANCE = 2.0


class Selection(NamedTuple):
    """The state that one step turns into the next. All tensors, so that a runtime's loop can carry it."""

    stamp_N: Tensor
    """int64, position in the order of selection, -1 while unselected."""
    nearest_N: Tensor
    """float32, m_i: the highest similarity to a selected token."""
    distance_N: Tensor
    """float32, delta_i: the smallest grid distance to a selected token."""
    ranking_R: Tensor
    """int64, token indices by ascending score as of the start of the pass."""
    start_1: Tensor
    """int64, ranking position from which batches of this pass are still to come."""
    pass_1: Tensor
    """int64, number of the pass."""
    count_1: Tensor
    """int64, how many tokens are selected."""


class VlmPruner(Pruner):
    """VLM-Pruner for one grid: always exactly S tokens, selection in float32, ties by lower index.

    grid (h, w): the merged-token grid. loop: how an exported graph repeats steps; eager calls stop when S are selected.
    """

    distance_NN: Tensor
    thresholds: Tensor
    index_N: Tensor
    padding: Tensor
    position_R: Tensor
    position_B: Tensor

    def __init__(self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while") -> None:
        super().__init__(grid, config, loop)
        self.slots = math.ceil(self.tokens / config.batch) * config.batch
        self.register_buffer("distance_NN", grid_distance(grid), persistent=False)
        self.register_buffer("thresholds", pass_thresholds(config), persistent=False)
        self.register_buffer("index_N", torch.arange(self.tokens), persistent=False)
        self.register_buffer("padding", torch.zeros(self.slots - self.tokens, dtype=torch.int64), persistent=False)
        self.register_buffer("position_R", torch.arange(self.slots), persistent=False)
        self.register_buffer("position_B", torch.arange(config.batch), persistent=False)

    @property
    def max_steps(self) -> int:
        """Steps that suffice for every input: each adds a token or starts one of the passes."""
        return self.config.keep - self.config.pivots + len(self.thresholds)

    @property
    def unrolled_steps(self) -> int:
        """Steps of an unrolled graph: twice what 288 measured cases needed, and never more than `max_steps`."""
        return min(self.max_steps, 16 + math.ceil(self.config.keep / 4))

    @property
    def exact(self) -> bool:
        """Whether an exported graph always runs to the end, so that nothing is ever filled by lowest score."""
        return self.loop != "unroll" or self.unrolled_steps == self.max_steps

    def forward(self, hidden_ND: Tensor, keys_NC: Tensor) -> PruneResult:
        """Select S tokens and fuse the others into them.

        hidden_ND: hidden states after decoder layer K-1, any float dtype. keys_NC: keys of layer K-1 after rotary
        embedding. Returns PruneResult with hidden_SD in the dtype of `hidden_ND`.
        """
        hidden_f32_ND, keys_f32_NC = hidden_ND.float(), keys_NC.float()
        similarity_NN = self.similarity(hidden_f32_ND)
        state = self.start(similarity_NN, self.pivots(keys_f32_NC))
        state = self.repeat_steps(similarity_NN, state)
        stamp_N, filled_1 = self.fill(state)
        kept_S, order_S = self.kept(stamp_N)
        fused_SD = self.fuse(hidden_f32_ND, similarity_NN, kept_S, stamp_N)
        return PruneResult(kept_S, fused_SD.to(hidden_ND.dtype), order_S, filled_1)

    def pivots(self, keys_NC: Tensor) -> list[Tensor]:
        """The key of largest L1 norm, then by turns the key farthest (L2) from all pivots. Indices, each int64 [1]."""
        pivots = [first_argmax(keys_NC.abs().sum(-1))]
        gap_N = None
        for _ in range(1, self.config.pivots):
            from_last_N = squared_norm(keys_NC - keys_NC.index_select(0, pivots[-1]))
            gap_N = from_last_N if gap_N is None else torch.minimum(gap_N, from_last_N)
            # A pivot's own gap is 0; -1 keeps it from being chosen twice where all keys are equal.
            taken_N = torch.stack([self.index_N == pivot for pivot in pivots]).any(0)
            pivots.append(first_argmax(choose(torch.logical_not(taken_N), gap_N, -1.0)))
        return pivots

    def similarity(self, hidden_ND: Tensor) -> Tensor:
        """Cosine similarity over the Q channels of highest variance. float32 [N, N]."""
        tokens, width = hidden_ND.shape
        screened_NQ = hidden_ND
        if width > self.config.channels:
            centered_ND = hidden_ND - hidden_ND.mean(0, keepdim=True)
            variance_D = (centered_ND * centered_ND).sum(0) / max(tokens - 1, 1)
            screened_NQ = hidden_ND.index_select(1, stable_order(-variance_D)[: self.config.channels])
        norm_N1 = squared_norm(screened_NQ).sqrt().unsqueeze(1)
        unit_NQ = screened_NQ / norm_N1.clamp(min=1e-12)
        return matmul(unit_NQ, unit_NQ.transpose(0, 1))

    def start(self, similarity_NN: Tensor, pivots: list[Tensor]) -> Selection:
        """The pivots are selected, and the first pass has ranked the others."""
        pivot_P = torch.cat(pivots)
        stamp_N = torch.full_like(self.index_N, -1)
        for position, pivot in enumerate(pivots):
            stamp_N = choose(self.index_N != pivot, stamp_N, position)
        nearest_N = similarity_NN.index_select(0, pivot_P).amax(0)
        distance_N = self.distance_NN.index_select(0, pivot_P).amin(0)
        zero_1 = torch.zeros_like(pivots[0])
        ranking_R = self.rank(self.open_scores(stamp_N, nearest_N, distance_N))
        return Selection(stamp_N, nearest_N, distance_N, ranking_R, zero_1, zero_1 + 0, zero_1 + len(pivots))

    def open_scores(self, stamp_N: Tensor, nearest_N: Tensor, distance_N: Tensor) -> Tensor:
        """BSS score r_i = m_i (1 + lambda delta_i) of unselected tokens, infinite for selected ones."""
        score_N = nearest_N * (1 + self.config.bss_weight * distance_N)
        return choose(stamp_N < 0, score_N, math.inf)

    def rank(self, score_N: Tensor) -> Tensor:
        """Token indices by ascending score, padded with zeros to whole batches. int64 [R]."""
        return torch.cat([stable_order(score_N), self.padding])

    def step(self, similarity_NN: Tensor, state: Selection) -> Selection:
        """Add the next batch that has tokens below the threshold; if there is none, start the next pass."""
        stamp_N, nearest_N, distance_N, ranking_R, start_1, pass_1, count_1 = state
        batch, room_1 = self.config.batch, self.config.keep - count_1
        score_N = self.open_scores(stamp_N, nearest_N, distance_N)
        threshold_1 = self.thresholds.index_select(0, pass_1)

        score_R = score_N.index_select(0, ranking_R)
        due_R = torch.logical_and(self.position_R >= start_1, self.position_R < self.tokens)
        below_R = torch.logical_and(score_R < threshold_1, due_R)
        first_1 = choose(below_R, self.position_R, self.slots).amin(0, keepdim=True)
        found_1 = torch.logical_and(first_1 < self.slots, room_1 > 0)
        begin_1 = choose(found_1, first_1 - first_1 % batch, 0)

        slot_B = begin_1 + self.position_B
        token_B = ranking_R.index_select(0, slot_B)
        score_B = score_N.index_select(0, token_B)
        valid_B = torch.logical_and(torch.logical_and(score_B < threshold_1, slot_B < self.tokens), found_1)
        # Among the valid ones of the batch, how many come before: if more are valid than fit, the lowest scores win.
        equal_BB = score_B.unsqueeze(0) == score_B.unsqueeze(1)
        before_BB = torch.logical_and(equal_BB, token_B.unsqueeze(0) < token_B.unsqueeze(1))
        rival_BB = torch.logical_or(score_B.unsqueeze(0) < score_B.unsqueeze(1), before_BB)
        place_B = torch.logical_and(rival_BB, valid_B.unsqueeze(0)).to(torch.int64).sum(1)
        added_B = torch.logical_and(valid_B, place_B < room_1)
        # Order of selection: along the ranking, but by score where a batch did not fit.
        fits_1 = valid_B.to(torch.int64).sum(0, keepdim=True) <= room_1
        stamp_B = count_1 + torch.where(fits_1, torch.cumsum(valid_B.to(torch.int64), 0) - 1, place_B)

        hit_BN = torch.logical_and(token_B.unsqueeze(1) == self.index_N, added_B.unsqueeze(1))
        stamp_BN = choose(hit_BN, stamp_B.unsqueeze(1), -1)
        similar_BN = choose(added_B.unsqueeze(1), similarity_NN.index_select(0, token_B), BELOW_ANY_SIMILARITY)
        distant_BN = choose(added_B.unsqueeze(1), self.distance_NN.index_select(0, token_B), ABOVE_ANY_DISTANCE)
        more_1 = torch.logical_and(room_1 > 0, torch.logical_not(found_1))
        return Selection(
            torch.maximum(stamp_N, stamp_BN.amax(0)),
            torch.maximum(nearest_N, similar_BN.amax(0)),
            torch.minimum(distance_N, distant_BN.amin(0)),
            torch.where(more_1, self.rank(score_N), ranking_R),
            choose(found_1, begin_1 + batch, 0),
            pass_1 + more_1.to(torch.int64),
            count_1 + added_B.to(torch.int64).sum(0, keepdim=True),
        )

    def repeat_steps(self, similarity_NN: Tensor, state: Selection) -> Selection:
        """Steps until S tokens are selected; an unrolled graph does a fixed number of them."""
        if not torch.compiler.is_exporting():
            while int(state.count_1) < self.config.keep:
                state = self.step(similarity_NN, state)
            return state
        if self.loop == "unroll":
            for _ in range(self.unrolled_steps):
                state = self.step(similarity_NN, state)
            return state
        if self.loop == "scan":
            from torch._higher_order_ops.scan import scan

            def scanned(carry: tuple[Tensor, ...], _: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
                after = self.step(similarity_NN, Selection(*carry))
                return tuple(after), after.count_1.clone()

            carried, _ = scan(scanned, tuple(state), torch.arange(self.max_steps))
            return Selection(*carried)
        from torch._higher_order_ops.while_loop import while_loop

        return Selection(
            *while_loop(
                lambda *carry: (carry[-1] < self.config.keep).squeeze(0),
                lambda *carry: tuple(self.step(similarity_NN, Selection(*carry))),
                tuple(state),
            )
        )

    def fill(self, state: Selection) -> tuple[Tensor, Tensor]:
        """What a bounded number of steps left open is filled by lowest score. Returns stamps [N], how many [1]."""
        missing_1 = self.config.keep - state.count_1
        if self.exact:
            return state.stamp_N, missing_1
        order_N = stable_order(self.open_scores(state.stamp_N, state.nearest_N, state.distance_N))
        place_NN = choose(order_N.unsqueeze(1) == self.index_N, self.index_N.unsqueeze(1), 0)
        place_N = place_NN.amax(0)
        filled_N = torch.logical_and(place_N < missing_1, state.stamp_N < 0)
        return torch.where(filled_N, state.count_1 + place_N, state.stamp_N), missing_1

    def kept(self, stamp_N: Tensor) -> tuple[Tensor, Tensor]:
        """Selected indices ascending, and in the order of selection. Both int64 [S]."""
        last_N = self.index_N + self.tokens  # Unselected tokens sort behind all others.
        ascending_N = torch.where(stamp_N >= 0, self.index_N, last_N)
        selection_N = torch.where(stamp_N >= 0, stamp_N, last_N)
        kept_S = torch.topk(ascending_N, self.config.keep, largest=False, sorted=True).values
        order_S = torch.topk(selection_N, self.config.keep, largest=False, sorted=True).indices
        return kept_S, order_S

    def fuse(self, hidden_ND: Tensor, similarity_NN: Tensor, kept_S: Tensor, stamp_N: Tensor) -> Tensor:
        """Similarity-weighted aggregation: each discarded token goes into the kept one that it is most similar to.

        H_j <- beta H_j + (1 - beta) sum_u M_uj H_u / max(sum_u M_uj, 1e-8) where sum_u M_uj > 0. float32 [S, D].
        """
        similarity_SN = similarity_NN.index_select(0, kept_S)
        home_N = torch.argmax(similarity_SN, dim=0)
        joins_SN = torch.logical_and(self.index_N[: self.config.keep].unsqueeze(1) == home_N, stamp_N < 0)
        weight_SN = choose(joins_SN, similarity_SN, 0.0)
        total_S1 = weight_SN.sum(1, keepdim=True)
        mixed_SD = matmul(weight_SN / total_S1.clamp(min=1e-8), hidden_ND)
        own_SD = hidden_ND.index_select(0, kept_S)
        own = self.config.fuse_weight
        return torch.where(total_S1 > 0, own * own_SD + (1 - own) * mixed_SD, own_SD)


def grid_distance(grid: tuple[int, int]) -> Tensor:
    """Euclidean distance of grid places, divided by sqrt(h^2 + w^2). float32 [N, N]."""
    height, width = grid
    index_N = torch.arange(height * width)
    y_N, x_N = (index_N // width).float(), (index_N % width).float()
    squared_NN = (y_N.unsqueeze(1) - y_N) ** 2 + (x_N.unsqueeze(1) - x_N) ** 2
    return squared_NN.sqrt() / math.sqrt(height**2 + width**2)


def pass_thresholds(config: PrunerConfig) -> Tensor:
    """tau of each pass, up to the first above every score, then infinity. float32 [passes].

    Scores stay below 1 + lambda (similarity and distance are at most 1), and infinity makes the last pass take
    whatever rounding left above it.
    """
    thresholds, threshold = [], config.threshold
    while threshold <= 1 + config.bss_weight:
        thresholds.append(threshold)
        threshold += config.threshold_step
    return torch.tensor([*thresholds, math.inf], dtype=torch.float32)
