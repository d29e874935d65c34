"""Bundles on Core ML: Apple's runtime on macOS, elsewhere our interpreter of the saved package."""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import coremltools as ct
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.folder import inside
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.coreml.interpreter import MilProgram, load_functions
from vlmp.runtimes.session import Array, Session
from vlmp.runtimes.versions import package_version

Predict = Callable[[Mapping[str, Array]], dict[str, Array]]


class CoreMLSession(Session):
    """The package's functions; in the interpreter they share its weights. Core ML chooses its threads itself."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        super().__init__(manifest, folder)
        methods = {name: manifest.method(name) for name in manifest.shape.methods}
        entries = {name: (inside(folder, method.file), method.entry) for name, method in methods.items()}
        self._predict: dict[MethodName, Predict] = (_interpreted if self.traits.interpreted else _apple)(entries)

    @property
    def runtime(self) -> str:
        """Name and version; an interpreted run proves graph and serialization, not Apple's kernels."""
        if not self.traits.interpreted:
            return f"Core ML on macOS {platform.mac_ver()[0]}"
        tools = f"coremltools {package_version('coremltools')}"
        return f"vlmp interpreter of ML Programs ({tools} format), not Apple's kernels"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one function."""
        spec = self.manifest.method(method)
        outputs = self._predict[method]({tensor.name: inputs[tensor.name] for tensor in spec.inputs})
        return {tensor.name: outputs[tensor.name].astype(tensor.dtype, copy=False) for tensor in spec.outputs}


def _apple(entries: Mapping[MethodName, tuple[Path, str]]) -> dict[MethodName, Predict]:
    def predictor(path: Path, function: str) -> Predict:
        if int(platform.mac_ver()[0].split(".")[0]) < 15:
            raise UserError(f"{path} needs macOS 15 or later, this is macOS {platform.mac_ver()[0]}")
        try:
            model = ct.models.MLModel(str(path), function_name=function)
        except Exception as error:  # coremltools raises bare exceptions here
            raise UserError(f"{path} cannot be loaded: {one_line(error)}") from error
        return lambda inputs: model.predict(dict(inputs))

    return {name: predictor(*entry) for name, entry in entries.items()}


def _interpreted(entries: Mapping[MethodName, tuple[Path, str]]) -> dict[MethodName, Predict]:
    packages: dict[Path, dict[str, MilProgram]] = {}
    predictors: dict[MethodName, Predict] = {}
    for name, (path, function) in entries.items():
        if path not in packages:
            packages[path] = load_functions(path)
        if function not in packages[path]:
            raise UserError(f"{path} has no function {function!r}: export the model again")
        program: Any = packages[path][function]
        predictors[name] = program.predict
    return predictors
