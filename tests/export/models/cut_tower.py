"""transformers' own vision towers, cut between their blocks: what a stage in the tower must come to.

Nothing leaves their tower: patches of dropped groups stay in it, and no other patch sees them, which comes to the same.
Written group by group, in loops. Dims: N groups, S kept, M patches, m patches in each, E width, H heads, d head size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from reference import Original, log_weights
from torch import Tensor
from transformers.vision_utils import get_vision_window_index


class CutTower:
    """One picture through transformers' tower, of which from block `block` on the groups `kept` are left."""

    def __init__(self, original: Original, block: int, inputs: dict[str, Tensor]) -> None:
        self.original, self.block, self.inputs = original, block, inputs
        model = original.model.model
        llava = hasattr(model, "multi_modal_projector")
        tower = model.vision_tower if llava else model.visual
        self.blocks = getattr(tower, "vision_model", tower).encoder.layers if llava else tower.blocks
        self.connectors = [model.multi_modal_projector] if llava else [tower.merger]
        self.connectors += list(getattr(tower, "deepstack_merger_list", []))
        self.first = int(llava)  # rows before the patches
        self.patches = 1 if llava else 4
        self.groups = int(original.is_visual(inputs).sum())
        self.order = torch.arange(self.groups)
        """Numbers of the groups in the tower's order."""
        if hasattr(tower, "window_size"):
            sizes = tower.spatial_merge_size, tower.window_size, tower.patch_size
            self.order = get_vision_window_index(inputs["image_grid_thw"], *sizes)[0]
        self.state = self.query = self.key = torch.zeros(0)
        self.added_M = torch.zeros(0)
        self.kept = torch.zeros(0, dtype=torch.int64)
        self.form = ""

    @torch.no_grad()
    def looked_at(self) -> tuple[Tensor, Tensor, Tensor]:
        """What comes to the stage: of each group hidden state [N, E], keys [N, H d] and attention received [N]."""
        with self._watched():
            self.original.seen(self.inputs)
        share_M = torch.softmax(self.query @ self.key.transpose(-1, -2) * self.query.shape[-1] ** -0.5, -1)[0].mean(0)
        share_M = share_M[0] if self.first else share_M.mean(0)
        keys_MC = self.key[0].permute(1, 0, 2).flatten(1)
        return self._means(self.state), self._means(keys_MC), self._means(share_M[:, None])[:, 0]

    @torch.no_grad()
    def patches_at(self) -> Tensor:
        """What comes to the stage, patch by patch: [N, m, E]."""
        with self._watched():
            self.original.seen(self.inputs)
        return self._grouped(self.state)

    @torch.no_grad()
    def seen(self, kept: Tensor, form: str, *, weigh: bool) -> tuple[Tensor, Tensor]:
        """Visual tokens and their features [N or S, D (1 + n)], and what is added to scores of each kept group [S]."""
        hidden_NE, _, _ = self.looked_at()
        log_S = log_weights(hidden_NE, kept, torch.zeros(self.groups)) if weigh else torch.zeros(len(kept))
        added_N = torch.full((self.groups,), -torch.inf)
        added_N[kept] = log_S
        self.added_M = torch.cat([torch.zeros(self.first), added_N[self.order].repeat_interleave(self.patches)])
        self.kept, self.form = kept, form
        with self._watched():
            tokens, features = self.original.seen(self.inputs)
        self.added_M = torch.zeros(0)
        whole_ND = torch.cat([tokens, *features], 1)
        return (whole_ND if form == "rebuilt" else whole_ND[kept]), log_S

    def _grouped(self, row_ME: Tensor) -> Tensor:
        """Rows of the tower's patches -> [N, m, E] by rows of the grid."""
        rows = row_ME.reshape(-1, row_ME.shape[-1])[self.first :]
        return rows.reshape(self.groups, self.patches, -1)[self.order.argsort()]

    def _means(self, row_ME: Tensor) -> Tensor:
        return self._grouped(row_ME).mean(1)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """transformers' modules, with what is added to scores from the cut on, and dropped groups brought back."""

        def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, *mask: Any, **named: Any) -> Any:
            number = self.numbers.get(id(module))
            if number is None:
                return plain(module, query, key, value, *mask, **named)
            if number == self.block - 1:
                self.query, self.key = query, key
            score = query @ key.transpose(-1, -2) * named["scaling"]
            if number >= self.block and len(self.added_M):
                # A block with windows comes here window by window.
                first = self.passed.get(number, 0) % len(self.added_M)
                score = score + self.added_M[first : first + key.shape[2]].clamp(min=-1e30)
                self.passed[number] = first + key.shape[2]
            share = torch.softmax(score, -1)
            return (share @ value).transpose(1, 2), share

        attentions = [getattr(block, "attn", None) or block.self_attn for block in self.blocks]
        self.numbers = {id(module): number for number, module in enumerate(attentions)}
        self.passed: dict[int, int] = {}
        owner = sys.modules[type(attentions[0]).__module__]
        plain = owner.eager_attention_forward
        hooks = [self.blocks[self.block].register_forward_pre_hook(self._note, with_kwargs=True)]
        if len(self.added_M) and self.form == "rebuilt":
            hooks += [one.register_forward_pre_hook(self._rebuild) for one in self.connectors]
        self.reached = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, "eager_attention_forward", attention)
            yield
        for hook in hooks:
            hook.remove()

    def _note(self, _module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.state = given[0] if given else named["hidden_states"]
        self.reached = True

    def _rebuild(self, _module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Before a connector: a dropped group is its state at the cut, and the change of those that it is like."""
        if not self.reached:
            return given
        before, after = self._grouped(self.state).double(), given[0].reshape(-1, given[0].shape[-1]).double()
        after = after.reshape(self.groups, self.patches, -1)[self.order.argsort()]
        change = after[self.kept] - before[self.kept]
        mean_NE = before.mean(1)
        for group in set(range(self.groups)) - set(self.kept.tolist()):
            pull_S = torch.stack([torch.cosine_similarity(mean_NE[group], mean_NE[one], 0) for one in self.kept])
            share_S = pull_S.mul(20).softmax(0)
            after[group] = before[group] + torch.einsum("s,sme->me", share_S, change)
        return (after[self.order].reshape(given[0].shape).float(),)
