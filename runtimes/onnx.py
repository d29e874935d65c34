"""Bundles on ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.folder import inside
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.session import Array, Session, Stop, Stopped


class OnnxStop(Stop):
    """Ends a call between two operators."""

    def __init__(self) -> None:
        super().__init__()
        self.options = ort.RunOptions()
        self.options.log_severity_level = 4  # what fails is raised, and a call that is cut is no error to print

    def ask(self) -> None:
        """Let the call that runs raise Stopped at once, and all later ones."""
        super().ask()
        self.options.terminate = True


class OnnxSession(Session):
    """The graphs loaded, each file once, so that ONNX Runtime packs a weight once."""

    stop_kind = OnnxStop

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        super().__init__(manifest, folder)
        options = self.options(threads)
        self.graphs: dict[str, ort.InferenceSession] = {}
        """By file: several methods may be calls of one graph."""
        for file in dict.fromkeys(method.file for method in map(manifest.method, manifest.shape.methods)):
            try:
                self.graphs[file] = ort.InferenceSession(
                    str(inside(folder, file)), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own exception classes share no base
                raise UserError(f"{folder / file} cannot be loaded: {one_line(error)}") from error
        self._bindings = {name: self._bind(name) for name in manifest.shape.methods}

    def options(self, threads: int | None) -> ort.SessionOptions:
        """How the graphs are loaded."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        return options

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"onnxruntime {ort.__version__}"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one method. Arrays are passed without a copy; caches are the bound ones, whatever is passed."""
        spec, binding = self.manifest.method(method), self._bindings[method]
        for tensor in spec.inputs:
            if tensor.name not in self._caches:
                given = inputs[tensor.name] if 0 not in tensor.shape else np.zeros(tensor.shape, tensor.dtype)
                binding.bind_cpu_input(tensor.name, np.ascontiguousarray(given))
        made = self._made(method)
        for name in made:
            binding.bind_output(name)  # anew, or it would be written into what the last call returned
        stop = self._stop if isinstance(self._stop, OnnxStop) else None
        try:
            self.graphs[spec.file].run_with_iobinding(binding, stop and stop.options)
        except Exception:  # onnxruntime's own exception classes share no base
            if stop is not None and stop.asked:
                raise Stopped from None
            raise
        return {name: value.numpy() for name, value in zip(made, binding.get_outputs(), strict=False)}

    def _bind(self, method: MethodName) -> ort.IOBinding:
        """What stays from call to call: a cache's buffer is bound as input and, where updated in place, as output."""
        spec = self.manifest.method(method)
        binding = self.graphs[spec.file].io_binding()
        for name in self._made(method):  # first, since outputs are in the order in which they were bound
            binding.bind_output(name)
        for tensor in spec.inputs:
            if tensor.name in self._caches:
                binding.bind_cpu_input(tensor.name, self._caches[tensor.name])
        for tensor in spec.outputs:
            cache = self._updated(method, tensor.name)
            if cache is not None:
                binding.bind_ortvalue_output(tensor.name, ort.OrtValue.ortvalue_from_numpy(cache))
        return binding

    def _made(self, method: MethodName) -> list[str]:
        """Outputs that are no caches."""
        return [spec.name for spec in self.manifest.method(method).outputs if self._updated(method, spec.name) is None]

    def _updated(self, method: MethodName, output: str) -> Array | None:
        """The cache that an output is written into, None where there is none."""
        kind, _, layer = output.rpartition("_")
        in_place = self.manifest.shape.kv.update == "in_place" and method != "vision"
        return self._caches.get(f"{kind}_cache_{layer}") if in_place else None
