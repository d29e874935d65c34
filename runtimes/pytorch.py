"""The PyTorch reference behind the same interface: eager modules, given by the exporter."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vlmp.export.bundle import Manifest, MethodName

from .session import Array, Session

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TorchSession(Session):
    """methods: name -> callable on tensors that returns a tensor or a tuple, as the manifest's specs say."""

    def __init__(
        self, manifest: Manifest, tokenizer: "Tokenizer", methods: Mapping[MethodName, Callable[..., Any]]
    ) -> None:
        super().__init__(manifest, tokenizer)
        self.methods = methods

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"pytorch {torch.__version__}"

    @torch.no_grad()
    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one method eagerly."""
        spec = self.manifest.methods[method]
        outputs = self.methods[method](*(torch.from_numpy(np.asarray(inputs[tensor.name])) for tensor in spec.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {tensor.name: value.numpy() for tensor, value in zip(spec.outputs, outputs, strict=True)}
