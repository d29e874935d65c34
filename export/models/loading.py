"""Checkpoint tensors into modules: one by one, quantized as soon as read."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from vlmp.export.models.layers import JoinedLinear
from vlmp.export.quantize import Part, QuantEmbedding, Quantizer
from vlmp.export.weights import Weights

Names = Mapping[str, str | tuple[str, ...]]
"""Our module -> the checkpoint's, several where their outputs are joined. `{}` stands for a layer's number."""


def load(
    root: nn.Module,
    weights: Weights,
    names: Names,
    dtype: torch.dtype,
    quantizer: Quantizer | None,
    part: Callable[[str], Part],
    holds: torch.dtype,
) -> None:
    """Put the checkpoint's tensors into a module built on the meta device.

    part: of the model, by the name of a module. holds: what the export keeps values in, which may be smaller than
    `dtype`. Raises UserError when a tensor is missing, has a shape that does not fit the config, or values that are not
    finite or that `holds` cannot hold.
    """
    for ours, theirs in list(checkpoint_tensors(root, names)):
        owner_name, _, leaf = ours.rpartition(".")
        owner = root.get_submodule(owner_name)
        value = _joined([_read(weights, owner, name, shape, holds) for name, shape in theirs.items()])
        if quantizer and leaf == "weight" and isinstance(owner, nn.Linear | nn.Embedding):
            layer = quantizer.layer(part(owner_name), next(iter(theirs)), value)
            if layer:
                above, _, name = owner_name.rpartition(".")
                setattr(
                    root.get_submodule(above), name, QuantEmbedding(layer) if isinstance(owner, nn.Embedding) else layer
                )
                continue
        setattr(owner, leaf, nn.Parameter(value.to(dtype), requires_grad=False))


def checkpoint_tensors(root: nn.Module, names: Names) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """(our name, the checkpoint's names with the shapes that they must have) of each parameter."""
    for ours, parameter in root.named_parameters():
        owner_name, _, leaf = ours.rpartition(".")
        number = next((part for part in owner_name.split(".") if part.isdigit()), "")
        theirs = names[owner_name.replace(f".{number}", ".{}", 1) if number else owner_name]
        owner = root.get_submodule(owner_name)
        rows = owner.sizes if isinstance(owner, JoinedLinear) else (parameter.shape[0],)
        sources = (theirs,) if isinstance(theirs, str) else theirs
        yield (
            ours,
            {
                f"{source.format(number)}.{leaf}": (count, *parameter.shape[1:])
                for source, count in zip(sources, rows, strict=True)
            },
        )


def _read(weights: Weights, owner: nn.Module, name: str, shape: tuple[int, ...], holds: torch.dtype) -> Tensor:
    if not isinstance(owner, nn.Conv2d):
        return weights.get(name, shape, holds)
    # Two equal frames under a Conv3d are one image under the sum of its two kernels. Not in the checkpoint's
    # precision: that would round the sum.
    return weights.get(name, (*shape[:2], 2, *shape[2:]), holds).float().sum(2)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
