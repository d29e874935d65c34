"""What the static graphs are compared with: transformers' own model, and the same pruned between two decoder layers.

Nothing here is shared with `vlmp.export`: the layers, the rotary tables, the positions and the caches are those of
transformers, and only the choice of tokens is that of `vlmp.pruner`, which tests/pruner checks.

Dims: N visual tokens, L tokens, A axes of positions, S kept, D hidden size, C key width, V vocabulary.
"""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    DynamicCache,
    InternVLProcessor,
    Lfm2VlProcessor,
    LlavaProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
    SmolVLMProcessor,
)
from transformers.models.smolvlm import processing_smolvlm
from vlmp.pruner import PrunerConfig, PruneResult, build_pruner


def image_only(kind: Any, **settings: Any) -> Any:
    """One of transformers' processors without videos, for which it wants torchvision."""

    class ImageOnly(kind):
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None) -> None:
            super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **settings)

    return ImageOnly


class OneTile(Lfm2VlProcessor):
    """That of LFM2-VL over SigLIP2's pictures, which it makes of one tile by itself: its own wants torchvision."""

    images_kwargs: ClassVar[dict[str, Any]] = {}

    def _process_images(self, images: Any, **settings: Any) -> tuple[Any, list[str]]:
        seen = self.image_processor(images, return_tensors="pt")
        tokens = int(seen["spatial_shapes"][0].prod()) // 4
        return seen, [self._build_image_tokens(1, 1, tokens, tokens, False, True)]


def processor_of(config: Any, images: Any, tokenizer: Any) -> Any:
    """What makes a model's inputs of a text and a photo."""
    match config.model_type:
        case "llava":
            return LlavaProcessor(
                images, tokenizer, patch_size=config.vision_config.patch_size, vision_feature_select_strategy="default",
                num_additional_image_tokens=1, chat_template=tokenizer.chat_template,
            )  # fmt: skip
        case "internvl":
            kind = image_only(InternVLProcessor, image_seq_length=config.image_seq_length)
            return kind(images, tokenizer, tokenizer.chat_template)
        case "smolvlm":
            side = config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor
            kind = image_only(SmolVLMProcessor, image_seq_len=side**2)
            with patch.object(processing_smolvlm, "num2words", str):  # which it wants for videos alone
                return kind(images, tokenizer, tokenizer.chat_template)
        case "lfm2_vl":
            return OneTile(images, tokenizer, tokenizer.chat_template)
        case "qwen2_5_vl":
            return image_only(Qwen2_5_VLProcessor)(images, tokenizer, tokenizer.chat_template)
        case "qwen3_vl":
            return image_only(Qwen3VLProcessor)(images, tokenizer, tokenizer.chat_template)
        case "qwen2_vl":
            return image_only(Qwen2VLProcessor)(images, tokenizer, tokenizer.chat_template)
        case other:
            raise ValueError(other)


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """A checkpoint as transformers runs it: eager attention, float32."""

    folder: Path
    model: Any
    processor: Any

    @classmethod
    def open(cls, folder: Path) -> Original:
        """Load model and processor."""
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        images = AutoImageProcessor.from_pretrained(folder, backend="pil")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(folder=folder, model=model.eval(), processor=processor_of(model.config, images, tokenizer))

    def render(self, question: str, *later: str) -> str:
        """The chat as text up to the next answer. later: answer, question, answer, question, ..."""
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
        ]
        for index, text in enumerate(later):
            messages.append({"role": ("assistant", "user")[index % 2], "content": [{"type": "text", "text": text}]})
        return self.processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def inputs(self, photo: Image.Image, question: str) -> dict[str, Tensor]:
        """The model's inputs for one question about one photo, as the processor makes them."""
        return dict(self.processor(text=[self.render(question)], images=[photo], return_tensors="pt"))

    def append(self, inputs: dict[str, Tensor], ids: list[int]) -> dict[str, Tensor]:
        """The same inputs with more text tokens behind them."""
        more = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
        if "mm_token_type_ids" in inputs:
            more["mm_token_type_ids"] = torch.zeros(1, len(ids), dtype=inputs["mm_token_type_ids"].dtype)
        return inputs | {name: torch.cat([inputs[name], new], 1) for name, new in more.items()}

    @torch.no_grad()
    def visual(self, inputs: dict[str, Tensor]) -> Tensor:
        """Visual tokens [N, D], with the features that go with them beside them."""
        tokens, features = self.seen(inputs)
        return torch.cat([tokens, *features], 1)

    @torch.no_grad()
    def seen(self, inputs: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Visual tokens [N, D], and the features that are added to the output of the first layers, the same."""
        names = ("pixel_values", "pixel_attention_mask", "image_grid_thw", "spatial_shapes")
        given = {name: inputs[name] for name in names if name in inputs}
        seen = self.model.model.get_image_features(**given)
        features = getattr(seen, "deepstack_features", None) or ()  # of each layer one tensor a picture
        return torch.cat(list(seen.pooler_output)), [torch.cat(list(each)) for each in features]

    def is_visual(self, inputs: dict[str, Tensor]) -> Tensor:
        """Which tokens of the prompt are visual. bool [L]."""
        return inputs["input_ids"][0] == self.model.config.image_token_id

    def positions(self, inputs: dict[str, Tensor]) -> Tensor:
        """Of each token on each axis [A, L]."""
        if "image_grid_thw" not in inputs:
            return torch.arange(inputs["input_ids"].shape[1])[None]
        places = [inputs[name] for name in ("input_ids", "mm_token_type_ids", "image_grid_thw")]
        return self.model.model.get_rope_index(*places)[0][:, 0]

    @torch.no_grad()
    def generate(self, inputs: dict[str, Tensor], tokens: int) -> tuple[list[int], Tensor]:
        """The greedy answer of transformers' `generate`, and the logits [tokens, V] that each token was chosen from."""
        output = self.model.generate(
            **inputs, max_new_tokens=tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        return output.sequences[0, inputs["input_ids"].shape[1] :].tolist(), torch.cat(output.logits)

    @property
    def decoder(self) -> Any:
        """The language model without its head."""
        model = self.model.model
        return model.text_model if hasattr(model, "text_model") else model.language_model

    def image_size(self, inputs: dict[str, Tensor]) -> tuple[int, int]:
        """Height and width in pixels of what the processor makes of a photo."""
        if "spatial_shapes" in inputs:
            height, width = (inputs["spatial_shapes"][0] * self.model.config.vision_config.patch_size).tolist()
            return height, width
        if "image_grid_thw" not in inputs:
            height, width = inputs["pixel_values"].shape[-2:]
            return height, width
        unit = self.model.config.vision_config.patch_size * 2
        rows, columns = self.grid(inputs)
        return rows * unit, columns * unit

    def grid(self, inputs: dict[str, Tensor]) -> tuple[int, int]:
        """Merged visual tokens (rows, columns)."""
        if "spatial_shapes" in inputs:
            rows, columns = inputs["spatial_shapes"][0].tolist()
            return rows // 2, columns // 2
        if "image_grid_thw" not in inputs:
            side = math.isqrt(int(self.is_visual(inputs).sum()))
            return side, side
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        return rows // 2, columns // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """One stage: before decoder layer `layer`, a method keeps some of the visual tokens that are left."""

    layer: int
    config: PrunerConfig
    pruner: str = "vlm-pruner"


class Pruned:
    """One conversation with transformers' layers, its visual tokens pruned before some of them."""

    def __init__(self, original: Original, stages: Sequence[Pruning]) -> None:
        self.original, self.stages = original, stages
        self.cache = DynamicCache(config=original.model.config.text_config)
        self.axes = self.next_position = 0
        self.features: list[Tensor] = []
        self.kept: list[Tensor] = []
        """Of each stage, int64, on the whole grid."""
        self.order_S = torch.zeros(0, dtype=torch.int64)
        self.attention_L = torch.zeros(0)
        """What the last token attends to in the layer that ran last."""
        self.log_weight_L = torch.zeros(0)
        """Of the tokens that are left of the first turn: what is added to the scores of each."""
        self.biases: dict[int, Tensor] = {}
        """Layer -> the same, as that layer saw the first turn."""

    @torch.no_grad()
    def prefill(self, inputs: dict[str, Tensor]) -> Tensor:
        """Fill the ragged caches with image and first question. Returns logits [V]."""
        model = self.original.model.model
        is_visual_L = self.original.is_visual(inputs)

        hidden_LD = model.get_input_embeddings()(inputs["input_ids"])[0]
        hidden_LD[is_visual_L], self.features = self.original.seen(inputs)
        position_AL = self.original.positions(inputs)
        self.axes, self.next_position = position_AL.shape[0], int(position_AL.max()) + 1
        # Where on the grid a token stands; text nowhere.
        place_L = torch.where(is_visual_L, is_visual_L.cumsum(0) - 1, -1)
        self.log_weight_L = torch.zeros(len(place_L))

        first = 0
        for stage in self.stages:
            hidden_LD = self._run(slice(first, stage.layer), hidden_LD, position_AL, place_L)
            visual_N = (place_L >= 0).nonzero()[:, 0]
            result = self._choose(stage, hidden_LD, place_L, self.original.grid(inputs))
            self.kept.append(place_L[visual_N][result.kept_S])
            self.order_S = place_L[visual_N][result.order_S]
            log_weight_S = torch.zeros(len(result.kept_S))
            if stage.config.weigh:
                log_weight_S = log_weights(hidden_LD[visual_N], result.kept_S, self.log_weight_L[visual_N])
            self.log_weight_L[visual_N[result.kept_S]] = log_weight_S
            hidden_LD[visual_N[result.kept_S]] = result.hidden_SD
            stays_L = torch.logical_or(place_L < 0, torch.isin(place_L, self.kept[-1]))
            hidden_LD, position_AL, place_L = hidden_LD[stays_L], position_AL[:, stays_L], place_L[stays_L]
            self.log_weight_L = self.log_weight_L[stays_L]
            first = stage.layer
        return self._logits(self._run(slice(first, None), hidden_LD, position_AL, place_L))

    def _choose(self, stage: Pruning, hidden_LD: Tensor, place_L: Tensor, grid: tuple[int, int]) -> PruneResult:
        """What a stage keeps of the visual tokens that have a place."""
        is_visual_L = place_L >= 0
        keys_NC = attention_N = None
        if stage.layer > 0 and hasattr(self.original.decoder.layers[stage.layer - 1], "self_attn"):
            key_JLd = self.cache.layers[stage.layer - 1].keys[0]
            keys_NC = key_JLd[:, is_visual_L].transpose(0, 1).flatten(1)
            attention_N = self.attention_L[is_visual_L]
        pruner = build_pruner(stage.pruner, grid, stage.config, tokens=int(is_visual_L.sum()))
        return pruner(hidden_LD[is_visual_L], keys_NC, attention_N, place_L[is_visual_L])

    @torch.no_grad()
    def decode(self, token: int) -> Tensor:
        """Append one text token. Returns logits [V]."""
        hidden_1D = self.original.model.model.get_input_embeddings()(torch.tensor([token]))
        position_A1 = torch.full((self.axes, 1), self.next_position)
        self.next_position += 1
        return self._logits(self._run(slice(None), hidden_1D, position_A1))

    def answer(self, logits: Tensor, tokens: int) -> tuple[list[int], Tensor]:
        """`tokens` greedy tokens and the logits [tokens, V] that each was chosen from; the last one is not fed."""
        ids, seen = [int(logits.argmax())], [logits]
        while len(ids) < tokens:
            seen.append(self.decode(ids[-1]))
            ids.append(int(seen[-1].argmax()))
        return ids, torch.stack(seen)

    def _run(self, which: slice, hidden_LD: Tensor, position_AL: Tensor, place_L: Tensor | None = None) -> Tensor:
        """Some of the decoder layers, behind what their caches hold. place_L: of visual tokens, -1 of text."""
        decoder, tokens = self.original.decoder, hidden_LD.shape[0]
        hidden = hidden_LD[None]
        rope = decoder.rotary_emb(hidden, position_AL if self.axes == 1 else position_AL[:, None])
        for number, layer in list(enumerate(decoder.layers))[which]:
            # Several tokens come at once only in the prefill, when the caches are empty.
            if not hasattr(layer, "self_attn"):  # a convolution, over what is left as if it had always been so
                hidden = layer(hidden, position_embeddings=rope, past_key_values=self.cache)
                continue
            if tokens > 1:
                self.biases[number] = self.log_weight_L.clone()
            bias_L = self.biases[number]
            seen = tokens if tokens > 1 else self.cache.get_seq_length(number) + 1
            mask = torch.full((1, 1, tokens, tokens), -math.inf).triu(1) if tokens > 1 else torch.zeros(1, 1, 1, seen)
            mask = mask + torch.cat([bias_L, torch.zeros(seen - len(bias_L))])
            note = layer.self_attn.register_forward_hook(self._note)
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rope, past_key_values=self.cache)
            note.remove()
            if place_L is not None and number < len(self.features):
                hidden[0, place_L >= 0] += self.features[number][place_L[place_L >= 0]]
        return hidden[0]

    def _note(self, _module: Any, _given: Any, made: tuple[Tensor, Tensor]) -> None:
        self.attention_L = made[1][0, :, -1].mean(0)

    def _logits(self, hidden_LD: Tensor) -> Tensor:
        decoder = self.original.decoder
        norm = decoder.embedding_norm if hasattr(decoder, "embedding_norm") else decoder.norm
        return self.original.model.lm_head(norm(hidden_LD[-1]))


def log_weights(hidden_ND: Tensor, kept_S: Tensor, before_N: Tensor) -> Tensor:
    """How many tokens each kept one stands for, as a logarithm, token by token in float64. before_N: the same before.

    Each token is divided among the kept ones by exp(20 cosine).
    """
    hidden_ND = hidden_ND.double()
    weight_S = torch.zeros(len(kept_S), dtype=torch.float64)
    for hidden_D, before in zip(hidden_ND, before_N.double(), strict=True):
        pull_S = torch.stack([torch.cosine_similarity(hidden_D, hidden_ND[kept], 0) for kept in kept_S]).mul(20).exp()
        weight_S += before.exp() * pull_S / pull_S.sum()
    return weight_S.log().float()


# Gains over 1/sqrt(fan in), found by a part of the name. With 1.7 for queries and keys an attention row rests on a few
# to a few dozen keys: less makes it uniform, more makes it one-hot, and then decoding is too sensitive to rounding.
GAINS = {"q_proj": 1.7, "k_proj": 1.7, "o_proj": 0.7, "gate_proj": 1.2, "attn.qkv": 1.2, "attn.proj": 0.7, "": 1.0}
JITTER = 0.2  # spread of biases around zero and of norm weights around one
# The head is tied to the embedding. Small rows and a large last norm give the logits the same spread as the opposite,
# but then a token adds little to its own logit, which would otherwise repeat it for ever.
EMBEDDING_SCALE = 0.03
FINAL_NORM = 5.0


def write_untrained(folder: Path, tiny: Path, *, seed: int) -> None:
    """Save vlmp-tiny with random weights: unlike the trained ones they give long answers, which depend on everything.

    Activations are as lively as a trained model's; every bias is off zero and every norm weight off one, so that a
    forgotten one shows up as a wrong answer.
    """
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    weights = load_file(tiny / "model.safetensors")
    first_special = min(AutoTokenizer.from_pretrained(tiny).added_tokens_decoder)
    for name, old in weights.items():
        noise = torch.from_numpy(np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(old.shape))
        if "embed_tokens" in name:
            noise *= EMBEDDING_SCALE
            # Kept from being a greedy choice: single bytes do not read well, special tokens would end an answer.
            noise[:256] *= 0.5
            noise[first_special:] *= 0.3
        elif old.ndim > 1:
            noise *= next(gain for part, gain in GAINS.items() if part in name) / math.sqrt(math.prod(old.shape[1:]))
        else:
            noise = noise * JITTER + float(name.endswith("weight"))
            noise *= FINAL_NORM if name == "model.norm.weight" else 1.0
        weights[name] = noise.to(old.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_other(folder: Path, tiny: Path, *, seed: int, layers: int = 5, blocks: int = 3) -> None:
    """Save a random Qwen2-VL in bfloat16 that shares no size with vlmp-tiny, but its tokenizer.

    Three query heads a key head, uneven M-RoPE sections, odd head sizes, an untied head, patches of 16 pixels, more
    hidden channels than the pruner compares, and lively weights: transformers' own would give nearly uniform logits.
    """
    token = {
        name: AutoTokenizer.from_pretrained(tiny).convert_tokens_to_ids(f"<|{name}|>")
        for name in ("endoftext", "im_end", "image_pad", "video_pad", "vision_start", "vision_end")
    }
    config = Qwen2VLConfig(
        text_config=dict(
            vocab_size=1600, hidden_size=288, intermediate_size=416, num_hidden_layers=layers, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=1024, rms_norm_eps=1e-2,
            bos_token_id=token["endoftext"], eos_token_id=token["im_end"],
            rope_parameters={"rope_type": "default", "rope_theta": 5e4, "mrope_section": [5, 8, 11]},
        ),
        vision_config=dict(depth=blocks, embed_dim=120, num_heads=3, mlp_ratio=3, hidden_size=288, patch_size=16),
        tie_word_embeddings=False,
        image_token_id=token["image_pad"],
        video_token_id=token["video_pad"],
        vision_start_token_id=token["vision_start"],
        vision_end_token_id=token["vision_end"],
    )  # fmt: skip
    model = Qwen2VLForConditionalGeneration(config)
    noise = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=noise)
        if parameter.ndim == 1:  # biases around zero, norms around one
            values = values * 0.2 + float(name.endswith("weight"))
        elif "embed_tokens" not in name:
            values = values * 1.5 / math.sqrt(math.prod(parameter.shape[1:]))
        parameter.data = values
    model.generation_config.eos_token_id = token["im_end"]
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny / name, folder / name)
    AutoImageProcessor.from_pretrained(
        tiny, backend="pil", patch_size=16, min_pixels=1, max_pixels=60_000
    ).save_pretrained(folder)
