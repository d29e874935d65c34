"""A random set of visual tokens: a baseline that UniPruneBench (arXiv 2511.02650) finds hard to beat."""

from random import Random
from typing import ClassVar

import torch
from torch import Tensor
from vlmp.pruner.interface import Loop, Pruner, PrunerConfig, PruneResult


class KeepRandom(Pruner):
    """Keeps S tokens that were drawn without looking at the image; hidden states untouched.

    The set is drawn once from `seed` and baked into the graph as a constant, so that an export keeps the same places of
    every image: a table of accuracies must average over seeds. The draw depends on `seed` and the number of tokens
    only, neither on torch's generators nor on its version, and a larger S keeps the same tokens and some more.
    """

    settings: ClassVar[tuple[str, ...]] = ("seed",)
    order_S: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        # Of the standard generator only `random()` is promised to stay the same; shuffling by it stays so too.
        draw = Random(config.seed)
        lots = [draw.random() for _ in range(self.tokens)]
        order = sorted(range(self.tokens), key=lots.__getitem__)
        self.register_buffer("order_S", torch.tensor(order[: config.num_kept]), persistent=False)

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND any float dtype, the others unused. Returns PruneResult in the order of drawing."""
        return self.unfused(hidden_ND, self.order_S.clone())
