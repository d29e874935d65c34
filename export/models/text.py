"""Language models that families take whole, with tokens in a row: Llama, Qwen2 and Qwen3."""

from collections.abc import Mapping
from typing import Any

from vlmp.export.models.spec import DecoderSpec, LayerSpec, RopeSpec

SIZES = ("hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
         "num_hidden_layers", "num_key_value_heads", "vocab_size", "head_dim")  # fmt: skip


def text_sizes(text: Any) -> dict[str, int]:
    """What of its config must be at least 1. Qwen2's has no head_dim."""
    return {f"text {name}": getattr(text, name) for name in SIZES if getattr(text, name, None) is not None}


def text_wanted(text: Any) -> Mapping[str, tuple[object, object]]:
    """Values of its config, and the only ones that are computed."""
    rope = text.rope_parameters
    kind = rope.get("rope_type", "default")
    return {
        "text hidden_act": (text.hidden_act, "silu"),
        # `dynamic` is the same up to max_position_embeddings, beyond which nothing is exported.
        "rope_type": (kind, kind if kind == "dynamic" else "default"),
        "partial_rotary_factor": (rope.get("partial_rotary_factor", 1.0), 1.0),
        # Of Qwen2 queries, keys and values have biases whatever its config says.
        "attention_bias": (text.model_type != "qwen2" and text.attention_bias, False),
        "mlp_bias": (getattr(text, "mlp_bias", False), False),
        "use_sliding_window": (bool(getattr(text, "use_sliding_window", False)), False),
        "heads mod kv heads": (text.num_attention_heads % text.num_key_value_heads, 0),
        "head_dim mod 2": (_head_dim(text) % 2, 0),
    }


def text_decoder(text: Any, tied: bool) -> DecoderSpec:
    """The language model. tied: whether its head is the embedding."""
    layer = LayerSpec(kv_heads=text.num_key_value_heads, head_dim=_head_dim(text), inner=text.intermediate_size)
    return DecoderSpec(
        width=text.hidden_size, vocab=text.vocab_size, heads=text.num_attention_heads,
        layers=(layer,) * text.num_hidden_layers, tied=tied, norm_eps=text.rms_norm_eps,
        rope=RopeSpec(theta=float(text.rope_parameters["rope_theta"])),
        qkv_bias=text.model_type == "qwen2", qk_norm=text.model_type == "qwen3",
    )  # fmt: skip


def _head_dim(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
