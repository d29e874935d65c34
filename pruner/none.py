"""Keep every visual token: the unpruned export, along the same path as the pruned one."""

import torch
from torch import Tensor
from vlmp.pruner.interface import Loop, Pruner, PrunerConfig, PruneResult


class KeepAll(Pruner):
    """Keeps all N tokens in their order, hidden states untouched. Raises ValueError when `num_kept` is not N."""

    index_N: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        if config.num_kept != self.tokens:
            raise ValueError(f"num_kept={config.num_kept}: method 'none' keeps all {self.tokens} visual tokens")
        self.register_buffer("index_N", torch.arange(self.tokens), persistent=False)

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND any float dtype, the others unused. Returns PruneResult with S = N."""
        kept_S = self.index_N.clone()
        return PruneResult(kept_S, hidden_ND, self.index_N.clone(), torch.zeros_like(kept_S[:1]))
