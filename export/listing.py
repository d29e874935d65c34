"""What `vlmp-export --list models` tells of each model, computed from its config."""

from importlib.resources import files
from pathlib import Path

import torch
from torch import nn
from vlmp.export.checkpoint import locate
from vlmp.export.models import MODELS, open_family
from vlmp.export.models.decoder import Decoder
from vlmp.export.models.vision import Vision
from vlmp.export.plan import own_layer
from vlmp.export.schedule import DEFAULT_PRUNER

GROUP_BITS = 4.5
"""Of a weight in groups, its share of a scale included: all targets have 4 bits, and half a bit of scales."""


def config_folder(name: str) -> Path:
    """Where the config of a named model is in this package, as its checkpoint has it."""
    checkpoint = MODELS[name].checkpoint
    if checkpoint.startswith("bundled:"):
        return locate(checkpoint)
    return Path(str(files("vlmp.export"))) / "assets" / "configs" / name


def described_model(name: str) -> str:
    """A line on a named model."""
    entry = MODELS[name]
    family = open_family(entry.family, config_folder(name))
    height, width = entry.image_size or family.picture.size
    grid = height // family.picture.unit, width // family.picture.unit
    spec = family.spec
    with torch.device("meta"):
        vision, decoder = Vision(spec.vision, spec.connector, grid), Decoder(spec.decoder)
    parameters = sum(tensor.numel() for module in (vision, decoder) for tensor in module.parameters())
    return (
        f"{name:<16}{_short(parameters)} parameters, {grid[0] * grid[1]} visual tokens at {height}x{width} pixels, "
        f"pruned before layer {own_layer(DEFAULT_PRUNER, family)}, {_short(int4_bytes(vision, decoder))}B at int4"
    )


def int4_bytes(vision: Vision, decoder: Decoder) -> int:
    """Of a bundle's weights at int4: decoder layers in groups, other matrices in bytes, the rest as floats.

    A head that is the embedding is not counted twice.
    """
    size = 0.0
    for root, part in ((vision, vision), (decoder, decoder.layers)):
        grouped = {id(tensor) for tensor in part.parameters()} if part is not root else set()
        for module in root.modules():
            for name, tensor in module.named_parameters(recurse=False):
                if name != "weight" or not isinstance(module, nn.Linear | nn.Embedding):
                    size += 4 * tensor.numel()
                elif id(tensor) in grouped:
                    size += GROUP_BITS / 8 * tensor.numel()
                else:
                    size += tensor.numel() + 4 * tensor.shape[0]
    return int(size)


def _short(number: float) -> str:
    """1.5 G, 12 M."""
    unit, letter = (10**9, "G") if number >= 10**9 else (10**6, "M")
    return f"{number / unit:.3g} {letter}"
