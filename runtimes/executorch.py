"""Bundles on ExecuTorch's Python runtime."""

import ctypes
import warnings
from collections.abc import Mapping
from pathlib import Path

import executorch
import numpy as np
import torch  # before the extension, which needs its libraries

# Not `executorch.runtime`: it imports the exporter and torchao for a warning about itself.
from executorch.extension.pybindings import _C
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.folder import inside
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.console.streams import heard, last_lines
from vlmp.runtimes.session import Array, Session
from vlmp.runtimes.versions import package_version


class ExecuTorchSession(Session):
    """All four methods loaded; XNNPACK's weight cache makes them share the packed weights."""

    share_packed = True
    events = False
    """Record when each instruction begins and ends, for a profile."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        super().__init__(manifest, folder)
        if self.share_packed and not share_packed_weights():
            warnings.warn("XNNPACK's weight cache cannot be set here: methods pack a copy each", stacklevel=2)
        if threads is not None:
            _C._unsafe_reset_threadpool(threads)  # of the whole process; there is no other way
        programs = {}
        self._methods = {}
        for name in manifest.shape.methods:
            method = manifest.method(name)
            path = inside(folder, method.file)
            data = inside(folder, method.data_file) if method.data_file else None
            said = len(heard())
            try:
                if path not in programs:
                    programs[path] = _C._load_program(
                        str(path),
                        enable_etdump=self.events,
                        program_verification=_C.Verification.Minimal,
                        data_path=None if data is None else str(data),
                    )
                self._methods[name] = programs[path].load_method(method.entry)
            except RuntimeError as error:  # it holds a number; the reason, if there is one, was printed
                reasons = [one_line(error), *last_lines(heard()[said:], 1)]
                raise UserError(f"{path} cannot be loaded: {'; '.join(reasons)}") from error
        self.programs = programs  # A method must not outlive its program.

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"executorch {package_version('executorch')} (XNNPACK)"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one method; inputs are passed without a copy."""
        spec = self.manifest.method(method)
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[tensor.name])) for tensor in spec.inputs]
        outputs = self._methods[method](tensors)
        return {tensor.name: value.numpy() for tensor, value in zip(spec.outputs, outputs, strict=True)}


class _Option(ctypes.Structure):
    """executorch::runtime::BackendOption: a key and a variant of bool, int and text."""

    _fields_ = (
        ("key", ctypes.c_char * 64),
        ("value", ctypes.c_byte * 256),
        ("index", ctypes.c_uint8),
        ("padding", ctypes.c_byte * 3),
    )


class _Span(ctypes.Structure):
    _fields_ = (("data", ctypes.POINTER(_Option)), ("length", ctypes.c_size_t))


def share_packed_weights() -> bool:
    """Let XNNPACK keep one packed copy of a weight however many methods use it. Returns whether it could be set.

    Off by default, and Python has no call for it; the library exports the C++ one. Without it a session works the
    same and takes about three times the memory.
    """
    library_path = Path(next(iter(executorch.__path__))) / "lib" / "libexecutorch.so"
    if not library_path.is_file():
        return False
    try:
        set_option = ctypes.CDLL(str(library_path))[
            "_ZN10executorch7runtime10set_optionEPKcNS0_4SpanINS0_13BackendOptionEEE"
        ]
    except (OSError, AttributeError):
        return False
    set_option.argtypes, set_option.restype = [ctypes.c_char_p, _Span], ctypes.c_uint32
    option = _Option()
    option.key = b"weight_cache_enabled"
    option.value[0] = 1  # index 0 of the variant: bool
    return set_option(b"XnnpackBackend", _Span(ctypes.pointer(option), 1)) == 0
