"""FastV (arXiv 2403.06764): the visual tokens that layer K-1 attends to most."""

from typing import ClassVar

from torch import Tensor
from vlmp.pruner.interface import Need, Pruner, PruneResult, needed
from vlmp.pruner.ops import stable_order


class FastV(Pruner):
    """Keeps the S tokens that receive most attention; hidden states untouched, ties by lower index.

    As in the authors' code, attention is that of the prompt's last token in layer K-1, averaged over heads, and text is
    never pruned. The paper's text ranks by the average attention received from all tokens instead. As in the authors'
    variant with a KV cache, tokens are chosen once, in prefill; their first version chooses again at every step.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"attention"})

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND, attention_N any float dtype, keys_NC unused. Returns PruneResult, most attended token first."""
        attention_f32_N = needed(attention_N, "attention_N").float()
        return self.unfused(hidden_ND, stable_order(-attention_f32_N)[: self.config.num_kept])
