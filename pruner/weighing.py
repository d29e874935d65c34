"""What a kept token counts for in attention once others are gone: as much as those that it stands for.

A softmax over fewer keys gives each of them more, so whatever a model reads off the share that things have of all that
it sees, as in counting, comes out too high. Token merging for vision transformers has the same trouble, and adds the
logarithm of a merged token's size to its scores (ToMe, arXiv 2210.09461, "proportional attention"). Here nothing is
merged: every token, kept or not, is divided among the kept ones by how much it is like each. The rule is ours.

Dims: N tokens that come to a stage, S that are kept, D hidden size.
"""

import torch
from torch import Tensor
from vlmp.pruner.ops import matmul, unit_rows

TEMPERATURE = 0.05
"""Of the division. A lower one tends to the most alike token, whose choice could turn on a rounding error."""


def tokens_stood_for(hidden_ND: Tensor, kept_S: Tensor, tokens_N: Tensor | None) -> Tensor:
    """How many visual tokens each kept one stands for, as a logarithm: what is added to the scores of its key.

    hidden_ND: hidden states that come to the stage, any float dtype. kept_S int64. tokens_N: what this function gave
    for the stage before, None where each of the N stands for itself. Returns float32 [S]; of their exponentials the sum
    is that of the stage before, or N.
    """
    share_NS = shares(hidden_ND, kept_S)
    if tokens_N is not None:
        share_NS = share_NS * tokens_N.exp().unsqueeze(1)
    return share_NS.sum(0).log()


def shares(hidden_ND: Tensor, kept_S: Tensor) -> Tensor:
    """How each token is divided among the kept ones. float32 [N, S], the sum of each row is 1. As above."""
    unit_ND = unit_rows(hidden_ND.float())
    alike_NS = matmul(unit_ND, unit_ND.index_select(0, kept_S).transpose(0, 1))
    return torch.softmax(alike_NS / TEMPERATURE, -1)
