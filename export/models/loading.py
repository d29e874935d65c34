"""Checkpoint tensors into modules: one by one, quantized as soon as read."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from vlmp.export.models.layers import JoinedLinear
from vlmp.export.quantize import Part, QuantEmbedding, Quantizer
from vlmp.export.weights import Weights

Names = Mapping[str, str | tuple[str, ...]]
"""Our module -> the checkpoint's, several where their outputs are joined. `{}` stands for a layer's number.

A parameter that stands in the checkpoint without a module has an entry of its own, with its whole name. `MODULE.scale`
has the factors of the rows of a module that is `scaled`."""
Shape = tuple[int, ...]


class Transform(NamedTuple):
    """How a weight in the checkpoint becomes ours: its shape there by ours, and our values, float32, by those there."""

    stored: Callable[[Shape], Shape]
    apply: Callable[[Tensor], Tensor]


TRANSFORMS: Mapping[str, Transform] = {
    # Two equal frames under a Conv3d are one image under the sum of its two kernels.
    "sum_frames": Transform(lambda shape: (*shape[:2], 2, *shape[2:]), lambda weight: weight.sum(2)),
    "plus_one": Transform(lambda shape: shape, lambda weight: 1 + weight),
    # A linear layer over rows, columns and channels of a patch is a convolution in steps of patches.
    "patch_of_hwc": Transform(
        lambda shape: (shape[0], shape[1] * shape[2] * shape[3]),
        lambda weight: weight.unflatten(1, (math.isqrt(weight.shape[1] // 3), -1, 3)).permute(0, 3, 1, 2).contiguous(),
    ),
    # [tokens, channels], where Conv1d has [channels, 1, tokens].
    "by_token": Transform(lambda shape: (shape[1], 1, shape[0]), lambda weight: weight.squeeze(1).T.contiguous()),
    "one_of_a_batch": Transform(lambda shape: (*(1,) * (3 - len(shape)), *shape), torch.squeeze),
}
"""By the name that a module's spec asks for them with. Biases stay as they are."""
SCALED = "scaled"
"""Asked for in the same way: the rows of weight and bias times factors that the checkpoint has apart (layer scale)."""


def load(
    root: nn.Module,
    weights: Weights,
    names: Names,
    transforms: Mapping[str, str],
    dtype: torch.dtype,
    quantizer: Quantizer | None,
    part: Callable[[str], Part],
    holds: torch.dtype,
) -> None:
    """Put the checkpoint's tensors into a module built on the meta device.

    transforms: of weights, by the name of their module in `names`. part: of the model, by the name of a module. holds:
    what the export keeps values in, which may be smaller than `dtype`. Raises UserError when a tensor is missing, has a
    shape that does not fit the config, or values that are not finite or that `holds` cannot hold.
    """
    for ours, pattern, theirs in list(checkpoint_tensors(root, names)):
        owner_name, _, leaf = ours.rpartition(".")
        owner = root.get_submodule(owner_name)
        transform = transforms.get(pattern)
        value = _joined([_read(weights, name, shape, transform, holds) for name, shape in theirs.items()])
        if transform == SCALED:
            factor = weights.get(str(names[f"{pattern}.scale"]).format(_number(owner_name)), (len(value),)).float()
            value = (value.float().T * factor).T
        if quantizer and leaf == "weight" and isinstance(owner, nn.Linear | nn.Embedding):
            layer = quantizer.layer(part(owner_name), next(iter(theirs)), value)
            if layer:
                above, _, name = owner_name.rpartition(".")
                setattr(
                    root.get_submodule(above), name, QuantEmbedding(layer) if isinstance(owner, nn.Embedding) else layer
                )
                continue
        setattr(owner, leaf, nn.Parameter(value.to(dtype), requires_grad=False))


def checkpoint_tensors(root: nn.Module, names: Names) -> Iterator[tuple[str, str, dict[str, Shape]]]:
    """(our name, our module's as `names` has it, the checkpoint's names with our shapes) of each parameter."""
    for ours, parameter in root.named_parameters():
        owner_name, _, leaf = ours.rpartition(".")
        number = _number(owner_name)
        if ours in names:
            yield ours, ours, {str(names[ours]): tuple(parameter.shape)}
            continue
        pattern = owner_name.replace(f".{number}", ".{}", 1) if number else owner_name
        theirs = names[pattern]
        sources = (theirs,) if isinstance(theirs, str) else theirs
        owner = root.get_submodule(owner_name)
        rows: Shape = (parameter.shape[0],)
        if isinstance(owner, JoinedLinear) and len(sources) > 1:  # joined there, too, where it is one tensor
            rows = owner.sizes
        shapes = [(count, *parameter.shape[1:]) for count in rows]
        tensors = [f"{source.format(number)}.{leaf}" for source in sources]
        yield ours, pattern, dict(zip(tensors, shapes, strict=True))


def _number(module: str) -> str:
    """The layer that a module is of."""
    return next((part for part in module.split(".") if part.isdigit()), "")


def _read(weights: Weights, name: str, shape: Shape, transform: str | None, holds: torch.dtype) -> Tensor:
    if transform is None or transform == SCALED or name.endswith(".bias"):
        return weights.get(name, shape, holds)
    stored, apply = TRANSFORMS[transform]
    # Not in the checkpoint's precision: that would round the result.
    return apply(weights.get(name, stored(shape), holds).float())


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
