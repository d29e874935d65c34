"""LFM2-VL and LFM2.5-VL (arXiv 2511.23404): their config, and the names in their checkpoints."""

from collections.abc import Mapping
from math import isqrt
from typing import Any, ClassVar

from transformers import Lfm2VlConfig
from vlmp.export.models.family import SpecFamily
from vlmp.export.models.loading import Names
from vlmp.export.models.names import CLIP_BLOCKS, LLAVA_PREFIXES, LLAVA_PROJECTOR
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

ATTENTION, CONV = "full_attention", "conv"
TEXT_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
              "vocab_size", "max_position_embeddings", "block_multiple_of")  # fmt: skip
VISION_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size",
                "num_patches")  # fmt: skip


class Lfm2VL(SpecFamily):
    """An LFM2-VL checkpoint: SigLIP2, two layers, LFM2 with its short convolutions. One tile."""

    title = "LFM2-VL"
    config_class = Lfm2VlConfig
    pixels = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), rescale=1 / 255)
    prefixes = LLAVA_PREFIXES
    vision_names: ClassVar[Names] = {
        **CLIP_BLOCKS,
        **LLAVA_PROJECTOR,
        "last_norm": "vision_tower.post_layernorm",
        "connector.norm": "multi_modal_projector.layer_norm",
    }
    decoder_names: ClassVar[Names] = {
        "embed": "model.embed_tokens",
        "layers.{}.input_norm": "model.layers.{}.operator_norm",
        "layers.{}.qkv": tuple(f"model.layers.{{}}.self_attn.{name}_proj" for name in "qkv"),
        "layers.{}.q_norm": "model.layers.{}.self_attn.q_layernorm",
        "layers.{}.k_norm": "model.layers.{}.self_attn.k_layernorm",
        "layers.{}.out": "model.layers.{}.self_attn.out_proj",
        "layers.{}.conv_in": "model.layers.{}.conv.in_proj",
        "layers.{}.conv": "model.layers.{}.conv.conv",
        "layers.{}.conv_out": "model.layers.{}.conv.out_proj",
        "layers.{}.mlp_norm": "model.layers.{}.ffn_norm",
        "layers.{}.gate_up": ("model.layers.{}.feed_forward.w1", "model.layers.{}.feed_forward.w3"),
        "layers.{}.down": "model.layers.{}.feed_forward.w2",
        "norm": "model.embedding_norm",
        "head": "lm_head",
    }

    def sizes(self) -> Mapping[str, int]:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        if (text.model_type, vision.model_type) != ("lfm2", "siglip2_vision_model"):
            return {}  # `wanted` says so
        told = {f"text {name}": getattr(text, name) for name in TEXT_SIZES}
        seen = {f"vision {name}": getattr(vision, name) for name in VISION_SIZES}
        own = {name: getattr(config, name) for name in ("downsample_factor", "projector_hidden_size")}
        return told | seen | own | {"conv_L_cache less 1": text.conv_L_cache - 1}

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        parts = {"text model_type": (text.model_type, "lfm2"),
                 "vision model_type": (vision.model_type, "siglip2_vision_model")}  # fmt: skip
        if any(found != right for found, right in parts.values()):
            return parts
        rope, kinds, patches = text.rope_parameters, set(text.layer_types), vision.num_patches
        return {
            "rope_type": (rope.get("rope_type", "default"), "default"),
            # Under this name older files have it, where transformers does not look.
            "theta": (getattr(text, "theta", rope["rope_theta"]), rope["rope_theta"]),
            "conv_bias": (text.conv_bias, False),
            "kinds of layer_types": (sorted(kinds), sorted(kinds & {ATTENTION, CONV} | {ATTENTION})),
            "hidden_size mod heads": (text.hidden_size % text.num_attention_heads, 0),
            "head_dim mod 2": (text.hidden_size // text.num_attention_heads % 2, 0),
            "heads mod kv heads": (text.num_attention_heads % text.num_key_value_heads, 0),
            "projector_hidden_act": (config.projector_hidden_act, "gelu"),
            "vision_feature_layer": (getattr(config, "vision_feature_layer", -1), -1),
            "vision hidden_act": (vision.hidden_act, "gelu_pytorch_tanh"),
            "num_channels": (vision.num_channels, 3),
            "vision hidden_size mod heads": (vision.hidden_size % vision.num_attention_heads, 0),
            "num_patches less a square": (patches - isqrt(patches) ** 2, 0),
        }

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        patch, merge = vision.patch_size, config.downsample_factor
        return ModelSpec(
            decoder=self._decoder(text),
            vision=VisionSpec(
                depth=vision.num_hidden_layers, width=vision.hidden_size, heads=vision.num_attention_heads,
                inner=vision.intermediate_size, patch=patch, patch_layout="hwc", patch_bias=True,
                norm_eps=vision.layer_norm_eps, act="gelu_tanh", positions="antialias",
                table=isqrt(vision.num_patches), last_norm=True,
            ),
            connector=ConnectorSpec(
                merge=merge, norm="layer" if config.projector_use_layernorm else None, norm_place="after",
                norm_eps=1e-5, hidden=config.projector_hidden_size, bias=config.projector_bias, width=text.hidden_size,
            ),
            picture=PictureSpec(unit=merge * patch, size=(512, 512), resample="bilinear"),
            prompt=PromptSpec(image_token="<image>", open="<|image_start|>", close="<|image_end|>"),
            image_token_id=config.image_token_id,
            max_positions=text.max_position_embeddings,
        )  # fmt: skip

    def _decoder(self, text: Any) -> DecoderSpec:
        attention = LayerSpec(
            kv_heads=text.num_key_value_heads, head_dim=text.hidden_size // text.num_attention_heads, inner=inner(text)
        )
        conv = LayerSpec(mixer="conv", inner=inner(text))
        return DecoderSpec(
            width=text.hidden_size, vocab=text.vocab_size, heads=text.num_attention_heads,
            layers=tuple(attention if kind == ATTENTION else conv for kind in text.layer_types),
            tied=self.config.tie_word_embeddings, norm_eps=text.norm_eps, qk_norm=True, conv_kernel=text.conv_L_cache,
            rope=RopeSpec(theta=float(text.rope_parameters["rope_theta"])),
        )  # fmt: skip

    def processor_sizes(self) -> dict[str, int]:
        """See SpecFamily. A processor that cuts a photo into tiles is not followed: it is one tile."""
        config = self.config
        return {"encoder_patch_size": config.vision_config.patch_size, "downsample_factor": config.downsample_factor}


def inner(text: Any) -> int:
    """Width inside the MLP: of the one that the config tells two thirds, rounded up, as transformers has it."""
    width = text.intermediate_size
    if not text.block_auto_adjust_ff_dim:
        return int(width)
    width = int(2 * width / 3)
    if text.block_ffn_dim_multiplier is None:
        return width
    return -(-int(text.block_ffn_dim_multiplier * width) // text.block_multiple_of) * int(text.block_multiple_of)
