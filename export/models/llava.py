"""LLaVA-1.5 (arXiv 2310.03744): its config, and the names in its checkpoint."""

from collections.abc import Mapping
from typing import ClassVar

from transformers import LlavaConfig
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from vlmp.export.models.family import SpecFamily
from vlmp.export.models.loading import Names
from vlmp.export.models.names import CLIP_BLOCKS, DECODER, LLAVA_PREFIXES, LLAVA_PROJECTOR
from vlmp.export.models.spec import ConnectorSpec, ModelSpec, PictureSpec, PromptSpec, VisionSpec
from vlmp.export.models.text import text_decoder, text_sizes, text_wanted
from vlmp.export.pixels import Normalisation

VISION_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "patch_size",
                "image_size")  # fmt: skip


class Llava(SpecFamily):
    """A LLaVA-1.5 checkpoint: CLIP's tower, two layers, Vicuna."""

    title = "LLaVA-1.5"
    config_class = LlavaConfig
    pixels = Normalisation(mean=tuple(OPENAI_CLIP_MEAN), std=tuple(OPENAI_CLIP_STD), rescale=1 / 255)
    prefixes = LLAVA_PREFIXES
    vision_names: ClassVar[Names] = {
        **CLIP_BLOCKS,
        "class_token": "vision_tower.embeddings.class_embedding",
        "pre_norm": "vision_tower.pre_layrnorm",  # spelled so
        **LLAVA_PROJECTOR,
    }
    decoder_names = DECODER

    def sizes(self) -> Mapping[str, int]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        if (text.model_type, vision.model_type) != ("llama", "clip_vision_model"):
            return {}  # `wanted` says so
        return text_sizes(text) | {f"vision {name}": getattr(vision, name) for name in VISION_SIZES}

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        kinds = {
            "text model_type": (text.model_type, "llama"), "vision model_type": (vision.model_type, "clip_vision_model")
        }  # fmt: skip
        if any(found != right for found, right in kinds.values()):
            return kinds
        layer, blocks = config.vision_feature_layer, vision.num_hidden_layers
        return {
            **text_wanted(text),
            "vision hidden_act": (vision.hidden_act, "quick_gelu"),
            "num_channels": (vision.num_channels, 3),
            "image_size mod patch_size": (vision.image_size % vision.patch_size, 0),
            "vision hidden_size mod heads": (vision.hidden_size % vision.num_attention_heads, 0),
            f"whether vision_feature_layer {layer} is the output of one of {blocks} blocks": (
                isinstance(layer, int) and (1 <= layer <= blocks or -blocks <= layer <= -1), True
            ),
            "vision_feature_select_strategy": (config.vision_feature_select_strategy, "default"),
            "projector_hidden_act": (config.projector_hidden_act, "gelu"),
            "multimodal_projector_bias": (config.multimodal_projector_bias, True),
        }  # fmt: skip

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        side, last = vision.image_size, config.vision_feature_layer
        return ModelSpec(
            decoder=text_decoder(text, config.tie_word_embeddings),
            vision=VisionSpec(
                # Counted from the embedding on, which is 0; those after it are in the checkpoint, too.
                depth=last if last > 0 else vision.num_hidden_layers + 1 + last,
                width=vision.hidden_size, heads=vision.num_attention_heads, inner=vision.intermediate_size,
                patch=vision.patch_size, norm_eps=vision.layer_norm_eps, act="quick_gelu", positions="table",
                table=side // vision.patch_size, class_token=True, pre_norm=True,
            ),
            connector=ConnectorSpec(merge=1, hidden=text.hidden_size, width=text.hidden_size),
            picture=PictureSpec(unit=vision.patch_size, size=(side, side), fixed=True),
            prompt=PromptSpec(image_token="<image>"),
            image_token_id=config.image_token_id,
            max_positions=text.max_position_embeddings,
        )  # fmt: skip

    def processor_sizes(self) -> dict[str, int]:
        """See SpecFamily. A processor that crops is not followed: a photo is padded, as in training."""
        return {}
