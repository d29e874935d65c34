"""A saved Core ML package as it lies on disk: its protobuf, and its weights mapped from the file, not copied."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from coremltools.models.utils import load_spec
from numpy.typing import NDArray
from vlmp.runtimes.coreml.blobs import read_header
from vlmp.runtimes.coreml.ops import unpack_nibbles

Array = NDArray[Any]

# MIL's data types by their number in the protobuf: name, numpy dtype that holds one element, bits in the file.
_DATA_TYPES: dict[int, tuple[str, str, int]] = {
    1: ("bool", "bool", 8), 10: ("fp16", "float16", 16), 11: ("fp32", "float32", 32), 21: ("int8", "int8", 8),
    23: ("int32", "int32", 32), 25: ("int4", "int8", 4), 35: ("uint4", "uint8", 4),
}  # fmt: skip
_STRING = 2
# The same types by their number in a blob's header.
_BLOB_TYPES = {"fp16": 1, "fp32": 2, "int8": 4, "int4": 8, "uint4": 11, "int32": 14}


@dataclass(frozen=True, slots=True)
class TensorType:
    """Declared type of a value: numpy dtype that holds it, bits of an element in the file, dims."""

    name: str
    dtype: np.dtype[Any]
    bits: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known from the file. Equal keys mean equal bytes, in whichever function they stand."""

    key: Hashable
    read: Callable[[], Any]


class Package:
    """An opened `.mlpackage`: its spec, and its weights, which all functions made from it share.

    Weights are mapped from the file, compressed ones dequantized on first use and kept.
    Raises FileNotFoundError if there is no package, ValueError if it holds no ML program.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"no Core ML package at {self.path}")
        self.spec = load_spec(str(self.path))
        if self.spec.WhichOneof("Type") != "mlProgram":
            raise ValueError(f"{self.path} holds {self.spec.WhichOneof('Type')!r}, not an ML program")
        self.functions: tuple[str, ...] = tuple(sorted(self.spec.mlProgram.functions))
        self._maps: dict[str, mmap.mmap] = {}
        self._dense: dict[Hashable, Any] = {}

    @property
    def default_function(self) -> str:
        """The function that Core ML runs when none is named. Raises ValueError if the package names none of several."""
        named = self.spec.description.defaultFunctionName
        for name in (named, "main", *(self.functions if len(self.functions) == 1 else ())):
            if name in self.functions:
                return str(name)
        raise ValueError(f"{self.path} has no default function; name one of {', '.join(self.functions)}")

    def blob(self, file_name: str, offset: int, declared: TensorType) -> Array:
        """The tensor whose header stands at `offset`: a read-only view of the file, unpacked if below 8 bits.

        Raises ValueError if the header is broken, or its type or size is not the declared one.
        """
        data = self._map(file_name)
        count = math.prod(declared.shape)
        expected = -(-count * declared.bits // 8)
        try:
            data_type, size, start = read_header(data, offset)
        except ValueError as error:
            raise ValueError(f"{file_name} has {error}") from None
        if data_type != _BLOB_TYPES.get(declared.name) or size != expected:
            raise ValueError(
                f"{file_name} at {offset} has {size} bytes of blob type {data_type}; the program declares "
                f"{declared.name} {list(declared.shape)}, {expected} bytes of type {_BLOB_TYPES.get(declared.name)}"
            )
        return _decode(memoryview(data)[start : start + size], declared)

    def constant(self, value: Any) -> Constant:
        """A protobuf Value, read now if it stands in the program, mapped later if it stands in the weight file."""
        if value.type.WhichOneof("type") == "tensorType" and value.type.tensorType.dataType == _STRING:
            text = value.immediateValue.tensor.strings.values[0]
            return Constant(("str", text), lambda: text)
        declared = tensor_type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            file_name, offset = value.blobFileValue.fileName, int(value.blobFileValue.offset)
            key = ("blob", file_name, offset, declared)
            return Constant(key, partial(self.blob, file_name, offset, declared))
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "bytes":
            array = _decode(tensor.bytes.values, declared)
        else:
            array = np.array(getattr(tensor, field).values, declared.dtype).reshape(declared.shape)
        return Constant(("immediate", declared, array.tobytes()), lambda: array)

    def dequantized(self, key: Hashable, run: Callable[..., Any], inputs: Mapping[str, Constant]) -> Any:
        """Value of a `constexpr_*` op, computed once for all functions."""
        if key not in self._dense:
            self._dense[key] = run(**{name: constant.read() for name, constant in inputs.items()})
        return self._dense[key]

    def _map(self, file_name: str) -> mmap.mmap:
        if file_name not in self._maps:
            name = PurePosixPath(file_name.removeprefix("@model_path/"))
            if name.is_absolute() or ".." in name.parts:  # a link may: see vlmp.runtimes.bundle.folder.inside
                raise ValueError(f"weight file {file_name!r} leaves the package {self.path}")
            with (self.path / "Data" / "com.apple.CoreML" / name).open("rb") as file:
                self._maps[file_name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[file_name]


def _decode(raw: memoryview | bytes, declared: TensorType) -> Array:
    if declared.bits >= 8:
        return np.frombuffer(raw, declared.dtype).reshape(declared.shape)
    packed = np.frombuffer(raw, np.uint8)
    return unpack_nibbles(packed, math.prod(declared.shape), declared.dtype == np.int8).reshape(declared.shape)


def tensor_type(value_type: Any) -> TensorType:
    """Type of a protobuf ValueType. Raises ValueError for what is no tensor, or of unknown dtype or flexible dims."""
    tensor = value_type.tensorType
    fixed = all(dim.WhichOneof("dimension") == "constant" for dim in tensor.dimensions)
    if value_type.WhichOneof("type") != "tensorType" or tensor.dataType not in _DATA_TYPES or not fixed:
        raise ValueError(f"values of type {value_type} are not interpreted")
    name, dtype, bits = _DATA_TYPES[tensor.dataType]
    return TensorType(name, np.dtype(dtype), bits, tuple(int(dim.constant.size) for dim in tensor.dimensions))
