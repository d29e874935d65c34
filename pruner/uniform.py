"""Visual tokens at even distances on the grid: what a smaller image would keep."""

import torch
from torch import Tensor
from vlmp.pruner.interface import Loop, Pruner, PrunerConfig, PruneResult


class KeepUniform(Pruner):
    """Keeps S tokens spread evenly over the grid, whatever the image; hidden states untouched.

    The set is baked into the graph as a constant, see `even_places`. Of what an earlier stage has left, it keeps tokens
    at even distances in their row-major order.
    """

    order_S: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        whole = self.tokens == grid[0] * grid[1]
        order = even_places(grid, config.num_kept) if whole else middles(self.tokens, config.num_kept)
        self.register_buffer("order_S", torch.tensor(order), persistent=False)

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND any float dtype, the others unused. Returns PruneResult, row after row."""
        return self.unfused(hidden_ND, self.order_S.clone())


def even_places(grid: tuple[int, int], count: int) -> list[int]:
    """`count` distinct places of the grid, row major and ascending; count from 1 to h * w.

    Places stand on the R rows that make them about as far apart down as across, R = sqrt(count * h / w) rounded. Rows
    have equally many places, or one more, and in each dimension a chosen line is the middle one of as many equal bands
    as lines are chosen, so that neighbours are equally far apart, or one more.
    """
    height, width = grid
    # No more rows than there are, or than places to stand on them; no fewer than hold all places.
    rows = min(max(round((count * height / width) ** 0.5), -(-count // width), 1), height, count)
    share = [(row + 1) * count // rows - row * count // rows for row in range(rows)]
    return [
        y * width + x for y, places in zip(middles(height, rows), share, strict=True) for x in middles(width, places)
    ]


def middles(length: int, count: int) -> list[int]:
    """The middle cell of each of `count` equal bands of a line of `length` cells."""
    return [(2 * band + 1) * length // (2 * count) for band in range(count)]
