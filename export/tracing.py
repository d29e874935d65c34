"""Example inputs for tracing, made from the same specs that the manifest declares."""

import torch
from torch import Tensor
from vlmp.export.bundle import TensorSpec

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int32": torch.int32}


def example_inputs(specs: list[TensorSpec]) -> tuple[Tensor, ...]:
    """Tensors of the declared shapes and dtypes; counts and lengths are 1, the rest 0."""
    return tuple(
        torch.ones(spec.shape, dtype=_DTYPES[spec.dtype])
        if spec.name in ("text_len", "past")
        else torch.zeros(spec.shape, dtype=_DTYPES[spec.dtype])
        for spec in specs
    )
