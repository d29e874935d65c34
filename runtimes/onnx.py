"""Bundles on ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort
from vlmp.export.bundle import Manifest, MethodName, inside
from vlmp.export.errors import UserError, one_line

from .session import Array, Session

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class OnnxSession(Session):
    """All four graphs loaded; their weights are mapped from the one shared file.

    Prepacking is off for float weights: it would copy every one into each of prefill, decode and extend. Integer
    kernels compute what they should, and fast, on packed weights only.
    """

    prepack = False

    def __init__(self, folder: Path, manifest: Manifest, tokenizer: "Tokenizer", threads: int | None = None) -> None:
        super().__init__(manifest, tokenizer)
        options = self.options(threads)
        self.graphs = {}
        for name, method in manifest.methods.items():
            try:
                self.graphs[name] = ort.InferenceSession(
                    str(inside(folder, method.file)), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own exception classes share no base
                raise UserError(f"{folder / method.file} cannot be loaded: {one_line(error)}") from error

    def options(self, threads: int | None) -> ort.SessionOptions:
        """How the graphs are loaded."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        prepack = self.prepack or self.manifest.quantization != "none"
        options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
        return options

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"onnxruntime {ort.__version__}"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one method; arrays are passed without a copy."""
        spec = self.manifest.methods[method]
        feeds = {tensor.name: inputs[tensor.name] for tensor in spec.inputs}
        names = [tensor.name for tensor in spec.outputs]
        return dict(zip(names, self.graphs[method].run(names, feeds), strict=True))
