"""Qwen2.5-VL (arXiv 2502.13923): its config, and the names in its checkpoint."""

from collections.abc import Mapping
from typing import ClassVar

from transformers import Qwen2_5_VLConfig
from vlmp.export.models.loading import Names
from vlmp.export.models.names import QWEN_MERGER, QWEN_TOWER
from vlmp.export.models.qwen import QwenVL
from vlmp.export.models.spec import ConnectorSpec, ModelSpec, VisionSpec


class Qwen25VL(QwenVL):
    """A Qwen2.5-VL checkpoint: most blocks of its tower attend within windows."""

    title = "Qwen2.5-VL"
    config_class = Qwen2_5_VLConfig
    vision_sizes = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size", "window_size")
    vision_names: ClassVar[Names] = {
        **QWEN_TOWER,
        "blocks.{}.fc1": ("visual.blocks.{}.mlp.gate_proj", "visual.blocks.{}.mlp.up_proj"),
        "blocks.{}.fc2": "visual.blocks.{}.mlp.down_proj",
        **QWEN_MERGER,
    }

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        whole = [index for index in vision.fullatt_block_indexes if not 0 <= index < vision.depth]
        return {
            **super().wanted(),
            "vision hidden_act": (vision.hidden_act, "silu"),
            "vision out_hidden_size": (vision.out_hidden_size, text.hidden_size),
            "hidden_size mod 2 heads": (text.hidden_size % (2 * text.num_attention_heads), 0),
            "vision hidden_size mod 4 heads": (vision.hidden_size % (4 * vision.num_heads), 0),
            "window_size mod a visual token": (
                vision.window_size % (vision.patch_size * vision.spatial_merge_size), 0
            ),
            "fullatt_block_indexes without a block": (whole, []),
        }  # fmt: skip

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        vision, merge = self.config.vision_config, self.config.vision_config.spatial_merge_size
        return ModelSpec(
            decoder=self.decoder(),
            vision=VisionSpec(
                depth=vision.depth, width=vision.hidden_size, heads=vision.num_heads, inner=vision.intermediate_size,
                patch=vision.patch_size, patch_layout="conv3d", norm="rms", norm_eps=1e-6, act="silu", gated=True,
                rope="halves", window=vision.window_size // vision.patch_size,
                full=tuple(vision.fullatt_block_indexes),
            ),
            connector=ConnectorSpec(
                merge=merge, norm="rms", hidden=vision.hidden_size * merge**2, width=vision.out_hidden_size
            ),
            picture=self.picture_spec, prompt=self.prompt_spec, image_token_id=self.config.image_token_id,
            max_positions=self.config.text_config.max_position_embeddings,
        )  # fmt: skip
