"""Ops of MIL in numpy that move values or pick among them: shapes, slices, gather and scatter, sorting, casts.

Parameter names are MIL's own. Values pass through unrounded, so dtypes are kept except where an op changes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray
from vlmp.runtimes.coreml.ops_math import f32

Array = NDArray[Any]

_CAST_DTYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
_SCATTER = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "max": np.maximum,
    "min": np.minimum,
}


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


def _axes(axes: Array, rank: int) -> tuple[int, ...]:
    return tuple(sorted(int(axis) % rank for axis in np.atleast_1d(axes)))


# --- shapes -----------------------------------------------------------------------------------------------------------


def reshape(x: Array, shape: Array) -> Array:
    """Same values in `shape`; 0 copies the dim of x counted from the right (1 beyond its rank), -1 takes the rest."""
    wanted = [int(size) for size in shape]
    for back in range(1, len(wanted) + 1):
        if wanted[-back] == 0:
            wanted[-back] = x.shape[-back] if back <= x.ndim else 1
    return np.reshape(x, wanted)


def reshape_like(
    x: Array, ref_tensors: Sequence[Array], begins: Sequence[Array], ends: Sequence[Array], end_masks: Sequence[Array]
) -> Array:
    """Reshape to the joined dims `ref.shape[begin:end]` of several tensors; a mask drops the end."""
    shape: list[int] = []
    for ref, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += ref.shape[int(begin) :] if mask else ref.shape[int(begin) : int(end)]
    return np.reshape(x, shape)


def expand_dims(x: Array, axes: Array) -> Array:
    """Insert size-1 dims at `axes`, counted in the result."""
    return np.expand_dims(x, _axes(axes, x.ndim + np.size(axes)))


def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Drop size-1 dims (all, or those named); a longer dim that is named stays, as in PyTorch."""
    chosen = range(x.ndim) if axes is None else _axes(axes, x.ndim)
    return np.squeeze(x, tuple(axis for axis in chosen if x.shape[axis] == 1))


def flatten2d(x: Array, axis: int = 1) -> Array:
    """[prod(D[:axis]), prod(D[axis:])]."""
    return np.reshape(x, (math.prod(x.shape[: int(axis)]), math.prod(x.shape[int(axis) :])))


def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """[N, C f f, H, W] -> [N, C, H f, W f], as PyTorch's."""
    (n, c, h, w), f = x.shape, int(upscale_factor)
    return x.reshape(n, c // (f * f), f, f, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // (f * f), h * f, w * f)


def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """[N, C, H f, W f] -> [N, C f f, H, W], as PyTorch's."""
    (n, c, h, w), f = x.shape, int(downscale_factor)
    return x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4).reshape(n, c * f * f, h // f, w // f)


def sliding_windows(x: Array, axis: int, size: int, stride: int = 1) -> Array:
    """[..., d, ...] -> [..., windows, size, ...] along `axis`."""
    axis = int(axis) % x.ndim
    view = sliding_window_view(x, int(size), axis=axis)[(slice(None),) * axis + (slice(None, None, int(stride)),)]
    return np.moveaxis(view, -1, axis + 1)


# --- joining and making -----------------------------------------------------------------------------------------------


def concat(values: Sequence[Array], axis: int, interleave: bool = False) -> Array:
    """Join along `axis`; scalars make a vector; `interleave` alternates equal shapes element by element."""
    axis = int(axis)
    if values[0].ndim == 0:
        return np.stack(values)
    if not interleave:
        return np.concatenate(values, axis=axis)
    axis %= values[0].ndim
    stacked = np.stack(values, axis=axis + 1)
    return stacked.reshape(*stacked.shape[:axis], -1, *stacked.shape[axis + 2 :])


def split(x: Array, axis: int, num_splits: int | None = None, split_sizes: Array | None = None) -> list[Array]:
    """Cut along `axis` into `split_sizes`, or into `num_splits` equal parts."""
    if split_sizes is None:
        if num_splits is None:
            raise ValueError("split needs num_splits or split_sizes")
        return np.split(x, int(num_splits), axis=int(axis))
    return np.split(x, np.cumsum(split_sizes)[:-1].tolist(), axis=int(axis))


def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Array | float = 0.0) -> Array:
    """Pad the last len(pad) / 2 axes by (before, after) pairs; mode constant, reflect or replicate."""
    pairs = np.reshape(pad, (-1, 2)).tolist()
    around = [[0, 0]] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, around, constant_values=x.dtype.type(constant_val))
    return np.pad(x, around, mode="edge" if mode == "replicate" else "reflect")


def range_1d(start: Array, end: Array, step: Array) -> Array:
    """start, start + step, ... below `end`, in the dtype of `start`."""
    count = max(0, math.ceil((float(end) - float(start)) / float(step)))
    return (f32(start) + f32(step) * np.arange(count, dtype=f32(start).dtype)).astype(start.dtype)


def one_hot(
    indices: Array,
    one_hot_vector_size: Array,
    axis: int = -1,
    on_value: Array | int = 1,
    off_value: Array | int = 0,
) -> Array:
    """`on_value` where a new axis equals the index; an index out of range gives a row of `off_value`."""
    position = int(axis) % (indices.ndim + 1)
    grid = np.arange(int(one_hot_vector_size)).reshape(-1, *[1] * (indices.ndim - position))
    return np.where(np.expand_dims(indices, position) == grid, on_value, off_value)


def band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    """Keep `lower` sub- and `upper` super-diagonals of the last two axes (negative: all), zero the rest."""
    row, column = np.ogrid[: x.shape[-2], : x.shape[-1]]
    kept = ((int(lower) < 0) | (row - column <= int(lower))) & ((int(upper) < 0) | (column - row <= int(upper)))
    return np.where(kept, x, x.dtype.type(0))


# --- slices -----------------------------------------------------------------------------------------------------------


def _slices(
    rank: int,
    begin: Array,
    end: Array,
    stride: Array | None,
    begin_mask: Array | None,
    end_mask: Array | None,
    squeeze_mask: Array | None,
) -> tuple[slice | int, ...]:
    """Python's slicing is MIL's: ends clamp, negatives count from the back, a mask leaves the side open."""
    out: list[slice | int] = []
    for axis in range(rank):
        if squeeze_mask is not None and squeeze_mask[axis]:
            out.append(0 if begin_mask is not None and begin_mask[axis] else int(begin[axis]))
            continue
        first = None if begin_mask is not None and begin_mask[axis] else int(begin[axis])
        last = None if end_mask is not None and end_mask[axis] else int(end[axis])
        out.append(slice(first, last, None if stride is None else int(stride[axis])))
    return tuple(out)


def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """x[begin:end:stride] per axis; `squeeze_mask` axes are indexed at `begin` and dropped."""
    return x[_slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """A copy of x whose slice (see `slice_by_index`) is `update`. Raises ValueError if the shapes differ."""
    chosen = _slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    out = np.array(x)
    if out[chosen].shape != update.shape:  # numpy would broadcast, the device would not
        raise ValueError(f"slice_update of shape {update.shape} into a slice of shape {out[chosen].shape}")
    out[chosen] = update
    return out


def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """x[begin : begin + size] per axis, -1 for all that is left. Raises IndexError if that leaves the tensor."""
    out = []
    for axis, (first, count) in enumerate(zip(begin.tolist(), size.tolist(), strict=True)):
        first += x.shape[axis] if first < 0 else 0
        last = x.shape[axis] if count == -1 else first + count
        if not 0 <= first <= last <= x.shape[axis]:
            raise IndexError(f"slice_by_size takes {first}:{last} of axis {axis}, which has {x.shape[axis]} elements")
        out.append(slice(first, last))
    return x[tuple(out)]


# --- gather and scatter -----------------------------------------------------------------------------------------------


def _checked(indices: Array, size: int, wrap: bool) -> Array:
    """Indices as int64 within [0, size). Raises IndexError for others, which a device answers at random.

    `wrap`: negative indices count from the end, as up to iOS 16.
    """
    wide = indices.astype(np.int64)
    wide = np.where(wide < 0, wide + size, wide) if wrap else wide
    outside = (wide < 0) | (wide >= size)
    if np.any(outside):
        raise IndexError(f"index {indices[outside].flat[0]} is outside [{-size if wrap else 0}, {size})")
    return wide


def gather(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False, wrap: bool = False
) -> Array:
    """x [*D], indices [*I] -> [*D[:axis], *I[batch_dims:], *D[axis + 1:]]."""
    axis, batch = int(axis) % x.ndim, int(batch_dims)
    chosen = _checked(indices, x.shape[axis], wrap)
    if batch == 0:
        return np.take(x, chosen, axis=axis)
    # Fold into [batch, before, axis, after]; the indices then vary with the batch only.
    rows = math.prod(x.shape[:batch])
    folded = x.reshape(rows, math.prod(x.shape[batch:axis]), x.shape[axis], -1)
    picked = folded[np.arange(rows)[:, None], :, chosen.reshape(rows, -1)]  # [batch, picks, before, after]
    shape = (*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :])
    return picked.swapaxes(1, 2).reshape(shape)


def gather_along_axis(
    x: Array, indices: Array, axis: int = 0, validate_indices: bool = False, wrap: bool = False
) -> Array:
    """out[.., i, ..] = x[.., indices[.., i, ..], ..], of the shape of `indices`."""
    axis = int(axis) % x.ndim
    return np.take_along_axis(x, _checked(indices, x.shape[axis], wrap), axis)


def _coordinates(indices: Array, sizes: Sequence[int], wrap: bool) -> tuple[Array, ...]:
    return tuple(_checked(indices[..., i], sizes[i], wrap) for i in range(indices.shape[-1]))


def gather_nd(
    x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False, wrap: bool = False
) -> Array:
    """x indexed by the coordinates in the last axis of `indices`, after `batch_dims` shared axes."""
    batch = int(batch_dims)
    places = _coordinates(indices, x.shape[batch:], wrap)
    shared = np.ogrid[tuple(slice(size) for size in x.shape[:batch])] if batch else []
    lead = [np.reshape(grid, (*grid.shape, *[1] * (indices.ndim - 1 - batch))) for grid in shared]
    return x[(*lead, *places)]


def _scatter_into(data: Array, places: tuple[Any, ...], updates: Array, mode: str) -> Array:
    if mode == "update":
        out = np.array(data)
        out[places] = updates
        return out
    out = np.array(f32(data))
    if mode == "div" and out.dtype.kind in "iu":
        np.floor_divide.at(out, places, updates)
    else:
        _SCATTER[mode].at(out, places, f32(updates))  # `.at` accumulates over repeated indices
    return out


def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    wrap: bool = False,
) -> Array:
    """data with the slices at `indices` of `axis` updated by `mode`."""
    axis = int(axis) % data.ndim
    places = (*[slice(None)] * axis, _checked(indices, data.shape[axis], wrap))
    return _scatter_into(data, places, updates, mode)


def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    wrap: bool = False,
) -> Array:
    """data[.., indices[.., i, ..], ..] updated by updates[.., i, ..]."""
    axis = int(axis) % data.ndim
    grids = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    grids[axis] = _checked(indices, data.shape[axis], wrap)
    return _scatter_into(data, tuple(grids), updates, mode)


def scatter_nd(
    data: Array,
    indices: Array,
    updates: Array,
    mode: str = "add",
    validate_indices: bool = False,
    wrap: bool = False,
) -> Array:
    """data at the coordinates in the last axis of `indices` updated by `mode`."""
    return _scatter_into(data, _coordinates(indices, data.shape, wrap), updates, mode)


# --- sorting ----------------------------------------------------------------------------------------------------------


def argsort(x: Array, axis: int = -1, ascending: bool = False) -> Array:
    """Order along `axis`; equal values keep the lower index first in both directions. NaN counts as largest."""
    axis = int(axis)
    if ascending:
        return np.argsort(f32(x), axis=axis, kind="stable").astype(np.int32)
    # Descending and stable: sort the mirrored axis, read it backwards, mirror the indices back.
    mirrored = np.argsort(np.flip(f32(x), axis), axis=axis, kind="stable")
    return (x.shape[axis] - 1 - np.flip(mirrored, axis)).astype(np.int32)


def topk(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> list[Array]:
    """The k largest (or smallest) along `axis` and their indices, sorted; ties go to the lower index; k = -1 is all."""
    axis, count = int(axis) % x.ndim, int(k)
    order = argsort(x, axis, ascending)
    if count != -1:
        order = order[(*[slice(None)] * axis, slice(count))]
    values = np.take_along_axis(x, order, axis)
    return [values, order.astype(output_indices_dtype)] if return_indices else [values]


TENSOR: dict[str, Callable[..., Any]] = {
    "argsort": argsort,
    "band_part": band_part,
    "cast": cast,
    "concat": concat,
    "expand_dims": expand_dims,
    "fill": lambda shape, value=0.0: np.full([int(size) for size in shape], value),
    "fill_like": lambda ref_tensor, value=0.0: np.full(ref_tensor.shape, value),
    "flatten2d": flatten2d,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "gather_nd": gather_nd,
    "identity": lambda x: x,
    "non_zero": lambda x: np.argwhere(x).astype(np.int32),
    "one_hot": one_hot,
    "pad": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "range_1d": range_1d,
    "reshape": reshape,
    "reshape_like": reshape_like,
    "reverse": lambda x, axes=None: np.flip(x, None if axes is None else _axes(axes, x.ndim)),
    "scatter": scatter,
    "scatter_along_axis": scatter_along_axis,
    "scatter_nd": scatter_nd,
    "select": lambda cond, a, b: np.where(cond, a, b),
    "shape": lambda x: np.array(x.shape, np.int32),
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "slice_update": slice_update,
    "sliding_windows": sliding_windows,
    "split": split,
    "squeeze": squeeze,
    "stack": lambda values, axis: np.stack(values, axis=int(axis)),
    "tile": lambda x, reps: np.tile(x, [int(count) for count in reps]),
    "topk": topk,
    "transpose": lambda x, perm: np.transpose(x, [int(axis) for axis in perm]),
}
# Up to iOS 16 a negative index counts from the end; from iOS 17 on it is out of bounds.
TENSOR_IOS16: dict[str, Callable[..., Any]] = {
    name: partial(TENSOR[name], wrap=True)
    for name in (
        "gather",
        "gather_along_axis",
        "gather_nd",
        "scatter",
        "scatter_along_axis",
        "scatter_nd",
    )
}
