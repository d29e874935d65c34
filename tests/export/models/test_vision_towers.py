"""A vision tower and a connector by their specs equal transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Idefics3Config, InternVLConfig, SiglipVisionConfig, SiglipVisionModel
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionTransformer
from vlmp.export.models.connector import Connector, in_merge_order
from vlmp.export.models.loading import Names
from vlmp.export.models.names import CLIP_BLOCKS
from vlmp.export.models.spec import ConnectorSpec, VisionSpec
from vlmp.export.models.vision import Vision, buckets, vision_transforms
from vlmp.export.pixels import Normalisation

PIXELS = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), rescale=1 / 255)
BLOCK = {"norm1": "norm1", "norm2": "norm2", "qkv": "attn.qkv", "proj": "attn.proj"}
QWEN: Names = {"patch": "patch_embed.proj", **{f"blocks.{{}}.{a}": f"blocks.{{}}.{b}" for a, b in BLOCK.items()}}


def picture(grid: tuple[int, int], unit: int) -> tuple[Tensor, Tensor]:
    """An image [1, 3, h, w] in 0..255, and the same normalised."""
    noise = torch.Generator().manual_seed(3)
    image = torch.randint(0, 256, (1, 3, grid[0] * unit, grid[1] * unit), generator=noise).float()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXELS.mean, PIXELS.std))
    return image, (image / 255 - mean) / std


def in_patches(pixels: Tensor, patch: int) -> Tensor:
    """As Qwen's image processors hand them over: [M, 3 * 2 * patch * patch], two equal frames, in 2x2 order."""
    planes = pixels[0].unfold(1, patch, patch).unfold(2, patch, patch).permute(1, 2, 0, 3, 4)
    order = in_merge_order(torch.arange(planes.shape[0] * planes.shape[1]).reshape(planes.shape[:2]), 2)
    frames = planes.flatten(0, 1)[order].unsqueeze(2).repeat(1, 1, 2, 1, 1)
    return frames.flatten(1)


def built(
    spec: VisionSpec, connector: ConnectorSpec, grid: tuple[int, int], tensors: Any, names: Names, folder: Path
) -> Vision:
    with torch.device("meta"):
        vision = Vision(spec, connector, grid)
    tiny_models.fill(vision, tensors, names, vision_transforms(spec), folder)
    vision.bake(PIXELS, torch.float32)
    return vision.eval()


@torch.no_grad()
def test_rms_norms_and_a_gated_mlp(tmp_path: Path) -> None:
    """Qwen2.5-VL's tower with full attention in every block."""
    config = Qwen2_5_VLVisionConfig(
        depth=3, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=14, out_hidden_size=64,
        fullatt_block_indexes=[0, 1, 2], hidden_act="silu",
    )  # fmt: skip
    tower = Qwen2_5_VisionTransformerPretrainedModel(config).eval()
    tiny_models.enliven(tower)
    spec = VisionSpec(
        depth=3, width=32, heads=2, inner=48, patch=14, patch_layout="conv3d", norm="rms", norm_eps=1e-6, act="silu",
        gated=True, rope="halves",
    )  # fmt: skip
    connector = ConnectorSpec(merge=2, norm="rms", hidden=128, width=64)
    names = {
        **QWEN, "blocks.{}.fc1": ("blocks.{}.mlp.gate_proj", "blocks.{}.mlp.up_proj"),
        "blocks.{}.fc2": "blocks.{}.mlp.down_proj", "connector.norm": "merger.ln_q",
        "connector.hidden": "merger.mlp.0", "connector.out": "merger.mlp.2",
    }  # fmt: skip
    image, pixels = picture((3, 2), 28)
    found = built(spec, connector, (3, 2), tower.state_dict(), names, tmp_path)(image)
    tiny_models.assert_close(found, tower(in_patches(pixels, 14), torch.tensor([[1, 6, 4]])).pooler_output)


@torch.no_grad()
def test_a_patch_bias_and_the_tanh_gelu(tmp_path: Path) -> None:
    """Qwen3-VL's tower without its learned positions."""
    config = Qwen3VLVisionConfig(
        depth=2, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=16, out_hidden_size=64,
        num_position_embeddings=16, deepstack_visual_indexes=[],
    )  # fmt: skip
    tower = Qwen3VLVisionModel(config).eval()
    tiny_models.enliven(tower)
    tower.pos_embed.weight.zero_()
    spec = VisionSpec(
        depth=2, width=32, heads=2, inner=48, patch=16, patch_layout="conv3d", patch_bias=True, norm_eps=1e-6,
        act="gelu_tanh", rope="halves",
    )  # fmt: skip
    connector = ConnectorSpec(merge=2, norm="layer", hidden=128, width=64)
    names = {
        **QWEN, "blocks.{}.fc1": "blocks.{}.mlp.linear_fc1", "blocks.{}.fc2": "blocks.{}.mlp.linear_fc2",
        "connector.norm": "merger.norm", "connector.hidden": "merger.linear_fc1", "connector.out": "merger.linear_fc2",
    }  # fmt: skip
    image, pixels = picture((2, 3), 32)
    found = built(spec, connector, (2, 3), tower.state_dict(), names, tmp_path)(image)
    tiny_models.assert_close(found, tower(in_patches(pixels, 16), torch.tensor([[1, 4, 6]])).pooler_output)


@torch.no_grad()
@pytest.mark.parametrize("act", ["gelu_tanh", "gelu", "quick_gelu"])
def test_split_projections_without_rotation(tmp_path: Path, act: Any) -> None:
    """SigLIP's tower without its learned positions, and LLaVA's two layers after it."""
    theirs = {"gelu_tanh": "gelu_pytorch_tanh"}.get(act, act)
    config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14,
        hidden_act=theirs, layer_norm_eps=1e-4, vision_use_head=False, attn_implementation="eager",
    )  # fmt: skip
    tower = SiglipVisionModel(config).eval()
    tiny_models.enliven(tower)
    tensors = {name.removeprefix("vision_model."): value for name, value in tower.state_dict().items()}
    tensors["embeddings.position_embedding.weight"].zero_()
    noise = torch.Generator().manual_seed(4)
    linear = {f"linear_{i}.weight": torch.randn(64, 32 * i, generator=noise) / 6 for i in (1, 2)}
    linear |= {f"linear_{i}.bias": torch.randn(64, generator=noise) for i in (1, 2)}
    block = {
        "norm1": "layer_norm1", "norm2": "layer_norm2", "proj": "self_attn.out_proj", "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    }  # fmt: skip
    names: Names = {
        "patch": "embeddings.patch_embedding", "connector.hidden": "linear_1", "connector.out": "linear_2",
        "blocks.{}.qkv": tuple(f"encoder.layers.{{}}.self_attn.{name}_proj" for name in "qkv"),
        **{f"blocks.{{}}.{ours}": f"encoder.layers.{{}}.{name}" for ours, name in block.items()},
    }  # fmt: skip
    spec = VisionSpec(
        depth=2, width=32, heads=2, inner=48, patch=14, patch_bias=True, norm_eps=1e-4, act=act
    )  # fmt: skip
    connector = ConnectorSpec(merge=1, hidden=64, width=64)
    image, pixels = picture((4, 4), 14)
    found = built(spec, connector, (4, 4), {**tensors, **linear}, names, tmp_path)(image)
    seen = tower(pixels, output_hidden_states=True).hidden_states[-1][0]
    inner = F.gelu(F.linear(seen, linear["linear_1.weight"], linear["linear_1.bias"]))
    tiny_models.assert_close(found, F.linear(inner, linear["linear_2.weight"], linear["linear_2.bias"]))


@torch.no_grad()
@pytest.mark.parametrize(("patches", "table"), [(27, 27), (32, 32), (25, 25), (20, 27)])
def test_places_by_bucket(tmp_path: Path, patches: int, table: int) -> None:
    """SmolVLM's tower: as many patches as rows, also where rounding takes some rows twice, and fewer."""
    config = SmolVLMVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=4 * table,
        patch_size=4, attn_implementation="eager",
    )  # fmt: skip
    tower = SmolVLMVisionTransformer(config).eval()
    tiny_models.enliven(tower)
    linear = torch.randn(16, 16, generator=torch.Generator().manual_seed(4))
    tensors = {f"vision_tower.{name}": value for name, value in tower.state_dict().items()} | {"out.weight": linear}
    names = {**CLIP_BLOCKS, "last_norm": "vision_tower.post_layernorm", "connector.out": "out"}
    spec = VisionSpec(
        depth=1, width=16, heads=2, inner=24, patch=4, patch_bias=True, norm_eps=1e-6, act="gelu_tanh",
        positions="bucket", table=table, last_norm=True,
    )  # fmt: skip
    image, pixels = picture((patches, patches), 4)
    found = built(spec, ConnectorSpec(merge=1, bias=False, width=16), (patches, patches), tensors, names, tmp_path)
    tiny_models.assert_close(found(image), F.linear(tower(pixels).last_hidden_state[0], linear))
    assert buckets(patches, table).equal(torch.arange(patches)) == (patches in (27, 32))


# --- Connectors -------------------------------------------------------------------------------------------------------


def patches(rows: int, columns: int) -> Tensor:
    """[1, rows, columns, 32]."""
    return torch.randn(1, rows, columns, 32, generator=torch.Generator().manual_seed(5))


def ordered(patch_1yxE: Tensor, merge: int) -> Tensor:
    rows, columns = patch_1yxE.shape[1:3]
    order = in_merge_order(torch.arange(rows * columns).reshape(rows, columns), merge)
    return patch_1yxE.flatten(0, 2)[order]


@torch.no_grad()
def test_a_norm_after_the_merge(tmp_path: Path) -> None:
    """InternVL's."""
    config = InternVLConfig(
        vision_config={"hidden_size": 32}, text_config={"model_type": "qwen2", "hidden_size": 64}, downsample_ratio=0.5
    )  # fmt: skip
    theirs = InternVLMultiModalProjector(config).eval()
    tiny_models.enliven(theirs)
    with torch.device("meta"):
        ours = Connector(
            ConnectorSpec(merge=2, norm="layer", norm_place="after", norm_eps=1e-5, hidden=64, width=64), 32
        )
    names = {"norm": "layer_norm", "hidden": "linear_1", "out": "linear_2"}
    tiny_models.fill(ours, theirs.state_dict(), names, {}, tmp_path)
    grid = patches(4, 6)
    shuffled = InternVLModel.pixel_shuffle(None, grid, 0.5)
    tiny_models.assert_close(ours(ordered(grid, 2)), theirs(shuffled.flatten(0, 2)))


@torch.no_grad()
def test_nine_patches_a_token_and_a_single_layer(tmp_path: Path) -> None:
    """SmolVLM's."""
    config = Idefics3Config(
        vision_config={"hidden_size": 32}, text_config={"model_type": "llama", "hidden_size": 64}, scale_factor=3
    )
    theirs = Idefics3Connector(config).eval()
    tiny_models.enliven(theirs)
    with torch.device("meta"):
        ours = Connector(ConnectorSpec(merge=3, bias=False, width=64), 32)
    tiny_models.fill(ours, theirs.state_dict(), {"out": "modality_projection.proj"}, {}, tmp_path)
    grid = patches(6, 6)
    tiny_models.assert_close(ours(ordered(grid, 3)), theirs(grid.flatten(1, 2))[0])
