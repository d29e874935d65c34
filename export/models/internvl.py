"""InternVL3 and 3.5 (arXiv 2504.10479, 2508.18265): their config, and the names in their checkpoints."""

from collections.abc import Mapping
from typing import ClassVar

from transformers import InternVLConfig
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from vlmp.export.models.family import SpecFamily
from vlmp.export.models.loading import Names
from vlmp.export.models.names import DECODER, LLAVA_PREFIXES, LLAVA_PROJECTOR
from vlmp.export.models.spec import ConnectorSpec, ModelSpec, PictureSpec, PromptSpec, VisionSpec
from vlmp.export.models.text import text_decoder, text_sizes, text_wanted
from vlmp.export.pixels import Normalisation

VISION_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
TEXTS = ("qwen2", "qwen3")
BLOCK = "vision_tower.encoder.layer.{}."


class InternVL(SpecFamily):
    """An InternVL checkpoint in transformers' form ("-hf"): InternViT, two layers, Qwen2.5 or Qwen3. One tile."""

    title = "InternVL"
    config_class = InternVLConfig
    pixels = Normalisation(mean=tuple(IMAGENET_DEFAULT_MEAN), std=tuple(IMAGENET_DEFAULT_STD), rescale=1 / 255)
    prefixes = LLAVA_PREFIXES
    vision_names: ClassVar[Names] = {
        "class_token": "vision_tower.embeddings.cls_token",
        "positions": "vision_tower.embeddings.position_embeddings",
        "patch": "vision_tower.embeddings.patch_embeddings.projection",
        "blocks.{}.norm1": f"{BLOCK}layernorm_before",
        "blocks.{}.qkv": tuple(f"{BLOCK}attention.{name}_proj" for name in "qkv"),
        "blocks.{}.proj": f"{BLOCK}attention.projection_layer",
        "blocks.{}.proj.scale": f"{BLOCK}lambda_1",
        "blocks.{}.norm2": f"{BLOCK}layernorm_after",
        "blocks.{}.fc1": f"{BLOCK}mlp.fc1",
        "blocks.{}.fc2": f"{BLOCK}mlp.fc2",
        "blocks.{}.fc2.scale": f"{BLOCK}lambda_2",
        "connector.norm": "multi_modal_projector.layer_norm",
        **LLAVA_PROJECTOR,
    }
    decoder_names = DECODER

    def sizes(self) -> Mapping[str, int]:
        """See SpecFamily."""
        text, vision = self.config.text_config, self.config.vision_config
        if text.model_type not in TEXTS:
            return {}  # `wanted` says so
        squares = {f"vision {name}": min(getattr(vision, name)) for name in ("image_size", "patch_size")}
        return text_sizes(text) | {f"vision {name}": getattr(vision, name) for name in VISION_SIZES} | squares

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        if text.model_type not in TEXTS:
            return {"text model_type": (text.model_type, " or ".join(TEXTS))}
        image, patch = list(vision.image_size), list(vision.patch_size)
        return {
            **text_wanted(text),
            "vision image_size": (image, image[:1] * 2),
            "vision patch_size": (patch, patch[:1] * 2),
            "image_size mod two patches": (image[0] % (2 * patch[0]), 0),
            "vision hidden_act": (vision.hidden_act, "gelu"),
            "vision hidden_size mod heads": (vision.hidden_size % vision.num_attention_heads, 0),
            "norm_type": (vision.norm_type, "layer_norm"),
            "use_qk_norm": (vision.use_qk_norm, False),
            "use_absolute_position_embeddings": (vision.use_absolute_position_embeddings, True),
            "use_mean_pooling": (vision.use_mean_pooling, True),  # otherwise a norm follows the blocks
            "num_channels": (vision.num_channels, 3),
            "downsample_ratio": (config.downsample_ratio, 0.5),
            "vision_feature_layer": (config.vision_feature_layer, -1),
            "vision_feature_select_strategy": (config.vision_feature_select_strategy, "default"),
            "projector_hidden_act": (config.projector_hidden_act, "gelu"),
        }

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        side, patch, merge = vision.image_size[0], vision.patch_size[0], 2
        return ModelSpec(
            decoder=text_decoder(text, config.tie_word_embeddings),
            vision=VisionSpec(
                depth=vision.num_hidden_layers, width=vision.hidden_size, heads=vision.num_attention_heads,
                inner=vision.intermediate_size, patch=patch, patch_bias=True, norm_eps=vision.layer_norm_eps,
                qkv_bias=vision.attention_bias, act="gelu", positions="table", table=side // patch, class_token=True,
                batch_dim=True, layer_scale=True,
            ),
            connector=ConnectorSpec(
                merge=merge, norm="layer", norm_place="after", norm_eps=1e-5, hidden=text.hidden_size,
                width=text.hidden_size,
            ),
            picture=PictureSpec(unit=merge * patch, size=(side, side), fixed=True),
            prompt=PromptSpec(image_token="<IMG_CONTEXT>", open="<img>", close="</img>"),
            image_token_id=config.image_token_id,
            max_positions=text.max_position_embeddings,
        )  # fmt: skip

    def processor_sizes(self) -> dict[str, int]:
        """See SpecFamily. A processor that cuts a photo into tiles is not followed: it is one tile."""
        return {}
