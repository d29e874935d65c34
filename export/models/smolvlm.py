"""SmolVLM2 (arXiv 2504.05299): its config, and the names in its checkpoint."""

from collections.abc import Mapping
from typing import ClassVar

from transformers import SmolVLMConfig
from vlmp.export.models.family import SpecFamily
from vlmp.export.models.loading import Names
from vlmp.export.models.names import CLIP_BLOCKS, DECODER
from vlmp.export.models.spec import ConnectorSpec, ModelSpec, PictureSpec, PromptSpec, VisionSpec
from vlmp.export.models.text import text_decoder, text_sizes, text_wanted
from vlmp.export.pixels import Normalisation

VISION_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "patch_size",
                "image_size")  # fmt: skip


class SmolVLM(SpecFamily):
    """A SmolVLM2 checkpoint: SigLIP, one layer, SmolLM2. One tile."""

    title = "SmolVLM2"
    config_class = SmolVLMConfig
    pixels = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), rescale=1 / 255)
    prefixes = (
        ("model.text_model.", "model."), ("model.vision_model.", "vision_tower."), ("model.connector.", "connector.")
    )  # fmt: skip
    vision_names: ClassVar[Names] = {
        **CLIP_BLOCKS,
        "last_norm": "vision_tower.post_layernorm",
        "connector.out": "connector.modality_projection.proj",
    }
    decoder_names = DECODER

    def sizes(self) -> Mapping[str, int]:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        if text.model_type != "llama":
            return {}  # `wanted` says so
        seen = {f"vision {name}": getattr(vision, name) for name in VISION_SIZES}
        return text_sizes(text) | seen | {"scale_factor": config.scale_factor}

    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        if text.model_type != "llama":
            return {"text model_type": (text.model_type, "llama")}
        return {
            **text_wanted(text),
            "vision hidden_act": (vision.hidden_act, "gelu_pytorch_tanh"),
            "num_channels": (vision.num_channels, 3),
            "vision hidden_size mod heads": (vision.hidden_size % vision.num_attention_heads, 0),
            # What is beyond the last whole patch is not seen: of 384 pixels 378, with patches of 14.
            "patches of a side mod scale_factor": (vision.image_size // vision.patch_size % config.scale_factor, 0),
        }

    def specs(self) -> ModelSpec:
        """See SpecFamily."""
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        side, patch, merge = vision.image_size, vision.patch_size, config.scale_factor
        around = "<fake_token_around_image>"
        return ModelSpec(
            decoder=text_decoder(text, config.tie_word_embeddings),
            vision=VisionSpec(
                depth=vision.num_hidden_layers, width=vision.hidden_size, heads=vision.num_attention_heads,
                inner=vision.intermediate_size, patch=patch, patch_bias=True, norm_eps=vision.layer_norm_eps,
                act="gelu_tanh", positions="bucket", table=side // patch, last_norm=True,
            ),
            connector=ConnectorSpec(merge=merge, bias=False, width=text.hidden_size),
            picture=PictureSpec(unit=merge * patch, size=(side, side), fixed=True, resample="lanczos"),
            prompt=PromptSpec(image_token="<image>", open=f"{around}<global-img>", close=around),
            image_token_id=config.image_token_id,
            max_positions=text.max_position_embeddings,
        )  # fmt: skip

    def processor_sizes(self) -> dict[str, int]:
        """See SpecFamily. A processor that cuts a photo into tiles is not followed: it is one tile."""
        return {}
