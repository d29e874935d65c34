"""Tracing: example inputs from the same specs that the manifest declares, and no time or memory lost on copies."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.fx.traceback import NodeSource
from vlmp.runtimes.bundle.manifest import TensorSpec

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int32": torch.int32}


def example_inputs(specs: list[TensorSpec]) -> tuple[Tensor, ...]:
    """Tensors of the declared shapes and dtypes; counts and lengths are 1, the rest 0."""
    return tuple(
        torch.ones(spec.shape, dtype=_DTYPES[spec.dtype])
        if spec.name in ("text_len", "past")
        else torch.zeros(spec.shape, dtype=_DTYPES[spec.dtype])
        for spec in specs
    )


@contextmanager
def shared_provenance() -> Iterator[None]:
    """Let graph passes share a node's history instead of copying it.

    torch.fx deep-copies the history of every node in every pass, and each pass makes it longer: about a fifth of the
    time of lowering to ExecuTorch. Entries are never changed once made.
    """

    def itself(source: NodeSource, _memo: dict[int, object]) -> NodeSource:
        return source

    NodeSource.__deepcopy__ = itself  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del NodeSource.__deepcopy__  # type: ignore[attr-defined]


@contextmanager
def forgotten_traces() -> Iterator[None]:
    """Let nothing of what is traced inside stay in memory: torch.compile, which the pruner's loop is traced by, keeps
    its backends for the life of the process, and with them the modules and their weights."""
    try:
        yield
    finally:
        torch._dynamo.reset()


@contextmanager
def shared_weights() -> Iterator[None]:
    """Let deep copies of a program share its weights: a pass may replace a weight, but never writes into one."""

    def itself(weight: nn.Parameter, _memo: dict[int, object]) -> nn.Parameter:
        return weight

    copied = nn.Parameter.__deepcopy__
    nn.Parameter.__deepcopy__ = itself  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Parameter.__deepcopy__ = copied  # type: ignore[method-assign]
