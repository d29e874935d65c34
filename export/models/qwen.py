"""What the families of Qwen share: names, the language model with rotary embedding on three axes, the processor."""

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from vlmp.export.models.family import SpecFamily
from vlmp.export.models.names import DECODER
from vlmp.export.models.spec import DecoderSpec, LayerSpec, PictureSpec, PromptSpec, RopeSpec
from vlmp.export.pixels import Normalisation

TEXT_SIZES = ("hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
              "num_hidden_layers", "num_key_value_heads", "vocab_size")  # fmt: skip


class QwenVL(SpecFamily):
    """A family file adds its vision tower, and what its language model does otherwise."""

    vision_sizes: ClassVar[tuple[str, ...]]
    """Names of its config's vision settings that must be at least 1."""
    pixels = Normalisation(mean=tuple(OPENAI_CLIP_MEAN), std=tuple(OPENAI_CLIP_STD), rescale=1 / 255)
    prefixes = (
        ("model.language_model.", "model."), ("model.visual.", "visual."), ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."), ("language_model.", "model."),
    )  # fmt: skip
    decoder_names = DECODER
    prompt_spec = PromptSpec(image_token="<|image_pad|>")

    def sizes(self) -> Mapping[str, int]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        return {name: getattr(text, name) for name in TEXT_SIZES} | {
            name: getattr(vision, name) for name in self.vision_sizes
        }

    @property
    def head_dim(self) -> int:
        """Channels of a head of the language model."""
        text = self.config.text_config
        return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        rope, sections = text.rope_parameters, list(text.rope_parameters.get("mrope_section", []))
        return {
            "text hidden_act": (text.hidden_act, "silu"),
            "rope_type": (rope.get("rope_type", "default"), "default"),
            "use_sliding_window": (bool(getattr(text, "use_sliding_window", False)), False),
            "entries of mrope_section": (len(sections), 3),
            "vision rope_theta": (vision.rope_parameters["rope_theta"], 10000.0),
            "vision temporal_patch_size": (vision.temporal_patch_size, 2),
            "spatial_merge_size": (vision.spatial_merge_size, 2),
            "sum of mrope_section": (sum(sections), self.head_dim // 2),
            "in_channels": (vision.in_channels, 3),
            "heads mod kv heads": (text.num_attention_heads % text.num_key_value_heads, 0),
        }

    def decoder(self, **otherwise: Any) -> DecoderSpec:
        """The language model, a Qwen2. otherwise: fields that a family has otherwise."""
        text, rope = self.config.text_config, self.config.text_config.rope_parameters
        layer = LayerSpec(
            kv_heads=text.num_key_value_heads, head_dim=self.head_dim, inner=text.intermediate_size
        )  # fmt: skip
        turns = RopeSpec(theta=float(rope["rope_theta"]), layout="mrope", sections=tuple(rope["mrope_section"]))
        qwen2: dict[str, Any] = {"qkv_bias": True, "rope": turns}
        return DecoderSpec(
            width=text.hidden_size, vocab=text.vocab_size, heads=text.num_attention_heads,
            layers=(layer,) * text.num_hidden_layers, tied=self.config.tie_word_embeddings,
            norm_eps=text.rms_norm_eps, **(qwen2 | otherwise),
        )  # fmt: skip

    @property
    def picture_spec(self) -> PictureSpec:
        """Any size of whole visual tokens; unless told otherwise 16 of them a side."""
        vision = self.config.vision_config
        unit = vision.patch_size * vision.spatial_merge_size
        return PictureSpec(unit=unit, size=(16 * unit, 16 * unit))

    def processor_sizes(self) -> dict[str, int]:
        """See SpecFamily."""
        vision = self.config.vision_config
        return {
            "patch_size": vision.patch_size, "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
        }  # fmt: skip
