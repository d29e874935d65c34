"""Small random models of transformers, and their weights in our modules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from vlmp.export.models.loading import Names, load
from vlmp.export.weights import Weights


def enliven(model: nn.Module, seed: int = 0) -> None:
    """Draw every weight anew: as transformers draws them, norms, biases and tables would change next to nothing."""
    noise = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=noise)
        inputs = math.prod(parameter.shape[1:])
        parameter.data = drawn * 0.6 / math.sqrt(inputs) if parameter.ndim > 1 else parameter.data + drawn * 0.3


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], names: Names, transforms: Mapping[str, str], folder: Path
) -> None:
    """Give a module, which was built on the meta device, the weights of a model by way of a checkpoint's file."""
    save_file({name: value.detach().clone() for name, value in tensors.items()}, folder / "model.safetensors")
    with Weights(folder, ()) as weights:
        load(module, weights, names, transforms, torch.float32, None, lambda _: "late", torch.float32)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """The largest difference is rounding beside the largest value."""
    assert found.shape == wanted.shape
    error = ((found - wanted).abs().max() / wanted.abs().max()).item()
    assert error < 1e-5, f"relative error {error:.2e}"
