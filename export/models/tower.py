"""A stage inside a vision tower: which visual tokens go on through its later blocks, and what becomes of the others.

Inside the tower a visual token is a group of patches, and a group stays whole. Dims: N groups of the grid, S kept,
M patches, m side of the square of the P = m^2 patches of a group, E vision width, W = P E of a whole group, H heads,
d head size.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from vlmp.export.geometry import TowerCut
from vlmp.export.models.layers import MASKED, RowAttention, patch_heads
from vlmp.pruner import Pruner
from vlmp.pruner.ops import matmul
from vlmp.pruner.weighing import shares, tokens_stood_for


class Chosen(NamedTuple):
    """What a stage has found. Groups are numbered by rows of the grid, whatever order the tower had them in.

    kept_S int64, ascending. state_NW: all groups as they came. share_NS float32: how each is divided among the kept
    ones, of which each has all of itself; None where the others are dropped. bias_S: what is added to the scores of the
    keys of each kept group, None for nothing.
    """

    kept_S: Tensor
    state_NW: Tensor
    share_NS: Tensor | None
    bias_S: Tensor | None


class TowerStage(nn.Module):
    """Chooses groups before a block, and brings the others back after the last one where they are `rebuilt`.

    A dropped group then is its state at the stage and a mean of how the kept ones have changed since, by how much it is
    like each (the division of `weighing.py`). IPCV (arXiv 2512.18747), whose idea it is, takes the ten nearest alike;
    there a rounding error could turn one for another. On vlmp-tiny both answer as well. Handing out means of what the
    connector makes of kept groups would be cheaper, but loses counts.
    Kept groups keep their own patches: a method that fuses discarded tokens into them (VLM-Pruner) does not here.
    """

    by_rows_N: Tensor
    window_N: Tensor
    index_N: Tensor

    def __init__(self, pruner: Pruner, cut: TowerCut, heads: int, merge: int, *, class_token: bool) -> None:
        super().__init__()
        self.pruner, self.cut, self.heads, self.patches, self.class_token = pruner, cut, heads, merge**2, class_token
        self.row_attention = RowAttention()
        self.windowed = False
        self.register_buffer("index_N", torch.arange(pruner.tokens), persistent=False)

    def bake(self, by_rows_N: Tensor, window_N: Tensor) -> None:
        """Of a tower with windows. by_rows_N int64: where each group stands among them; window_N int64: in which."""
        self.windowed = True
        self.register_buffer("by_rows_N", by_rows_N, persistent=False)
        self.register_buffer("window_N", window_N, persistent=False)

    def forward(self, hidden_ME: Tensor, qkv_ME: Tensor | None, rope: tuple[Tensor, Tensor] | None) -> Chosen:
        """Patches that come to the stage, and what the block before projected, None before the first -> Chosen."""
        if self.class_token:
            hidden_ME = hidden_ME[:-1]
        state_NW = self.grouped(hidden_ME)
        patches_NPE = state_NW.reshape(self.pruner.tokens, self.patches, -1)
        group_NE = patches_NPE.mean(1)
        keys_NE = attention_N = None
        if qkv_ME is not None and self.pruner.needs:
            query_HMd, key_HMd, _ = patch_heads(qkv_ME, self.heads, rope)
            keys_NE = self.mean_of_patches(self.without_class(key_HMd.permute(1, 0, 2).flatten(1)))
            if "attention" in self.pruner.needs:
                # The class token, which stands last, looks at the picture as a whole.
                asks_HQd = query_HMd[:, -1:] if self.class_token else query_HMd
                nothing_1M = torch.zeros_like(key_HMd[0, :, 0]).unsqueeze(0)
                share_M = self.row_attention(asks_HQd, key_HMd, nothing_1M)
                attention_N = self.mean_of_patches(self.without_class(share_M.unsqueeze(1)))[:, 0]
        closer = {"patches_NPD": patches_NPE} if self.pruner.takes_patches else {}
        kept_S = self.pruner(group_NE, keys_NE, attention_N, None, **closer).kept_S
        share_NS = bias_S = None
        if self.cut.form == "rebuilt":
            own_NS = (self.index_N.unsqueeze(1) == kept_S).float()
            dropped_N1 = 1 - own_NS.sum(1, keepdim=True)
            share_NS = own_NS + dropped_N1 * shares(group_NE, kept_S)
        if self.cut.weighs:
            bias_S = tokens_stood_for(group_NE, kept_S, None).to(hidden_ME.dtype)
        return Chosen(kept_S, state_NW, share_NS, bias_S)

    def grouped(self, patch_ME: Tensor) -> Tensor:
        """Patches in the tower's order, no class token -> groups by rows [N, W]; also rows of rotary tables."""
        group_NW = patch_ME.reshape(self.pruner.tokens, -1)
        return group_NW.index_select(0, self.by_rows_N) if self.windowed else group_NW

    def mean_of_patches(self, patch_ME: Tensor) -> Tensor:
        """Patches in the tower's order -> the mean of each group [N, E]."""
        return self.grouped(patch_ME).reshape(self.pruner.tokens, self.patches, -1).mean(1)

    def without_class(self, row_ME: Tensor) -> Tensor:
        """The rows of patches alone."""
        return row_ME[:-1] if self.class_token else row_ME

    def left(self, chosen: Chosen, hidden_ME: Tensor) -> Tensor:
        """The patches of kept groups, by rows of the grid, and the class token where there is one."""
        left_PE = chosen.state_NW.index_select(0, chosen.kept_S).reshape(-1, hidden_ME.shape[1])
        return torch.cat([left_PE, hidden_ME[-1:]]) if self.class_token else left_PE

    def rows_left(self, chosen: Chosen, table_Md: Tensor) -> Tensor:
        """The rows of a rotary table for the patches that are left."""
        return self.grouped(table_Md).index_select(0, chosen.kept_S).reshape(-1, table_Md.shape[1])

    def masks(self, chosen: Chosen, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """What is added to scores in blocks where all patches see each other, and in those with windows."""
        bias_1P = None
        if chosen.bias_S is not None:
            bias_1P = self.each_patch(chosen.bias_S).unsqueeze(0)
            if self.class_token:
                bias_1P = torch.cat([bias_1P, torch.zeros_like(bias_1P[:, :1])], 1)
        if not self.windowed:
            return bias_1P, None
        window_P = self.each_patch(self.window_N.index_select(0, chosen.kept_S))
        mask_PP = (window_P.unsqueeze(1) != window_P).to(dtype) * MASKED
        return bias_1P, mask_PP if bias_1P is None else mask_PP + bias_1P

    def each_patch(self, group_S: Tensor) -> Tensor:
        """A value of each group, for each of its patches."""
        return group_S.unsqueeze(1).expand(-1, self.patches).reshape(-1)

    def back(self, chosen: Chosen, hidden_PE: Tensor) -> Tensor:
        """The patches that visual tokens are made of: of kept groups, or of all where the others are rebuilt."""
        hidden_PE = self.without_class(hidden_PE)
        if chosen.share_NS is None:
            return hidden_PE
        after_SW = hidden_PE.reshape(-1, chosen.state_NW.shape[1])
        change_SW = after_SW - chosen.state_NW.index_select(0, chosen.kept_S)
        rebuilt_NW = chosen.state_NW + matmul(chosen.share_NS.to(change_SW.dtype), change_SW)
        return rebuilt_NW.reshape(-1, hidden_PE.shape[1])

    def taken(self, chosen: Chosen, feature_ND: Tensor) -> Tensor:
        """Of what branched off before the stage, what goes with the visual tokens that are handed over."""
        return feature_ND if chosen.share_NS is not None else feature_ND.index_select(0, chosen.kept_S)
