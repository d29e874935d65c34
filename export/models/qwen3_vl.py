"""Qwen3-VL (arXiv 2511.21631): its config, and the names in its checkpoint."""

from collections.abc import Mapping
from math import isqrt
from typing import ClassVar

from transformers import Qwen3VLConfig
from vlmp.export.models.loading import Names
from vlmp.export.models.names import QWEN_TOWER
from vlmp.export.models.qwen import QwenVL
from vlmp.export.models.spec import ConnectorSpec, ModelSpec, RopeSpec, VisionSpec
from vlmp.export.pixels import Normalisation


class Qwen3VL(QwenVL):
    """A Qwen3-VL checkpoint: features of earlier blocks are added in the language model (DeepStack)."""

    title = "Qwen3-VL"
    config_class = Qwen3VLConfig
    pixels = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), rescale=1 / 255)
    vision_sizes = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size", "num_position_embeddings")
    vision_names: ClassVar[Names] = {
        **QWEN_TOWER,
        "positions": "visual.pos_embed.weight",
        "blocks.{}.fc1": "visual.blocks.{}.mlp.linear_fc1",
        "blocks.{}.fc2": "visual.blocks.{}.mlp.linear_fc2",
        "connector.norm": "visual.merger.norm",
        "connector.hidden": "visual.merger.linear_fc1",
        "connector.out": "visual.merger.linear_fc2",
        "taps.{}.norm": "visual.deepstack_merger_list.{}.norm",
        "taps.{}.hidden": "visual.deepstack_merger_list.{}.linear_fc1",
        "taps.{}.out": "visual.deepstack_merger_list.{}.linear_fc2",
    }

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        taps = list(vision.deepstack_visual_indexes)
        return {
            **super().wanted(),
            "mrope_interleaved": (text.rope_parameters.get("mrope_interleaved", True), True),
            "attention_bias": (text.attention_bias, False),
            "vision hidden_act": (vision.hidden_act, "gelu_pytorch_tanh"),
            "vision out_hidden_size": (vision.out_hidden_size, text.hidden_size),
            "vision hidden_size mod 4 heads": (vision.hidden_size % (4 * vision.num_heads), 0),
            "head_dim mod 2": (self.head_dim % 2, 0),
            "num_position_embeddings less a square": (
                vision.num_position_embeddings - isqrt(vision.num_position_embeddings) ** 2, 0
            ),
            "deepstack_visual_indexes": (taps, sorted({index for index in taps if 0 <= index < vision.depth})),
            "deepstack_visual_indexes beyond the layers": (taps[text.num_hidden_layers :], []),
        }  # fmt: skip

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        text, vision, merge = self.config.text_config, self.config.vision_config, 2
        rope, taps = text.rope_parameters, tuple(vision.deepstack_visual_indexes)
        turns = RopeSpec(theta=float(rope["rope_theta"]), layout="interleaved", sections=tuple(rope["mrope_section"]))
        return ModelSpec(
            decoder=self.decoder(rope=turns, qkv_bias=False, qk_norm=True, deep=len(taps)),
            vision=VisionSpec(
                depth=vision.depth, width=vision.hidden_size, heads=vision.num_heads, inner=vision.intermediate_size,
                patch=vision.patch_size, patch_layout="conv3d", patch_bias=True, norm_eps=1e-6, act="gelu_tanh",
                rope="halves", positions="corners", table=isqrt(vision.num_position_embeddings), taps=taps,
            ),
            connector=ConnectorSpec(
                merge=merge, norm="layer", hidden=vision.hidden_size * merge**2, width=vision.out_hidden_size
            ),
            picture=self.picture_spec, prompt=self.prompt_spec, image_token_id=self.config.image_token_id,
            max_positions=text.max_position_embeddings,
        )  # fmt: skip
