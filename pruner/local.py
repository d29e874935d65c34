"""The visual tokens that are least like what is around them: edges, things and their parts rather than surfaces."""

import torch
from torch import Tensor
from vlmp.pruner.interface import Loop, Pruner, PrunerConfig, PruneResult
from vlmp.pruner.ops import matmul, stable_order, unit_rows


class KeepLocal(Pruner):
    """Keeps the S tokens least like the mean of their neighbours; hidden states untouched.

    Neighbours are the tokens on the eight places around a token's own; likeness is the cosine of hidden states, in
    float32, ties by lower index. A token without neighbours counts as neither like them nor unlike. The rule is ours:
    it needs no loop, and in vlmp-tiny's vision tower it loses no more than those made for the language model.
    """

    beside_NN: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        self.register_buffer("beside_NN", neighbours(grid), persistent=False)

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND any float dtype, keys and attention unused. Returns PruneResult, the least alike token first."""
        hidden_f32_ND = hidden_ND.float()
        # A sum has the direction of the mean.
        around_ND = matmul(self.beside(place_N), hidden_f32_ND)
        likeness_N = (unit_rows(hidden_f32_ND) * unit_rows(around_ND)).sum(-1)
        return self.unfused(hidden_ND, stable_order(likeness_N)[: self.config.num_kept])

    def beside(self, place_N: Tensor | None) -> Tensor:
        """Which of the tokens at these places of the grid (None: all of it) touch. float32 [N, N]."""
        if place_N is None:
            return self.beside_NN
        return self.beside_NN.index_select(0, place_N).index_select(1, place_N)


def neighbours(grid: tuple[int, int]) -> Tensor:
    """1 where two places touch, also at a corner, 0 elsewhere. float32 [N, N]."""
    index_N = torch.arange(grid[0] * grid[1])
    row_N, column_N = index_N // grid[1], index_N % grid[1]
    apart_NN = torch.maximum((row_N.unsqueeze(1) - row_N).abs(), (column_N.unsqueeze(1) - column_N).abs())
    return (apart_NN == 1).float()
