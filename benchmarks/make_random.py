"""Write a checkpoint with random weights: speed, size and memory do not depend on their values.

    python benchmarks/make_random.py --output /tmp/qwen2-vl-2b-random              # all of Qwen2-VL-2B
    python benchmarks/make_random.py --model llava-1.5-7b --output /tmp/llava      # any model of `--list models`
    python benchmarks/make_random.py --output /tmp/wide --layers 4 --vision-layers 2 --vocab 32768   # full widths, thin

With a vocabulary as large as the model's own comes a tokenizer as large as its own, learnt from Python's sources; with
a smaller one a smaller tokenizer, and ids beyond it are never used.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from random_files import write_preprocessor, write_tokenizer
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText
from vlmp.export.listing import config_folder
from vlmp.export.models import MODELS

SHARD_BYTES = 1 << 30
INTO_RESIDUAL = (
    "attn.proj.weight", "mlp.fc2.weight", "o_proj.weight", "out_proj.weight", "down_proj.weight",
    "mlp.linear_fc2.weight", "projection_layer.weight", "feed_forward.w2.weight",
)  # fmt: skip


def main() -> None:
    """Write config, tokenizer and shards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", choices=MODELS, default="qwen2-vl-2b", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--layers", type=int, help="of the language model, instead of all")
    parser.add_argument("--vision-layers", type=int, help="instead of all")
    parser.add_argument("--vocab", type=int, help="instead of the model's")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    write_checkpoint(
        arguments.output, arguments.model, layers=arguments.layers, vision_layers=arguments.vision_layers,
        vocab=arguments.vocab, seed=arguments.seed,
    )  # fmt: skip
    print(f"{arguments.output}: {sum(p.stat().st_size for p in arguments.output.iterdir()) / 2**30:.2f} GiB")


def write_checkpoint(
    folder: Path,
    model: str = "qwen2-vl-2b",
    *,
    layers: int | None = None,
    vision_layers: int | None = None,
    vocab: int | None = None,
    seed: int = 0,
) -> None:
    """Config, tokenizer and shards in a new folder. Sizes that are not given are those of the published config."""
    folder.mkdir(parents=True)
    config: Any = AutoConfig.from_pretrained(config_folder(model))
    text, vision = config.text_config, config.vision_config
    text.vocab_size = vocab or text.vocab_size
    if layers:
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    if vision_layers:
        vision.num_hidden_layers = vision_layers
        if hasattr(vision, "fullatt_block_indexes"):
            vision.fullatt_block_indexes = [vision_layers - 1]
        if hasattr(vision, "deepstack_visual_indexes"):
            taps = vision.deepstack_visual_indexes
            vision.deepstack_visual_indexes = list(range(min(len(taps), vision_layers)))
    for name, index in write_tokenizer(folder, config.model_type, text.vocab_size).items():
        setattr(config, name, index)
    text.bos_token_id = text.eos_token_id = None
    config.save_pretrained(folder)
    write_preprocessor(folder, config.model_type, vision)
    write_shards(config, folder, torch.Generator().manual_seed(seed))


def write_shards(config: Any, folder: Path, generator: torch.Generator) -> None:
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


def random_tensors(config: Any, generator: torch.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values; norms stay near 1, the rest keeps activations of order 1.

    What is added to the residual stream is scaled down with the depth, as GPT-2 begins: otherwise all visual tokens end
    up alike, and which of them a pruner keeps is a matter of the last bit.
    """
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in AutoModelForImageTextToText.from_config(config).named_parameters()}
    for name, shape in shapes.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = torch.randn(shape, generator=generator, dtype=torch.float32)
        if len(shape) > 1:
            values *= shape[1:].numel() ** -0.5
            if name.endswith(INTO_RESIDUAL):
                is_text = "language_model" in name or "text_model" in name
                part = config.text_config if is_text else config.vision_config
                values *= (2 * part.num_hidden_layers) ** -0.5
        elif "norm" in name or "ln_q" in name:
            values = values * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        else:
            values *= 0.1
        yield name, values.to(torch.bfloat16)


if __name__ == "__main__":
    main()
