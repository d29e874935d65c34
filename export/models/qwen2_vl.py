"""Qwen2-VL (arXiv 2409.12191): its config, and the names in its checkpoint."""

from collections.abc import Mapping
from typing import ClassVar

from transformers import Qwen2VLConfig
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from vlmp.export.models.family import SpecFamily
from vlmp.export.models.loading import Names
from vlmp.export.models.spec import (
    ConnectorSpec,
    DecoderSpec,
    LayerSpec,
    ModelSpec,
    PictureSpec,
    PromptSpec,
    RopeSpec,
    VisionSpec,
)
from vlmp.export.pixels import Normalisation

TEXT_SIZES = ("hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
              "num_hidden_layers", "num_key_value_heads", "vocab_size")  # fmt: skip
VISION_SIZES = ("depth", "embed_dim", "mlp_ratio", "num_heads", "patch_size")


class Qwen2VL(SpecFamily):
    """A Qwen2-VL checkpoint."""

    title = "Qwen2-VL"
    config_class = Qwen2VLConfig
    pixels = Normalisation(mean=tuple(OPENAI_CLIP_MEAN), std=tuple(OPENAI_CLIP_STD), rescale=1 / 255)
    prefixes = (
        ("model.language_model.", "model."), ("model.visual.", "visual."), ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."), ("language_model.", "model."),
    )  # fmt: skip
    vision_names: ClassVar[Names] = {
        "patch": "visual.patch_embed.proj",
        "blocks.{}.norm1": "visual.blocks.{}.norm1",
        "blocks.{}.qkv": "visual.blocks.{}.attn.qkv",
        "blocks.{}.proj": "visual.blocks.{}.attn.proj",
        "blocks.{}.norm2": "visual.blocks.{}.norm2",
        "blocks.{}.fc1": "visual.blocks.{}.mlp.fc1",
        "blocks.{}.fc2": "visual.blocks.{}.mlp.fc2",
        "connector.norm": "visual.merger.ln_q",
        "connector.hidden": "visual.merger.mlp.0",
        "connector.out": "visual.merger.mlp.2",
    }
    decoder_names: ClassVar[Names] = {
        "embed": "model.embed_tokens",
        "layers.{}.input_norm": "model.layers.{}.input_layernorm",
        "layers.{}.qkv": tuple(f"model.layers.{{}}.self_attn.{name}_proj" for name in "qkv"),
        "layers.{}.out": "model.layers.{}.self_attn.o_proj",
        "layers.{}.mlp_norm": "model.layers.{}.post_attention_layernorm",
        "layers.{}.gate_up": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"),
        "layers.{}.down": "model.layers.{}.mlp.down_proj",
        "norm": "model.norm",
        "head": "lm_head",
    }

    def sizes(self) -> Mapping[str, int]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        return {name: getattr(text, name) for name in TEXT_SIZES} | {
            name: getattr(vision, name) for name in VISION_SIZES
        }

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        rope, sections = text.rope_parameters, list(text.rope_parameters.get("mrope_section", []))
        return {
            "text hidden_act": (text.hidden_act, "silu"),
            "vision hidden_act": (vision.hidden_act, "quick_gelu"),
            "rope_type": (rope.get("rope_type", "default"), "default"),
            "use_sliding_window": (bool(text.use_sliding_window), False),
            "entries of mrope_section": (len(sections), 3),
            "vision rope_theta": (vision.rope_parameters["rope_theta"], 10000.0),
            "vision temporal_patch_size": (vision.temporal_patch_size, 2),
            "spatial_merge_size": (vision.spatial_merge_size, 2),
            "vision hidden_size": (vision.hidden_size, text.hidden_size),
            "sum of mrope_section": (sum(sections), text.hidden_size // text.num_attention_heads // 2),
            "hidden_size mod 2 heads": (text.hidden_size % (2 * text.num_attention_heads), 0),
            "vision embed_dim mod 4 heads": (vision.embed_dim % (4 * vision.num_heads), 0),
            "in_channels": (vision.in_channels, 3),
            "heads mod kv heads": (text.num_attention_heads % text.num_key_value_heads, 0),
        }

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        rope, merge = text.rope_parameters, vision.spatial_merge_size
        layer = LayerSpec(
            kv_heads=text.num_key_value_heads, head_dim=text.hidden_size // text.num_attention_heads,
            inner=text.intermediate_size,
        )  # fmt: skip
        return ModelSpec(
            decoder=DecoderSpec(
                width=text.hidden_size, vocab=text.vocab_size, heads=text.num_attention_heads,
                layers=(layer,) * text.num_hidden_layers, tied=config.tie_word_embeddings,
                rope=RopeSpec(
                    theta=float(rope["rope_theta"]), layout="mrope", sections=tuple(rope["mrope_section"])
                ),
                norm_eps=text.rms_norm_eps, qkv_bias=True,
            ),
            vision=VisionSpec(
                depth=vision.depth, width=vision.embed_dim, heads=vision.num_heads,
                inner=int(vision.embed_dim * vision.mlp_ratio), patch=vision.patch_size, patch_layout="conv3d",
                norm_eps=1e-6, act="quick_gelu", rope="halves",
            ),
            connector=ConnectorSpec(
                merge=merge, norm="layer", hidden=vision.embed_dim * merge**2, width=vision.hidden_size
            ),
            picture=PictureSpec(unit=vision.patch_size * merge),
            prompt=PromptSpec(image_token="<|image_pad|>"),
            image_token_id=config.image_token_id,
            max_positions=text.max_position_embeddings,
        )  # fmt: skip

    def processor_sizes(self) -> dict[str, int]:
        """See SpecFamily."""
        vision = self.config.vision_config
        return {
            "patch_size": vision.patch_size, "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
        }  # fmt: skip
