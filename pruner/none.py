"""Keep every visual token: the unpruned export, along the same path as the pruned one."""

import torch
from torch import Tensor, nn

from .interface import Loop, PrunerConfig, PruneResult, check_fits


class KeepAll(nn.Module):
    """Keeps all N tokens in their order, hidden states untouched. Raises ValueError when `keep` is not N."""

    exact = True

    def __init__(self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while") -> None:
        super().__init__()
        tokens = check_fits(grid, config)
        if config.keep != tokens:
            raise ValueError(f"keep={config.keep}: method 'none' keeps all {tokens} visual tokens")
        self.register_buffer("index_N", torch.arange(tokens), persistent=False)

    def forward(self, hidden_ND: Tensor, keys_NC: Tensor) -> PruneResult:
        """hidden_ND any float dtype, keys_NC unused. Returns PruneResult with S = N."""
        kept_S = self.index_N.clone()
        return PruneResult(kept_S, hidden_ND, self.index_N.clone(), torch.zeros_like(kept_S[:1]))
