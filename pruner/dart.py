"""DART (arXiv 2502.11494): a few pivots, and the visual tokens that duplicate them least.

Dims: N visual tokens, D hidden size, C key width, P pivots, S kept.
"""

from typing import ClassVar

import torch
from torch import Tensor
from vlmp.pruner.interface import Loop, Need, Pruner, PrunerConfig, PruneResult, needed
from vlmp.pruner.ops import choose, matmul, stable_order, unit_rows

ABOVE_ANY_SIMILARITY = 2.0


class Dart(Pruner):
    """Keeps P pivots and the tokens least similar to each; hidden states untouched, float32, ties by lower index.

    As in the authors' code: pivots are the tokens whose keys in layer K-1 have the largest L1 norm; then, pivot after
    pivot, equally many of the tokens still free join that have the lowest cosine similarity to it.

    Different from it: (1) All pivots are visual tokens. The code has as many text tokens as further pivots (4 and 4),
    which bring along half of its tokens, those least similar to words of the prompt. (2) Similarity is of the hidden
    states behind layer K-1 as they are; the code puts them through the model's last norm first. (3) Exactly S are kept:
    where S - P does not divide by P, the first pivots take one more; the code rounds down. (4) Pivots take turns by
    falling norm; in the code the order is that of a set.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"keys"})
    settings: ClassVar[tuple[str, ...]] = ("pivots",)
    index_N: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        self.register_buffer("index_N", torch.arange(self.tokens), persistent=False)

    @property
    def quotas(self) -> list[int]:
        """How many tokens each pivot brings along."""
        each, rest = divmod(self.config.num_kept - self.config.pivots, self.config.pivots)
        return [each + (turn < rest) for turn in range(self.config.pivots)]

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND, keys_NC any float dtype, attention_N unused. Returns PruneResult: pivots, then turn by turn."""
        norm_N = needed(keys_NC, "keys_NC").float().abs().sum(-1)
        pivot_P = stable_order(-norm_N)[: self.config.pivots]
        unit_ND = unit_rows(hidden_ND.float())
        similarity_PN = matmul(unit_ND.index_select(0, pivot_P), unit_ND.transpose(0, 1))
        chosen = [pivot_P]
        free_N = self.without(self.index_N >= 0, pivot_P)
        for turn, quota in enumerate(self.quotas):
            if quota > 0:
                order_N = stable_order(choose(free_N, similarity_PN[turn], ABOVE_ANY_SIMILARITY))
                chosen.append(order_N[:quota])
                free_N = self.without(free_N, chosen[-1])
        return self.unfused(hidden_ND, torch.cat(chosen))

    def without(self, free_N: Tensor, token_Q: Tensor) -> Tensor:
        """free_N, bool, less the Q given tokens."""
        return torch.logical_and(free_N, torch.logical_not((token_Q.unsqueeze(1) == self.index_N).any(0)))
