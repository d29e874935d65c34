"""Ops of MIL in numpy that move values or pick among them: shapes, slices, gather, sorting, casts.

Parameter names are MIL's own. Values pass through unrounded, so dtypes are kept except where an op changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from vlmp.runtimes.coreml.ops_math import f32

Array = NDArray[Any]

_CAST_DTYPES = {"fp16": "float16", "fp32": "float32"}


def to_dtype(x: Array, dtype: DTypeLike) -> Array:
    """Convert as the device does: float to integer truncates and saturates (NaN is 0), to bool tests for nonzero."""
    x, wanted = np.asarray(x), np.dtype(dtype)
    if x.dtype == wanted:
        return x
    if wanted == np.bool_:
        return x != 0
    if x.dtype.kind == "f" and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
        return np.clip(whole, limits.min, limits.max).astype(wanted)
    return x.astype(wanted)


def cast(x: Array, dtype: str) -> Array:
    """Convert to MIL's dtype name (`fp16`, `int32`, `bool`, ...); see `to_dtype`."""
    return to_dtype(x, _CAST_DTYPES.get(dtype, dtype))


def _integers(values: Array) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def split(x: Array, axis: int, split_sizes: Array) -> list[Array]:
    """Cut along `axis` into parts of these lengths."""
    return np.split(x, np.cumsum(split_sizes)[:-1].tolist(), axis=int(axis))


def slice_by_index(
    x: Array, begin: Array, end: Array, end_mask: Array, squeeze_mask: Sequence[bool] | None = None
) -> Array:
    """x[begin:end] per axis; `end_mask` leaves the end open, `squeeze_mask` axes are indexed at `begin` and dropped."""
    chosen: list[slice | int] = []
    for axis in range(x.ndim):
        if squeeze_mask is not None and squeeze_mask[axis]:
            chosen.append(int(begin[axis]))
        else:
            chosen.append(slice(int(begin[axis]), None if end_mask[axis] else int(end[axis])))
    return x[tuple(chosen)]


def gather(x: Array, indices: Array, axis: int) -> Array:
    """x [*D], indices [*I] -> [*D[:axis], *I, *D[axis + 1:]].

    Raises IndexError for an index outside of [0, D[axis]), which a device answers at random.
    """
    size = x.shape[int(axis)]
    outside = (indices < 0) | (indices >= size)
    if np.any(outside):
        raise IndexError(f"index {indices[outside].flat[0]} is outside [0, {size})")
    return np.take(x, indices, axis=int(axis))


def topk(x: Array, k: int, axis: int) -> list[Array]:
    """The k smallest along the last axis, ascending, and their indices; ties go to the lower index."""
    if int(axis) % x.ndim != x.ndim - 1:
        raise ValueError(f"topk along axis {axis}: only the last one is interpreted")
    order = np.argsort(f32(x), axis=-1, kind="stable")[..., : int(k)]
    return [np.take_along_axis(x, order, -1), order.astype(np.int32)]


TENSOR: dict[str, Callable[..., Any]] = {
    "cast": cast,
    "concat": lambda values, axis: np.concatenate(values, axis=int(axis)),
    "expand_dims": lambda x, axes: np.expand_dims(x, _integers(axes)),
    "fill_like": lambda ref_tensor, value: np.full(ref_tensor.shape, value),
    "gather": gather,
    "identity": lambda x: x,
    "reshape": lambda x, shape: np.reshape(x, _integers(shape)),
    "select": lambda cond, a, b: np.where(cond, a, b),
    "slice_by_index": slice_by_index,
    "split": split,
    "squeeze": lambda x, axes: np.squeeze(x, _integers(axes)),
    "stack": lambda values, axis: np.stack(values, axis=int(axis)),
    "tile": lambda x, reps: np.tile(x, _integers(reps)),
    "topk": topk,
    "transpose": lambda x, perm: np.transpose(x, _integers(perm)),
}
