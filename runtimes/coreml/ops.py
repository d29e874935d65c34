"""The table of MIL ops that the interpreter knows, and the compressed weights (`constexpr_*`) dequantized by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vlmp.runtimes.coreml.ops_math import MATH, f32
from vlmp.runtimes.coreml.ops_tensor import TENSOR, TENSOR_IOS16

Array = NDArray[Any]

_CHUNK_ELEMENTS = 1 << 24  # dequantize in slabs: a float32 copy of a whole embedding table need not exist


def unpack_bits(packed: Array, bits: int, count: int, signed: bool) -> Array:
    """Packed sub-byte integers -> `count` int8 or uint8; fields run from the least significant bit, across bytes.

    packed: uint8 [ceil(count * bits / 8)]; bits: 1, 2, 3, 4, 6 or 8. Raises ValueError if there are too few bytes.
    """
    if packed.size * 8 < count * bits:
        raise ValueError(f"{count} elements of {bits} bits need {-(-count * bits // 8)} bytes, there are {packed.size}")
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        values = ((packed[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[:count]
    else:
        flags = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
        values = np.packbits(flags, axis=1, bitorder="little").reshape(-1)
    if not signed:
        return values
    sign = np.int8(2 ** (bits - 1)) if bits < 8 else np.int8(0)
    return (values.view(np.int8) ^ sign) - sign


def _slabs(shape: Sequence[int], step: int) -> list[slice]:
    """Cut axis 0 into slabs of a bounded number of elements, each a multiple of `step` long."""
    row = max(1, int(np.prod(shape[1:])))
    length = max(1, _CHUNK_ELEMENTS // (row * step)) * step
    return [slice(start, min(start + length, shape[0])) for start in range(0, shape[0], length)]


def _spread(parameter: Array, shape: Sequence[int]) -> Array:
    """Repeat per-block parameters over their blocks, except along axes of one block, which broadcast."""
    for axis, (blocks, size) in enumerate(zip(parameter.shape, shape, strict=True)):
        if 1 < blocks < size:
            parameter = np.repeat(parameter, size // blocks, axis)
    return parameter


def blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale * (data - offset), where a scale serves a block: block = data.shape / scale.shape, axis by axis."""
    out = np.empty(data.shape, scale.dtype)
    step = data.shape[0] // scale.shape[0] if scale.shape[0] > 1 else 1
    for slab in _slabs(data.shape, step):
        rows = slice(slab.start // step, -(-slab.stop // step)) if scale.shape[0] > 1 else slice(None)
        part = data[slab].astype(np.float32)
        if offset is not None:
            part -= _spread(f32(offset[rows]), part.shape)
        out[slab] = part * _spread(f32(scale[rows]), part.shape)
    return out


def affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: int) -> Array:
    """scale * (data - zero_point), per tensor or per slice of `axis` (iOS 16)."""
    axis, rank = int(axis) % quantized_data.ndim, quantized_data.ndim
    shape = [-1 if i == axis else 1 for i in range(rank)]
    offset = np.broadcast_to(zero_point, scale.shape) if zero_point.ndim == 0 else zero_point
    wide = np.broadcast_to(scale, offset.shape)
    return blockwise_shift_scale(
        quantized_data,
        wide.reshape(shape if wide.ndim else [1] * rank),
        offset.reshape(shape if wide.ndim else [1] * rank),
    )


def _groups(sizes: Sequence[int], tables: Sequence[int], rows: slice) -> Array:
    """Number of the lookup table for every element of a slab of rows, broadcastable to it."""
    number = np.zeros([1] * len(sizes), np.intp)
    for axis, (size, count) in enumerate(zip(sizes, tables, strict=True)):
        places = np.arange(size)[rows] if axis == 0 else np.arange(size)
        shape = [-1 if i == axis else 1 for i in range(len(sizes))]
        number = number * count + (places // (size // count)).reshape(shape)
    return number


def lut_to_dense(indices: Array, lut: Array, vector_axis: int | None = None) -> Array:
    """Look palettized weights up: lut [*tables, entries, vector]; a vector fills `vector_axis` (iOS 18)."""
    *tables, entries, vector = lut.shape
    flat = lut.reshape(-1, vector)
    axis = 0 if vector_axis is None else int(vector_axis) % indices.ndim
    shape = [size * (vector if i == axis else 1) for i, size in enumerate(indices.shape)]
    out = np.empty(shape, lut.dtype)
    for rows in _slabs(indices.shape, 1):
        picked = flat[_groups(indices.shape, tables, rows) * entries + indices[rows]]  # [rows, ..., vector]
        target = slice(rows.start * vector, rows.stop * vector) if axis == 0 else rows
        out[target] = np.moveaxis(picked, -1, axis + 1).reshape(out[target].shape)
    return out


def lut_to_dense_ios16(indices: Array, lut: Array, shape: Array) -> Array:
    """Look palettized weights up: packed uint8 indices of log2(len(lut)) bits into one table (iOS 16)."""
    sizes = [int(size) for size in shape]
    count = int(np.prod(sizes))
    return lut[unpack_bits(indices, int(np.log2(lut.size)), count, signed=False)].reshape(sizes)


def sparse_to_dense(nonzero_data: Array, mask: Array) -> Array:
    """Zeros, with `nonzero_data` in row-major order where `mask` is set (iOS 18)."""
    out = np.zeros(mask.shape, nonzero_data.dtype)
    out[mask != 0] = nonzero_data
    return out


def sparse_to_dense_ios16(nonzero_data: Array, mask: Array, shape: Array) -> Array:
    """As `sparse_to_dense`, from a packed bit mask and the shape (iOS 16)."""
    sizes = [int(size) for size in shape]
    return sparse_to_dense(nonzero_data, unpack_bits(mask, 1, int(np.prod(sizes)), signed=False).reshape(sizes))


def lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> list[Array]:
    """Mask and values of palettized sparse weights, for a `sparse_to_dense` to follow."""
    dense = lut_to_dense(sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask if vector_axis is None else np.repeat(indices_mask, lut.shape[-1], axis=int(vector_axis))
    return [mask, dense[mask != 0]]


def sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> list[Array]:
    """Mask and values of quantized sparse weights, for a `sparse_to_dense` to follow."""
    dense = blockwise_shift_scale(sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return [data_mask, dense[data_mask != 0]]


def _like_axis(parameter: Array, rank: int, axis: int | None) -> Array:
    return (
        parameter
        if parameter.ndim == 0 or axis is None
        else parameter.reshape([-1 if i == int(axis) % rank else 1 for i in range(rank)])
    )


def quantize(
    input: Array, scale: Array, output_dtype: str, zero_point: Array | None = None, axis: int | None = None
) -> Array:
    """clip(round(input / scale) + zero_point) in int8 or uint8."""
    levels = np.rint(f32(input) / f32(_like_axis(scale, input.ndim, axis)))
    if zero_point is not None:
        levels = levels + _like_axis(zero_point, input.ndim, axis)
    limits = np.iinfo(output_dtype)
    return np.clip(levels, limits.min, limits.max).astype(output_dtype)


def dequantize(input: Array, scale: Array, zero_point: Array | None = None, axis: int | None = None) -> Array:
    """scale * (input - zero_point)."""
    wide = input.astype(np.float32)
    if zero_point is not None:
        wide = wide - _like_axis(zero_point, input.ndim, axis)
    return wide * f32(_like_axis(scale, input.ndim, axis))


_CONSTEXPRS: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_cast": lambda source_val, output_dtype: source_val.astype(np.float32),
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": sparse_to_dense,
}
_CONSTEXPRS_IOS16: dict[str, Callable[..., Any]] = {
    "constexpr_lut_to_dense": lut_to_dense_ios16,
    "constexpr_sparse_to_dense": sparse_to_dense_ios16,
}
LIST_PARAMETERS = frozenset({"values", "loop_vars", "ref_tensors", "begins", "ends", "end_masks"})


def op_table(opset: str) -> dict[str, Callable[..., Any]]:
    """Every op of a function's opset (`CoreML5` = iOS 15 ... `CoreML8` = iOS 18, `CoreML9` = iOS 26) by its type.

    Raises ValueError if the opset is not of the form `CoreML<number>`.
    """
    digits = opset.removeprefix("CoreML")
    if not digits.isdigit():
        raise ValueError(f"opset {opset!r} is not of the form CoreML<number>")
    table: dict[str, Callable[..., Any]] = {
        **MATH,
        **TENSOR,
        **_CONSTEXPRS,
        "dequantize": dequantize,
        "quantize": quantize,
    }
    if int(digits) < 7:
        table |= TENSOR_IOS16
    if int(digits) < 8:
        table |= _CONSTEXPRS_IOS16
    return table
