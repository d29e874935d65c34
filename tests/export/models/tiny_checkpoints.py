"""Tiny random checkpoints of every family, made by transformers' own classes, as a hub's folder holds them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from random_files import INTERNVL_TEMPLATE, LFM_TEMPLATE, LLAVA_TEMPLATE, SMOLVLM_TEMPLATE
from tokenizer_kinds import llama3_like, llama_like, smollm_like
from tokenizers import AddedToken
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

ROOT = Path(__file__).parents[3]
TINY = ROOT / "export/assets/vlmp-tiny"
TEXT: dict[str, Any] = dict(
    vocab_size=1600, hidden_size=128, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=1024, rms_norm_eps=1e-3,
)  # fmt: skip


def write_llava(folder: Path, seed: int) -> None:
    """LLaVA-1.5: 64 visual tokens, two of three blocks, as many key heads as query heads."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=llama_like("prepend"), unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = LLAVA_TEMPLATE
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<s>", "</s>", "<pad>", "<image>")}
    config = LlavaConfig(
        text_config=LlamaConfig(**TEXT | dict(num_key_value_heads=4, vocab_size=1024), pad_token_id=ids["<pad>"]),
        vision_config=CLIPVisionConfig(
            hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2, image_size=112,
            patch_size=14, layer_norm_eps=1e-3,
        ),
        image_token_index=ids["<image>"], image_seq_length=64,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["</s>"]
    model.generation_config.pad_token_id = ids["<pad>"]
    pixels = {"size": {"shortest_edge": 112}, "crop_size": {"height": 112, "width": 112}}
    write_processor(folder, "LlavaImageProcessor", pixels)
    tokenizer.save_pretrained(folder)
    save(model, folder, seed)


def write_qwen2_5_vl(folder: Path, seed: int) -> None:
    """Qwen2.5-VL: windows of 4 x 4 visual tokens in two of three blocks."""
    config = Qwen2_5_VLConfig(
        text_config=TEXT | qwen_rope([4, 6, 6]),
        vision_config=dict(
            depth=3, hidden_size=64, intermediate_size=96, num_heads=2, out_hidden_size=128, window_size=112,
            fullatt_block_indexes=[1],
        ),
        **qwen_ids(),
    )  # fmt: skip
    write_qwen(folder, Qwen2_5_VLForConditionalGeneration(config), {"patch_size": 14}, seed)


def write_qwen3_vl(folder: Path, seed: int) -> None:
    """Qwen3-VL: features of three blocks, heads larger than their share of the width."""
    rope = {"rope_type": "default", "rope_theta": 5e4, "mrope_section": [8, 6, 6], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=TEXT | {"num_hidden_layers": 4, "head_dim": 40, "rope_parameters": rope},
        vision_config=dict(
            depth=3, hidden_size=64, intermediate_size=96, num_heads=2, out_hidden_size=128, patch_size=16,
            num_position_embeddings=49, deepstack_visual_indexes=[0, 1, 2],
        ),
        **qwen_ids(),
    )  # fmt: skip
    pixels = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    write_qwen(folder, Qwen3VLForConditionalGeneration(config), pixels, seed)


def write_internvl(folder: Path, seed: int, text: dict[str, Any] | None = None) -> None:
    """InternVL: 36 visual tokens, a rotary embedding that is another one beyond the longest prompt.

    text: of the config of another language model than Qwen2.
    """
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 5e4}
    tokenizer = internvl_tokenizer()
    config = InternVLConfig(
        text_config=TEXT | (text or {"model_type": "qwen2", "rope_parameters": rope}),
        vision_config=dict(
            hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2, image_size=[168, 168],
            patch_size=[14, 14], attention_bias=True, layer_norm_eps=1e-3,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=36, tie_word_embeddings=False,
    )  # fmt: skip
    model = InternVLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    one_tile = {"size": {"height": 168, "width": 168}, "max_patches": 1}
    write_processor(folder, "GotOcr2ImageProcessor", imagenet | one_tile)
    tokenizer.save_pretrained(folder)
    save(model, folder, seed)


def internvl_tokenizer() -> Any:
    """That of vlmp-tiny with InternVL's tokens, which its processor looks for by name."""
    named = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(TINY, extra_special_tokens=named)
    tokenizer.chat_template = INTERNVL_TEMPLATE
    return tokenizer


def write_smolvlm(folder: Path, seed: int) -> None:
    """SmolVLM2: 81 visual tokens of 27 x 27 patches, as many as of the 2.2B, the last pixels of no patch."""
    own = smollm_like()
    own.add_special_tokens([AddedToken("<end_of_utterance>", normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = SMOLVLM_TEMPLATE
    pad, end, image = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<end_of_utterance>", "<image>"])
    config = SmolVLMConfig(
        text_config=LlamaConfig(**TEXT | dict(vocab_size=1024), pad_token_id=pad),
        vision_config=dict(
            hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2, image_size=166,
            patch_size=6, layer_norm_eps=1e-3,
        ),
        scale_factor=3, image_token_id=image,
    )  # fmt: skip
    model = SmolVLMForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, pad
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    one_tile = {"size": {"longest_edge": 166}, "max_image_size": {"longest_edge": 166}, "do_image_splitting": False}
    write_processor(folder, "SmolVLMImageProcessor", half | one_tile)
    tokenizer.save_pretrained(folder)
    save(model, folder, seed)


def write_lfm2_vl(folder: Path, seed: int) -> None:
    """LFM2-VL: 54 visual tokens of fewer rows than its table and more columns, attention in two of five layers."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=llama3_like(), bos_token="<|startoftext|>", eos_token="<|im_end|>", pad_token="<|im_start|>"
    )
    tokenizer.chat_template = LFM_TEMPLATE
    start, end, pad, image = tokenizer.convert_tokens_to_ids(
        ["<|startoftext|>", "<|im_end|>", "<|im_start|>", "<image>"]
    )
    text = {name: value for name, value in TEXT.items() if name != "rms_norm_eps"}
    config = Lfm2VlConfig(
        text_config=text
        | dict(
            model_type="lfm2", vocab_size=1024, num_hidden_layers=5, norm_eps=1e-3, bos_token_id=start,
            eos_token_id=end, pad_token_id=pad, block_multiple_of=32, full_attn_idxs=[2, 4],
        ),
        vision_config=dict(
            model_type="siglip2_vision_model", hidden_size=64, intermediate_size=96, num_hidden_layers=3,
            num_attention_heads=2, patch_size=16, num_patches=225, layer_norm_eps=1e-3, vision_use_head=False,
        ),
        projector_hidden_size=80, image_token_id=image,
    )  # fmt: skip
    model = Lfm2VlForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, pad
    pixels = {"patch_size": 16, "max_num_patches": 216, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    write_processor(folder, "Siglip2ImageProcessor", pixels)
    tokenizer.save_pretrained(folder)
    save(model, folder, seed)


def qwen_rope(sections: list[int]) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4, "mrope_section": sections}}


def qwen_ids() -> dict[str, int]:
    """Of vlmp-tiny's tokenizer, which these checkpoints have, too."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    keys = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in zip(keys, names, strict=True)}


def write_qwen(folder: Path, model: Any, pixels: dict[str, Any], seed: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    write_processor(
        folder, "Qwen2VLImageProcessor", {"min_pixels": 1, "max_pixels": 60 * (2 * pixels["patch_size"]) ** 2} | pixels
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / name, folder / name)
    save(model, folder, seed)


def write_processor(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    clip = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **clip, **settings}))


def save(model: nn.Module, folder: Path, seed: int) -> None:
    """With every weight drawn anew.

    As transformers draws them norms, biases and tables would change next to nothing, and a wrong use of one passed.
    """
    noise = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=noise)
        if parameter.ndim == 1:  # biases around zero, norms around one
            values = values * 0.2 + float(name.endswith("weight"))
        elif "embed_tokens" not in name:
            inputs = parameter.shape[-1:] if "position_embedding" in name else parameter.shape[1:]
            values = values * 1.5 / math.sqrt(math.prod(inputs))
        parameter.data = values
    model.save_pretrained(folder)  # type: ignore[operator]


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "llava": write_llava,
    "qwen2_5_vl": write_qwen2_5_vl,
    "qwen3_vl": write_qwen3_vl,
    "internvl": write_internvl,
    "smolvlm": write_smolvlm,
    "lfm2_vl": write_lfm2_vl,
}
"""By `model_type`."""
