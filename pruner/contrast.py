"""The visual tokens whose patches stand out of what is around them: no block has to have looked at the picture yet."""

from typing import ClassVar

import torch
from torch import Tensor
from vlmp.pruner.interface import PruneResult
from vlmp.pruner.local import KeepLocal
from vlmp.pruner.ops import matmul, stable_order


class KeepContrast(KeepLocal):
    """Keeps the S tokens whose patches are farthest from the mean of the neighbouring tokens; hidden states untouched.

    Farthest: by the mean of the squared distances, in float32, ties by lower index. It is the spread of the patches
    within a token and the distance of the token from what is around it, added up: E|p - a|^2 = E|p - m|^2 + |m - a|^2.
    Outside of a vision tower, and where a token is one patch, only the second is left. The rule is ours, made for the
    place before the first block (`vision.0`), where patches are their pixels, projected, and what stands for places.
    """

    takes_patches: ClassVar[bool] = True

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
        patches_NPD: Tensor | None = None,
    ) -> PruneResult:
        """hidden_ND any float dtype, keys and attention unused. patches_NPD: the P patches of each token, of which
        hidden_ND are the means; None: a token is one. Returns PruneResult, the token that stands out most first."""
        hidden_f32_ND, beside_NN = hidden_ND.float(), self.beside(place_N)
        patches_f32_NPD = hidden_f32_ND.unsqueeze(1) if patches_NPD is None else patches_NPD.float()
        # All times the count of neighbours, and divided last: ties of whole numbers stay ties, on every runtime.
        count_N1 = beside_NN.sum(1, keepdim=True).clamp(min=1)
        apart_NPD = patches_f32_NPD * count_N1.unsqueeze(1) - matmul(beside_NN, hidden_f32_ND).unsqueeze(1)
        apart_N = torch.square(apart_NPD).mean((1, 2)) / torch.square(count_N1).squeeze(1)
        return self.unfused(hidden_ND, stable_order(-apart_N)[: self.config.num_kept])
