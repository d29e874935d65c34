"""Write a Qwen2-VL checkpoint with random weights: speed, size and memory do not depend on their values.

    python benchmarks/make_random.py --output /tmp/qwen2-vl-2b-random              # all of Qwen2-VL-2B
    python benchmarks/make_random.py --output /tmp/wide --layers 4 --vision-layers 2 --vocab 32768   # full widths, thin

With a vocabulary as large as the model's own comes a tokenizer as large as its own, learnt from Python's sources; with
a smaller one that of vlmp-tiny, and ids beyond it are never used.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

SHARD_BYTES = 1 << 30
WORDS = 151643
"""Of Qwen2-VL's byte-level BPE, before its special tokens."""
PIXELS = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16384}
"""Limits of the published preprocessor."""
INTO_RESIDUAL = ("attn.proj.weight", "mlp.fc2.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight")
TINY = Path(str(files("vlmp.export"))) / "assets" / "vlmp-tiny"


def main() -> None:
    """Write config, tokenizer and shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--vision-layers", type=int, default=32)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    write_checkpoint(
        arguments.output, layers=arguments.layers, vision_layers=arguments.vision_layers, vocab=arguments.vocab,
        seed=arguments.seed,
    )  # fmt: skip
    print(f"{arguments.output}: {sum(p.stat().st_size for p in arguments.output.iterdir()) / 2**30:.2f} GiB")


def write_checkpoint(folder: Path, *, layers: int, vision_layers: int, vocab: int, seed: int = 0) -> None:
    """Config, tokenizer and shards in a new folder."""
    folder.mkdir(parents=True)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / name, folder / name)
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    if vocab >= WORDS + len(tokenizer.get_added_tokens_decoder()):
        tokenizer = learn_tokenizer(tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = qwen2_vl_2b(layers, vision_layers, vocab, tokenizer)
    ends = [tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends, "pad_token_id": ends[1]}))
    config.save_pretrained(folder)
    preprocessor = json.loads((TINY / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor | PIXELS))
    write_shards(config, folder, torch.Generator().manual_seed(seed))


def learn_tokenizer(like: Tokenizer) -> Tokenizer:
    """A byte-level BPE of `WORDS` words from the sources of Python and transformers; special tokens are `like`'s."""
    learnt = Tokenizer(models.BPE())
    learnt.normalizer, learnt.pre_tokenizer, learnt.decoder = like.normalizer, like.pre_tokenizer, like.decoder
    folders = [Path(module.__file__ or "").parent for module in (os, transformers)]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    learnt.train_from_iterator(
        (path.read_text(encoding="utf-8", errors="replace") for path in paths),
        trainers.BpeTrainer(
            vocab_size=WORDS,
            min_frequency=1,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    special = like.get_added_tokens_decoder()
    learnt.add_special_tokens(
        [AddedToken(str(special[index]), special=True, normalized=False) for index in sorted(special)]
    )
    return learnt


def qwen2_vl_2b(layers: int, vision_layers: int, vocab: int, tokenizer: Tokenizer) -> Qwen2VLConfig:
    """The published config of Qwen2-VL-2B-Instruct, with fewer layers or words if asked."""
    names = {
        "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
    }  # fmt: skip
    ids = {name: tokenizer.token_to_id(token) for name, token in names.items()}
    text = {
        "vocab_size": vocab, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": layers,
        "num_attention_heads": 12, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    vision = {"depth": vision_layers, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536, "mlp_ratio": 4}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def write_shards(config: Qwen2VLConfig, folder: Path, generator: torch.Generator) -> None:
    """bfloat16 tensors, drawn one by one and written as soon as a shard is full."""
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    number = 0

    def flush() -> None:
        nonlocal number
        number += 1
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, tensor in random_tensors(config, generator):
        shard[name] = tensor
        if sum(t.nbytes for t in shard.values()) > SHARD_BYTES:
            flush()
    flush()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def random_tensors(config: Qwen2VLConfig, generator: torch.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values; norms stay near 1, the rest keeps activations of order 1.

    What is added to the residual stream is scaled down with the depth, as GPT-2 begins: otherwise all visual tokens end
    up alike, and which of them a pruner keeps is a matter of the last bit.
    """
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Qwen2VLForConditionalGeneration(config).named_parameters()}
    for name, shape in shapes.items():
        if name == "lm_head.weight":
            continue  # tied
        values = torch.randn(shape, generator=generator, dtype=torch.float32)
        if len(shape) > 1:
            values *= shape[1:].numel() ** -0.5
            if name.endswith(INTO_RESIDUAL):
                depth = config.vision_config.depth if "visual" in name else config.text_config.num_hidden_layers
                values *= (2 * depth) ** -0.5
        elif "norm" in name or "ln_q" in name:
            values = values * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        else:
            values *= 0.1
        yield name, values.to(torch.bfloat16)


if __name__ == "__main__":
    main()
