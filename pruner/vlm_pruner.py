"""VLM-Pruner (arXiv 2512.02700) as static-shape ops: pivots, selection by buffered spatial sparsity, fusion.

The paper's code walks through passes and batches with data-dependent lengths. Here one selection step finds the next
batch that has tokens below the threshold and adds them, and otherwise starts the next pass; a step after the last
changes nothing. Steps can therefore be looped or unrolled, and every tensor has a static shape.

Dims: N visual tokens, D hidden size, C key width, Q screened channels, B batch of candidates, S kept, R = N + 1 (a
neutral row behind the tokens').
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from vlmp.pruner.interface import DEFAULT_BATCH, DEFAULT_PIVOTS, Loop, Need, Pruner, PrunerConfig, PruneResult, needed
from vlmp.pruner.loops import repeat
from vlmp.pruner.ops import choose, farthest, first_argmax, matmul, squared_norm, stable_order, stable_rank, unit_rows

BELOW_ANY_SIMILARITY = -2.0
ABOVE_ANY_DISTANCE = 2.0
PUBLISHED_FROM = 32
"""Kept tokens from which on the published settings fit."""


class Pairs(NamedTuple):
    """What is known of each two tokens. The last row is neutral: it changes neither a maximum nor a minimum."""

    similarity_RN: Tensor
    """float32, M."""
    distance_RN: Tensor
    """float32, d: on the grid."""


class Selection(NamedTuple):
    """The state that one step turns into the next. All tensors, so that a runtime's loop can carry it."""

    stamp_N: Tensor
    """int64, when a token was selected (not contiguous, but in order), -1 while unselected."""
    nearest_N: Tensor
    """float32, m_i: the highest similarity to a selected token."""
    distance_N: Tensor
    """float32, delta_i: the smallest grid distance to a selected token."""
    rank_N: Tensor
    """int64, place of each token by ascending score as of the start of the pass."""
    start_1: Tensor
    """int64, the rank from which batches of this pass are still to come."""
    pass_1: Tensor
    """int64, number of the pass."""
    count_1: Tensor
    """int64, how many tokens are selected."""
    open_1: Tensor
    """int64, 1 while further steps are needed: fewer than S are selected, and the next batch may still fit."""


class VlmPruner(Pruner):
    """VLM-Pruner for one grid: always exactly S tokens, selection in float32, ties by lower index.

    Eager calls and loops step to the end; an unrolled graph does `unrolled_steps`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"keys"})
    settings: ClassVar[tuple[str, ...]] = (
        "pivots", "channels", "bss_weight", "threshold", "threshold_step", "batch", "fuse_weight",
    )  # fmt: skip

    distance_RN: Tensor
    thresholds: Tensor
    index_N: Tensor
    neutral_N: Tensor
    beyond_N: Tensor
    infinite_N: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        index_N = torch.arange(self.tokens)
        self.batch = min(config.batch, self.tokens)
        self.slots = math.ceil(self.tokens / self.batch) * self.batch
        distance = grid_distance(grid)
        distance = torch.cat([distance, torch.full_like(distance[:1], ABOVE_ANY_DISTANCE)])
        self.register_buffer("distance_RN", distance, persistent=False)
        self.register_buffer("thresholds", pass_thresholds(config), persistent=False)
        self.register_buffer("index_N", index_N, persistent=False)
        self.register_buffer("neutral_N", torch.full_like(index_N, self.tokens), persistent=False)
        self.register_buffer("beyond_N", torch.full_like(index_N, self.slots), persistent=False)
        self.register_buffer("infinite_N", torch.full((self.tokens,), math.inf), persistent=False)

    @classmethod
    def fitting(cls, num_kept: int) -> dict[str, int]:
        """Pivots and batches for a phone's budget.

        Of 16 tokens, a published batch of 16 takes twelve at once, blind to each other. So below PUBLISHED_FROM half of
        the kept tokens are pivots, and an eighth are judged at once: docs/results/accuracy.md has what others come to.
        """
        if num_kept >= PUBLISHED_FROM:
            return {}
        pivots = max(DEFAULT_PIVOTS, num_kept // 2)
        return {"batch": max(1, num_kept // 8), "pivots": pivots}

    @property
    def max_steps(self) -> int:
        """Steps that suffice for every input: each adds a token or starts one of the passes."""
        return self.config.num_kept - self.config.pivots + len(self.thresholds)

    @property
    def unrolled_steps(self) -> int:
        """Steps of an unrolled graph: half again what random inputs of many kinds need, at most `max_steps`.

        That was measured with batches of 16; smaller ones need more steps, and get them all.
        """
        if self.config.batch < DEFAULT_BATCH:
            return self.max_steps
        return min(self.max_steps, 16 + math.ceil(self.config.num_kept / 4))

    @property
    def exact(self) -> bool:
        """Whether an exported graph always runs to the end, so that nothing is ever filled by lowest score."""
        return self.loop != "unroll" or self.unrolled_steps == self.max_steps

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """Select S tokens and fuse the others into them.

        hidden_ND: hidden states after decoder layer K-1, any float dtype. keys_NC: keys of layer K-1 after rotary
        embedding. place_N int64: their places on the grid, None when they are all of it. Returns PruneResult with
        hidden_SD in the dtype of `hidden_ND`.
        """
        hidden_f32_ND, keys_f32_NC = hidden_ND.float(), needed(keys_NC, "keys_NC").float()
        pairs = self.pairs(hidden_f32_ND, place_N)
        state = self.start(pairs, self.pivots(keys_f32_NC))
        state = self.repeat_steps(pairs, state)
        stamp_N, filled_1 = self.finish(state)
        kept_S, order_S = self.kept(stamp_N)
        fused_SD = self.fuse(hidden_f32_ND, pairs.similarity_RN, kept_S, stamp_N)
        return PruneResult(kept_S, fused_SD.to(hidden_ND.dtype), order_S, filled_1)

    def pivots(self, keys_NC: Tensor) -> list[Tensor]:
        """The key of largest L1 norm, then by turns the key farthest (L2) from all pivots. Indices, each int64 [1]."""
        pivots = [first_argmax(keys_NC.abs().sum(-1))]
        gap_N = None
        for _ in range(1, self.config.pivots):
            from_last_N = squared_norm(keys_NC - keys_NC.index_select(0, pivots[-1]))
            gap_N = from_last_N if gap_N is None else torch.minimum(gap_N, from_last_N)
            taken_N = torch.stack([self.index_N == pivot for pivot in pivots]).any(0)
            pivots.append(farthest(gap_N, taken_N))
        return pivots

    def pairs(self, hidden_ND: Tensor, place_N: Tensor | None = None) -> Pairs:
        """How alike and how far apart the N tokens are. place_N: as `forward` has it."""
        return Pairs(self.similarity(hidden_ND), self.distances(place_N))

    def similarity(self, hidden_ND: Tensor) -> Tensor:
        """Cosine similarity over the Q channels of highest variance, and a row below any similarity. float32 [R, N]."""
        tokens, width = hidden_ND.shape
        screened_NQ = hidden_ND
        if width > self.config.channels:
            centered_ND = hidden_ND - hidden_ND.mean(0, keepdim=True)
            variance_D = (centered_ND * centered_ND).sum(0) / max(tokens - 1, 1)
            screened_NQ = hidden_ND.index_select(1, stable_order(-variance_D)[: self.config.channels])
        unit_NQ = unit_rows(screened_NQ)
        similarity_NN = matmul(unit_NQ, unit_NQ.transpose(0, 1))
        return torch.cat([similarity_NN, torch.full_like(similarity_NN[:1], BELOW_ANY_SIMILARITY)])

    def distances(self, place_N: Tensor | None) -> Tensor:
        """Grid distance of the N tokens, and a row above any distance. float32 [R, N]."""
        if place_N is None:
            return self.distance_RN
        place_R = torch.cat([place_N, torch.full_like(place_N[:1], self.distance_RN.shape[1])])
        return self.distance_RN.index_select(0, place_R).index_select(1, place_N)

    def start(self, pairs: Pairs, pivots: list[Tensor]) -> Selection:
        """The pivots are selected, and the first pass has ranked the others."""
        pivot_P = torch.cat(pivots)
        stamp_N = torch.full_like(self.index_N, -1)
        for position, pivot in enumerate(pivots):
            stamp_N = choose(self.index_N != pivot, stamp_N, position)
        nearest_N = pairs.similarity_RN.index_select(0, pivot_P).amax(0)
        distance_N = pairs.distance_RN.index_select(0, pivot_P).amin(0)
        rank_N = stable_rank(self.open_scores(stamp_N, nearest_N, distance_N))
        zero_1 = torch.zeros_like(pivots[0])
        count_1 = zero_1 + len(pivots)
        open_1 = (count_1 < self.config.num_kept).to(torch.int64)
        return Selection(stamp_N, nearest_N, distance_N, rank_N, zero_1, zero_1 + 0, count_1, open_1)

    def open_scores(self, stamp_N: Tensor, nearest_N: Tensor, distance_N: Tensor) -> Tensor:
        """BSS score r_i = m_i (1 + lambda delta_i) of unselected tokens, infinite for selected ones."""
        score_N = nearest_N * (1 + self.config.bss_weight * distance_N)
        return torch.where(stamp_N < 0, score_N, self.infinite_N)

    def next_batch(self, score_N: Tensor, state: Selection) -> tuple[Tensor, Tensor]:
        """The tokens below the threshold in the first batch that has any [N], and the rank where it ends [1].

        When no batch of the pass has any, that rank lies beyond `slots`.
        """
        threshold_1 = self.thresholds.index_select(0, state.pass_1)
        below_N = torch.logical_and(score_N < threshold_1, state.rank_N >= state.start_1)
        first_1 = torch.where(below_N, state.rank_N, self.beyond_N).amin(0, keepdim=True)
        end_1 = first_1 - first_1 % self.batch + self.batch
        return torch.logical_and(below_N, state.rank_N < end_1), end_1

    def step(self, pairs: Pairs, state: Selection) -> Selection:
        """Add the next batch if all of it fits; if there is none, start the next pass."""
        stamp_N, nearest_N, distance_N, rank_N, start_1, pass_1, count_1, open_1 = state
        score_N = self.open_scores(stamp_N, nearest_N, distance_N)
        batch_N, end_1 = self.next_batch(score_N, state)
        fits_1 = count_1 + batch_N.to(torch.int64).sum(0, keepdim=True) <= self.config.num_kept
        added_N = torch.logical_and(batch_N, fits_1)

        candidate_N = torch.where(added_N, self.index_N, self.neutral_N)
        token_B = torch.topk(candidate_N, self.batch, largest=False, sorted=True).values  # N: the neutral row
        nearest_N = torch.maximum(nearest_N, pairs.similarity_RN.index_select(0, token_B).amax(0))
        distance_N = torch.minimum(distance_N, pairs.distance_RN.index_select(0, token_B).amin(0))
        stamp_N = torch.where(added_N, (pass_1 + 1) * self.tokens + rank_N, stamp_N)
        count_1 = count_1 + added_N.to(torch.int64).sum(0, keepdim=True)

        rerank_1 = torch.logical_and(open_1 > 0, end_1 > self.slots)
        return Selection(
            stamp_N,
            nearest_N,
            distance_N,
            torch.where(rerank_1, stable_rank(score_N), rank_N),
            choose(torch.logical_not(rerank_1), torch.where(fits_1, end_1, start_1), 0),
            pass_1 + rerank_1.to(torch.int64),
            count_1,
            torch.logical_and(fits_1, count_1 < self.config.num_kept).to(torch.int64),
        )

    def repeat_steps(self, pairs: Pairs, state: Selection) -> Selection:
        """Steps until no more is needed; an unrolled graph does a fixed number of them."""
        steps = self.unrolled_steps if self.loop == "unroll" else self.max_steps
        return Selection(*repeat(lambda carry: self.step(pairs, Selection(*carry)), tuple(state), self.loop, steps))

    def finish(self, state: Selection) -> tuple[Tensor, Tensor]:
        """Of a last batch that does not fit, the lowest scores are taken. Returns stamps [N], and how many [1] beyond.

        Beyond that, the lowest scores of all are taken where an unrolled graph had too few steps.
        """
        score_N = self.open_scores(state.stamp_N, state.nearest_N, state.distance_N)
        batch_N, _ = self.next_batch(score_N, state)
        missing_1 = self.config.num_kept - state.count_1
        rank_N = stable_rank(score_N)
        place_N = stable_rank(torch.where(batch_N, rank_N, rank_N + self.tokens))
        added_N = torch.logical_and(place_N < missing_1, state.stamp_N < 0)
        last_pass = (len(self.thresholds) + 1) * self.tokens
        stamp_N = torch.where(added_N, last_pass + place_N, state.stamp_N)
        in_batch_1 = batch_N.to(torch.int64).sum(0, keepdim=True)
        return stamp_N, torch.maximum(missing_1 - in_batch_1, torch.zeros_like(missing_1))

    def kept(self, stamp_N: Tensor) -> tuple[Tensor, Tensor]:
        """Selected indices ascending, and in the order of selection. Both int64 [S]."""
        # Unselected tokens sort behind all others.
        last_N = self.index_N + (len(self.thresholds) + 2) * self.tokens
        ascending_N = torch.where(stamp_N >= 0, self.index_N, last_N)
        selection_N = torch.where(stamp_N >= 0, stamp_N, last_N)
        kept_S = torch.topk(ascending_N, self.config.num_kept, largest=False, sorted=True).values
        order_S = torch.topk(selection_N, self.config.num_kept, largest=False, sorted=True).indices
        return kept_S, order_S

    def fuse(self, hidden_ND: Tensor, similarity_NN: Tensor, kept_S: Tensor, stamp_N: Tensor) -> Tensor:
        """Similarity-weighted aggregation: each discarded token goes into the kept one that it is most similar to.

        H_j <- beta H_j + (1 - beta) sum_u M_uj H_u / max(sum_u M_uj, 1e-8) where sum_u M_uj > 0. float32 [S, D].
        """
        similarity_SN = similarity_NN.index_select(0, kept_S)
        home_N = torch.argmax(similarity_SN, dim=0)
        joins_SN = torch.logical_and(self.index_N[: self.config.num_kept].unsqueeze(1) == home_N, stamp_N < 0)
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
    # In float32, some processors' square roots are off in the last bit here and there: equal distances would differ.
    return squared_NN.double().sqrt().float() / math.sqrt(height**2 + width**2)


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
