"""The table of MIL ops that the interpreter knows, and the compressed weights (`constexpr_*`) dequantized by hand.

It knows what our exports hold and nothing more, all of it of opset CoreML8 (iOS 18).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vlmp.runtimes.coreml.ops_math import MATH, f32
from vlmp.runtimes.coreml.ops_tensor import TENSOR

Array = NDArray[Any]

OPSET = "CoreML8"
LIST_PARAMETERS = frozenset({"values"})
_CHUNK_ELEMENTS = 1 << 24  # dequantize in slabs: a float32 copy of a whole embedding table need not exist


def unpack_nibbles(packed: Array, count: int, signed: bool) -> Array:
    """Packed 4-bit integers -> `count` int8 or uint8; the lower half of a byte comes first.

    packed: uint8 [ceil(count / 2)]. Raises ValueError if there are too few bytes.
    """
    if packed.size * 2 < count:
        raise ValueError(f"{count} elements of 4 bits need {-(-count // 2)} bytes, there are {packed.size}")
    values = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=1).reshape(-1)[:count]
    return (values.view(np.int8) ^ np.int8(8)) - np.int8(8) if signed else values


def _slabs(shape: Sequence[int], step: int) -> list[slice]:
    """Cut axis 0 into slabs of a bounded number of elements, each a multiple of `step` long."""
    length = max(1, _CHUNK_ELEMENTS // (max(1, int(np.prod(shape[1:]))) * step)) * step
    return [slice(start, min(start + length, shape[0])) for start in range(0, shape[0], length)]


def blockwise_shift_scale(data: Array, scale: Array) -> Array:
    """data [O, I] times scale [O, G], each of which serves I / G inputs of its row."""
    out = np.empty(data.shape, scale.dtype)
    for rows in _slabs(data.shape, 1):
        wide = np.repeat(f32(scale[rows]), data.shape[1] // scale.shape[1], axis=1)
        out[rows] = data[rows].astype(np.float32) * wide
    return out


def lut_to_dense(indices: Array, lut: Array) -> Array:
    """Look palettized weights up: indices [O, I], lut [P, 1, V, 1], where each of the P tables serves O / P rows."""
    out = np.empty(indices.shape, lut.dtype)
    shared = indices.shape[0] // lut.shape[0]
    for rows in _slabs(indices.shape, shared):
        tables = lut[rows.start // shared : rows.stop // shared, 0, :, 0].repeat(shared, axis=0)
        out[rows] = np.take_along_axis(tables, indices[rows].astype(np.intp), axis=1)
    return out


OPS: Mapping[str, Callable[..., Any]] = {
    **MATH,
    **TENSOR,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_lut_to_dense": lut_to_dense,
}
"""Op type -> what computes it."""
FIXED: Mapping[str, Mapping[str, Any]] = {
    "concat": {"interleave": False},
    "conv": {"dilations": [1, 1], "groups": 1, "pad": [0, 0, 0, 0], "pad_type": "valid"},
    "cumsum": {"exclusive": False, "reverse": False},
    "gather": {"batch_dims": 0, "validate_indices": False},
    "gelu": {"mode": "EXACT"},
    "matmul": {"transpose_x": False},
    "reduce_argmax": {"output_dtype": "int32"},
    "topk": {"ascending": True, "output_indices_dtype": "int32", "return_indices": True, "sort": True},
}
"""Op type -> parameters of which one value is known: every such op states it."""
