"""The vision tower on a batch, and linear readers of its visual tokens.

Dims: B batch, N visual tokens, M = 4 N patches, E vision width, D hidden size, d head size.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration as Qwen2VL
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from vlmp.evaluation.scenes.labels import NOTHING, SIZES


def visual_tokens(model: Qwen2VL, image_B3HW: Tensor) -> Tensor:
    """Visual tokens [B, N, D] of uint8 pictures, by the weights of the model's own vision tower.

    transformers runs one picture after the other and normalises on the host; this is the same function on a batch.
    """
    tower = model.model.visual
    batch, side = image_B3HW.shape[0], image_B3HW.shape[-1] // 14
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    pixels = (image_B3HW.float() / 255 - mean) / std
    hidden_BEhw = F.conv2d(pixels, tower.patch_embed.proj.weight.sum(2), stride=14)
    hidden_BME = merge_order(hidden_BEhw.permute(0, 2, 3, 1)).flatten(1, 2)
    heads = tower.blocks[0].attn.num_heads
    cos_Md, sin_Md = rotary_tables(side, hidden_BME.shape[-1] // heads)
    for block in tower.blocks:
        qkv = block.attn.qkv(block.norm1(hidden_BME)).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = rotate(qkv[0], cos_Md, sin_Md), rotate(qkv[1], cos_Md, sin_Md)
        mixed = F.scaled_dot_product_attention(query, key, qkv[2]).transpose(1, 2).flatten(2)
        hidden_BME = hidden_BME + block.attn.proj(mixed)
        hidden_BME = hidden_BME + block.mlp(block.norm2(hidden_BME))
    merger = tower.merger
    return merger.mlp(merger.ln_q(hidden_BME).reshape(batch, side * side // 4, -1))


def deepen(model: Qwen2VL, times: int) -> None:
    """Make the vision tower `times` as deep without changing what it computes.

    Each block is followed by copies whose output projections are zero: they say nothing until they are trained.
    """
    tower = model.model.visual
    blocks: list[nn.Module] = []
    for block in tower.blocks:
        blocks.append(block)
        for _ in range(times - 1):
            silent = copy.deepcopy(block)
            for parameter in (*silent.attn.proj.parameters(), *silent.mlp.fc2.parameters()):
                nn.init.zeros_(parameter)
            blocks.append(silent)
    tower.blocks = nn.ModuleList(blocks)
    model.config.vision_config.depth = len(blocks)


def merge_order(patches_BhwE: Tensor) -> Tensor:
    """[B, h, w, E] -> [B, N, 4, E]: the four patches of a merged token stand together."""
    batch, rows, columns, width = patches_BhwE.shape
    blocks = patches_BhwE.reshape(batch, rows // 2, 2, columns // 2, 2, width)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, 4, width)


def rotary_tables(side: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin [M, d] of the tower's two-dimensional rotary embedding, in merge order."""
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).float()
    place_M2 = merge_order(grid[None]).reshape(-1, 2)
    frequency = 1.0 / 10000.0 ** (torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
    angle_Md = (place_M2[:, :, None] * frequency).flatten(1).repeat(1, 2)
    return angle_Md.cos(), angle_Md.sin()


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [..., M, d]."""
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin


class Heads(nn.Module):
    """Linear readers of visual tokens, one for each kind of label; their rows later start the word embeddings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rows = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(size, width) * 0.1) for name, size in SIZES.items()}
        )

    def forward(self, visual_BND: Tensor) -> dict[str, Tensor]:
        """Logits [B, N, classes] by label; the length of a visual token does not count."""
        unit = F.rms_norm(visual_BND, visual_BND.shape[-1:])
        return {name: unit @ rows.T for name, rows in self.rows.items()}


def label_losses(logits: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
    """Sum over the kinds of label of their mean cross entropy, in which a token that shows nothing counts a quarter."""
    weights = {name: torch.ones(size) for name, size in SIZES.items()}
    for name, nothing in (("object", -1), ("left", -1), ("above", -1), ("centre", 0)):
        weights[name][nothing] = 0.25
    losses = [
        F.cross_entropy(logits[name].flatten(0, 1), labels[name].flatten(), weights[name], ignore_index=NOTHING)
        for name in logits
        if bool((labels[name] != NOTHING).any())
    ]
    return torch.stack(losses).sum()
