"""XNNPACK's passes over the graph of each delegate, less those that find nothing there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from executorch.backends.xnnpack import _passes as xnnpack_passes
from executorch.backends.xnnpack import xnnpack_preprocess
from torch.export import ExportedProgram


class FewerPasses(xnnpack_passes.XNNPACKPassManager):
    """What XNNPACK does to the graph of a delegate, less the passes that find nothing there.

    Each of them traces the graph anew all the same.
    """

    passes: list[Any]

    def __init__(self, program: ExportedProgram, passes: list[Any] | None = None) -> None:
        super().__init__(program, passes)
        found = {node.target.__name__ for node in program.graph.nodes if node.op == "call_function"}
        self.passes = [one for one in self.passes if found & LOOKS_FOR.get(one, found)]


_NORMS = {"aten.native_batch_norm.default", "aten._native_batch_norm_legit_no_training.default"}
LOOKS_FOR: dict[type, set[str]] = {
    xnnpack_passes.ConvertToUpsampleBilinear2d: {"aten.upsample_bilinear2d.vec"},
    xnnpack_passes.ConvertToSDPAPass: {"aten.any.dim"},
    xnnpack_passes.FuseBatchNormPass: _NORMS,
    xnnpack_passes.DecomposeBatchNorm: _NORMS,
    xnnpack_passes.FuseActivationPass: {"aten.relu.default", "aten.hardtanh.default"},
    xnnpack_passes.RemoveGetItemPass: {"aten.max_pool2d_with_indices.default", "aten.max.dim"},
    xnnpack_passes.Conv1dUnsqueezePass: {"aten.convolution.default"},
    xnnpack_passes.PReLUReshapePass: {"aten._prelu_kernel.default"},
}
"""Without any of these operators, a pass changes nothing."""


@contextmanager
def fewer_passes() -> Iterator[None]:
    """Let delegates go through no pass in vain."""
    whole = xnnpack_preprocess.XNNPACKPassManager
    xnnpack_preprocess.XNNPACKPassManager = FewerPasses
    try:
        yield
    finally:
        xnnpack_preprocess.XNNPACKPassManager = whole
