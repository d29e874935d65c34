"""DivPrune (arXiv 2503.02175): the visual tokens that are most unlike each other, chosen before the language model.

Dims: N visual tokens, D hidden size, S kept.
"""

from typing import ClassVar

import torch
from torch import Tensor
from vlmp.pruner.interface import Loop, Pruner, PrunerConfig, PruneResult
from vlmp.pruner.loops import State, repeat
from vlmp.pruner.ops import choose, farthest, first_argmax, matmul, unit_rows

ABOVE_ANY_DISTANCE = 4.0


class DivPrune(Pruner):
    """Keeps S tokens by max-min diversity; hidden states untouched, float32, ties by lower index.

    Distance is 1 - cosine similarity of hidden states. As in the authors' code, the first token is the one whose
    nearest neighbour is farthest, and each next one is that whose nearest chosen token is farthest. Their code can
    choose a token twice where all others are duplicates of chosen ones, and so keep fewer; this never does. As in the
    paper, the default place is before the first decoder layer; `needs` nothing else, so that any other will do.
    """

    place: ClassVar[int | None] = 0
    index_N: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        self.register_buffer("index_N", torch.arange(self.tokens), persistent=False)

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND any float dtype, the others unused. Returns PruneResult."""
        unit_ND = unit_rows(hidden_ND.float())
        distance_NN = 1 - matmul(unit_ND, unit_ND.transpose(0, 1))
        rank_N, *_ = repeat(
            lambda state: self.step(distance_NN, state), self.start(distance_NN), self.loop, self.config.num_kept - 1
        )
        order_S = torch.topk(rank_N, self.config.num_kept, largest=False, sorted=True).indices
        return self.unfused(hidden_ND, order_S)

    def start(self, distance_NN: Tensor) -> State:
        """The first token is chosen.

        State: rank_N int64, when a token was chosen, N while it is not; gap_N float32, distance to the nearest chosen
        token; missing_1 int64, how many are still to be chosen.
        """
        apart_NN = self.index_N.unsqueeze(1) != self.index_N
        first_1 = first_argmax(choose(apart_NN, distance_NN, ABOVE_ANY_DISTANCE).amin(1))
        rank_N = (self.index_N != first_1).to(torch.int64) * self.tokens
        gap_N = distance_NN.index_select(0, first_1).amin(0)
        return rank_N, gap_N, torch.zeros_like(first_1) + (self.config.num_kept - 1)

    def step(self, distance_NN: Tensor, state: State) -> State:
        """Choose the token farthest from all chosen ones."""
        rank_N, gap_N, missing_1 = state
        next_1 = farthest(gap_N, rank_N < self.tokens)
        rank_N = torch.where(self.index_N == next_1, self.config.num_kept - missing_1, rank_N)
        gap_N = torch.minimum(gap_N, distance_NN.index_select(0, next_1).amin(0))
        return rank_N, gap_N, missing_1 - 1
