"""Qwen2-VL (arXiv 2409.12191): its config, and the names in its checkpoint."""

from collections.abc import Mapping
from typing import ClassVar

from transformers import Qwen2VLConfig
from vlmp.export.models.loading import Names
from vlmp.export.models.names import QWEN_MERGER, QWEN_TOWER
from vlmp.export.models.qwen import QwenVL
from vlmp.export.models.spec import ConnectorSpec, ModelSpec, VisionSpec


class Qwen2VL(QwenVL):
    """A Qwen2-VL checkpoint."""

    title = "Qwen2-VL"
    config_class = Qwen2VLConfig
    vision_sizes = ("depth", "embed_dim", "mlp_ratio", "num_heads", "patch_size")
    vision_names: ClassVar[Names] = {
        **QWEN_TOWER, "blocks.{}.fc1": "visual.blocks.{}.mlp.fc1", "blocks.{}.fc2": "visual.blocks.{}.mlp.fc2",
        **QWEN_MERGER,
    }  # fmt: skip

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        return {
            **super().wanted(),
            "vision hidden_act": (vision.hidden_act, "quick_gelu"),
            "vision hidden_size": (vision.hidden_size, text.hidden_size),
            "hidden_size mod 2 heads": (text.hidden_size % (2 * text.num_attention_heads), 0),
            "vision embed_dim mod 4 heads": (vision.embed_dim % (4 * vision.num_heads), 0),
        }

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        vision, merge = self.config.vision_config, self.config.vision_config.spatial_merge_size
        return ModelSpec(
            decoder=self.decoder(),
            vision=VisionSpec(
                depth=vision.depth, width=vision.embed_dim, heads=vision.num_heads,
                inner=int(vision.embed_dim * vision.mlp_ratio), patch=vision.patch_size, patch_layout="conv3d",
                norm_eps=1e-6, act="quick_gelu", rope="halves",
            ),
            connector=ConnectorSpec(
                merge=merge, norm="layer", hidden=vision.embed_dim * merge**2, width=vision.hidden_size
            ),
            picture=self.picture_spec, prompt=self.prompt_spec, image_token_id=self.config.image_token_id,
            max_positions=self.config.text_config.max_position_embeddings,
        )  # fmt: skip
