"""Arithmetic ops of MIL in numpy: element-wise, activations, reductions, matrix products, norms, convolution.

Every function takes MIL's own parameter names and returns an array of any float width; the interpreter rounds it to
the dtype the program declares. fp16 tensors are widened first, so that sums, norms and products accumulate in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[Any]

# erf(x) = x P(x^2) / Q(x^2) on [-4, 4]: a rational fit of our own, 2.5e-8 in exact arithmetic, 5e-7 in float32.
_ERF_P = (1.128379140, 1.935226472e-1, 5.309875510e-2, 3.882387454e-3, 2.845449509e-4, 1.986951886e-6)
_ERF_Q = (1.0, 5.048375406e-1, 1.153407132e-1, 1.520532022e-2, 1.185341268e-3, 3.742086113e-5)
_WIDEN_ELEMENTS = 1 << 20  # a 4 MiB float32 slab of weights stays in cache between widening and product


def f32(x: Array) -> Array:
    """Widen fp16 to float32, exactly; every other dtype passes through."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


# --- element-wise -----------------------------------------------------------------------------------------------------


def erf(x: Array) -> Array:
    """Gauss error function of any shape; absolute error below 5e-7 in float32."""
    x = f32(x)
    clipped = np.clip(x, -4.0, 4.0)  # erf(4) is 1 - 1.5e-8: one in float32
    squared = clipped * clipped
    top, bottom = np.full_like(squared, _ERF_P[-1]), np.full_like(squared, _ERF_Q[-1])
    for p, q in zip(_ERF_P[-2::-1], _ERF_Q[-2::-1], strict=True):
        top *= squared
        top += x.dtype.type(p)
        bottom *= squared
        bottom += x.dtype.type(q)
    return np.clip(clipped * top / bottom, -1.0, 1.0)


def gelu(x: Array) -> Array:
    """x times the share of a normal distribution below it."""
    x = f32(x)
    return 0.5 * x * (1.0 + erf(x * np.float32(math.sqrt(0.5))))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + np.exp(-f32(x)))


def _binary(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda x, y: function(f32(x), f32(y))


_BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "equal": np.equal, "floor_div": np.floor_divide, "greater": np.greater,
    "greater_equal": np.greater_equal, "less": np.less, "less_equal": np.less_equal, "logical_and": np.logical_and,
    "maximum": np.maximum, "minimum": np.minimum, "mul": np.multiply, "not_equal": np.not_equal,
    "real_div": np.true_divide, "sub": np.subtract,
}  # fmt: skip


# --- reductions -------------------------------------------------------------------------------------------------------


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array, keep_dims: bool) -> Array:
        return function(f32(x), axis=tuple(int(axis) for axis in axes), keepdims=bool(keep_dims))

    return reduce


def reduce_argmax(x: Array, axis: int, keep_dims: bool) -> Array:
    """Place of the largest value along `axis`, int32; of equal values the first."""
    return np.asarray(np.argmax(x, axis=int(axis), keepdims=bool(keep_dims))).astype(np.int32)


def cumsum(x: Array, axis: int) -> Array:
    """Running sum along `axis`, in the dtype of x."""
    return np.cumsum(f32(x), axis=int(axis), dtype=f32(x).dtype)


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum."""
    x = f32(x)
    weights = np.exp(x - np.max(x, axis=int(axis), keepdims=True))
    weights /= np.sum(weights, axis=int(axis), keepdims=True)
    return weights


# --- matrix products --------------------------------------------------------------------------------------------------


def linear(x: Array, weight: Array, bias: Array | float = 0.0) -> Array:
    """x [*, K] times weight [N, K] transposed, plus bias [N] -> [*, N]."""
    if weight.dtype != np.float16:
        return np.matmul(f32(x), weight.T) + bias
    x_MK = f32(x).reshape(-1, weight.shape[1])
    out_MN = np.empty((x_MK.shape[0], weight.shape[0]), np.float32)
    rows = max(1, _WIDEN_ELEMENTS // weight.shape[1])
    for start in range(0, weight.shape[0], rows):
        np.matmul(x_MK, f32(weight[start : start + rows]).T, out=out_MN[:, start : start + rows])
    return out_MN.reshape(*x.shape[:-1], weight.shape[0]) + f32(np.asarray(bias))


def matmul(x: Array, y: Array, transpose_y: bool) -> Array:
    """Batched product with numpy's broadcasting; the flag swaps the last two axes of y first."""
    if not transpose_y:
        return np.matmul(f32(x), f32(y))
    if y.ndim == 2:
        return linear(x, y)  # a head kept as a matmul: do not widen it whole
    return np.matmul(f32(x), f32(np.swapaxes(y, -1, -2)))


def conv(x: Array, weight: Array, strides: Array, bias: Array | None = None) -> Array:
    """x [N, C, H, W], weight [O, C, h, w], bias [O] -> [N, O, H_out, W_out], without padding."""
    rows, columns = (int(stride) for stride in strides)
    view_NCHWhw = sliding_window_view(f32(x), weight.shape[2:], axis=(2, 3))[:, :, ::rows, ::columns]
    made_NHWO = np.tensordot(view_NCHWhw, f32(weight), axes=((1, 4, 5), (1, 2, 3)))
    return np.moveaxis(made_NHWO if bias is None else made_NHWO + f32(bias), -1, 1)


# --- norms ------------------------------------------------------------------------------------------------------------


def layer_norm(x: Array, axes: Array, gamma: Array, beta: Array, epsilon: Array) -> Array:
    """Normalize over the last axis; gamma and beta have its length. Raises ValueError for other axes."""
    if [int(axis) % x.ndim for axis in axes] != [x.ndim - 1]:
        raise ValueError(f"layer_norm over axes {axes.tolist()}: only the last one is interpreted")
    centered = f32(x) - np.mean(f32(x), axis=-1, keepdims=True)
    variance = np.mean(np.square(centered), axis=-1, keepdims=True)
    return centered / np.sqrt(variance + f32(epsilon)) * f32(gamma) + f32(beta)


MATH: dict[str, Callable[..., Any]] = {
    **{name: _binary(function) for name, function in _BINARY.items()},
    "abs": lambda x: np.abs(x),
    "clip": lambda x, alpha, beta: np.minimum(np.maximum(f32(x), f32(alpha)), f32(beta)),
    "conv": conv,
    "cumsum": cumsum,
    "exp": lambda x: np.exp(f32(x)),
    "gelu": gelu,
    "layer_norm": layer_norm,
    "linear": linear,
    "log": lambda x, epsilon: np.log(f32(x) + f32(epsilon)),
    "logical_not": lambda x: np.logical_not(x),
    "matmul": matmul,
    "reduce_argmax": reduce_argmax,
    "reduce_max": _reduce(np.max),
    "reduce_mean": _reduce(np.mean),
    "reduce_min": _reduce(np.min),
    "reduce_sum": _reduce(np.sum),
    "rsqrt": lambda x, epsilon: 1.0 / np.sqrt(f32(x) + f32(epsilon)),
    "sigmoid": sigmoid,
    "silu": lambda x: f32(x) * sigmoid(x),
    "softmax": softmax,
    "sqrt": lambda x: np.sqrt(f32(x)),
}
