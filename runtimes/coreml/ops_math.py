"""Arithmetic ops of MIL in numpy: element-wise, activations, reductions, matrix products, norms, convolution.

Every function takes MIL's own parameter names and returns an array of any float width; the interpreter rounds it to
the dtype the program declares. fp16 tensors are widened first, so that sums, norms and products accumulate in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
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


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + np.exp(-f32(x)))


def gelu(x: Array, mode: str = "EXACT") -> Array:
    """GELU in the three forms MIL knows. Raises ValueError for another mode."""
    x = f32(x)
    if mode == "EXACT":
        return 0.5 * x * (1.0 + erf(x * np.float32(math.sqrt(0.5))))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1.0 + np.tanh(np.float32(math.sqrt(2.0 / math.pi)) * (x + 0.044715 * x * x * x)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(1.702 * x)
    raise ValueError(f"gelu mode {mode!r} is none of EXACT, TANH_APPROXIMATION, SIGMOID_APPROXIMATION")


def power(x: Array, y: Array) -> Array:
    """x ** y. Integers with a negative exponent go through float64, since numpy refuses them."""
    if x.dtype.kind in "iu" and np.any(y < 0):
        return np.power(x.astype(np.float64), y)
    return np.power(f32(x), f32(y))


def _per_channel(parameter: Array, rank: int) -> Array:
    """[C] -> [1, C, 1, ...] to broadcast over [N, C, *spatial]."""
    return f32(parameter).reshape(1, -1, *[1] * (rank - 2)) if parameter.ndim else f32(parameter)


def prelu(x: Array, alpha: Array) -> Array:
    """x where positive, else alpha_c x, for [N, C, *spatial]."""
    return np.where(x > 0, f32(x), f32(x) * _per_channel(alpha, x.ndim))


def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha_c log(1 + exp(beta_c x)) for [N, C, *spatial]."""
    return _per_channel(alpha, x.ndim) * np.logaddexp(0, f32(x) * _per_channel(beta, x.ndim))


def _unary(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda x: function(f32(x))


def _binary(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda x, y: function(f32(x), f32(y))


_UNARY: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "ceil": np.ceil,
    "cos": np.cos, "cosh": np.cosh, "exp": np.exp, "exp2": np.exp2, "floor": np.floor, "logical_not": np.logical_not,
    "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6), "round": np.rint, "sign": np.sign,
    "silu": lambda x: x * sigmoid(x), "sin": np.sin, "sinh": np.sinh, "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1.0 + np.abs(x)), "sqrt": np.sqrt, "square": np.square, "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip
_BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "equal": np.equal, "floor_div": np.floor_divide, "greater": np.greater,
    "greater_equal": np.greater_equal, "less": np.less, "less_equal": np.less_equal, "logical_and": np.logical_and,
    "logical_or": np.logical_or, "logical_xor": np.logical_xor, "maximum": np.maximum, "minimum": np.minimum,
    "mod": np.mod, "mul": np.multiply, "not_equal": np.not_equal, "real_div": np.true_divide, "sub": np.subtract,
}  # fmt: skip

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    "clamped_relu": lambda x, alpha, beta: np.minimum(np.where(x >= 0, f32(x), f32(alpha) * f32(x)), f32(beta)),
    "clip": lambda x, alpha, beta: np.minimum(np.maximum(f32(x), f32(alpha)), f32(beta)),
    "elu": lambda x, alpha: np.where(x > 0, f32(x), f32(alpha) * np.expm1(f32(x))),
    "erf": erf,
    "gelu": gelu,
    "inverse": lambda x, epsilon=1e-4: 1.0 / (f32(x) + np.float32(epsilon)),
    "leaky_relu": lambda x, alpha: np.where(x >= 0, f32(x), f32(alpha) * f32(x)),
    "linear_activation": lambda x, alpha, beta: f32(alpha) * f32(x) + f32(beta),
    "log": lambda x, epsilon=1e-45: np.log(f32(x) + np.float32(epsilon)),
    "pow": power,
    "prelu": prelu,
    "rsqrt": lambda x, epsilon=1e-12: 1.0 / np.sqrt(f32(x) + np.float32(epsilon)),
    "scaled_tanh": lambda x, alpha, beta: f32(alpha) * np.tanh(f32(x) * f32(beta)),
    "sigmoid": sigmoid,
    "sigmoid_hard": lambda x, alpha, beta: np.clip(f32(alpha) * f32(x) + f32(beta), 0, 1),
    "softplus_parametric": softplus_parametric,
    "threshold": lambda x, alpha: np.maximum(f32(x), f32(alpha)),
    "thresholded_relu": lambda x, alpha: np.where(x >= alpha, f32(x), np.float32(0)),
}  # fmt: skip


# --- reductions -------------------------------------------------------------------------------------------------------


def log_sum_exp(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    """log(sum(exp(x))) without overflow."""
    peak = np.max(x, axis=axis, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0)  # a row of -inf would otherwise give inf - inf
    total = np.log(np.sum(np.exp(x - peak), axis=axis, keepdims=keepdims))
    return total + peak.reshape(total.shape)


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: bool = False) -> Array:
        chosen = None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))
        return function(f32(x), axis=chosen, keepdims=bool(keep_dims))

    return reduce


def _reduce_arg(
    function: Callable[..., Any], x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Array:
    # numpy returns the first of equal values: ties go to the lower index.
    return np.asarray(function(x, axis=int(axis), keepdims=bool(keep_dims))).astype(output_dtype)


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_argmax": partial(_reduce_arg, np.argmax),
    "reduce_argmin": partial(_reduce_arg, np.argmin),
    "reduce_l1_norm": _reduce(lambda x, axis, keepdims: np.sum(np.abs(x), axis=axis, keepdims=keepdims)),
    "reduce_l2_norm": _reduce(lambda x, axis, keepdims: np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))),
    "reduce_log_sum": _reduce(lambda x, axis, keepdims: np.log(np.sum(x, axis=axis, keepdims=keepdims))),
    "reduce_log_sum_exp": _reduce(log_sum_exp),
    "reduce_max": _reduce(np.max),
    "reduce_mean": _reduce(np.mean),
    "reduce_min": _reduce(np.min),
    "reduce_prod": _reduce(np.prod),
    "reduce_sum": _reduce(np.sum),
    "reduce_sum_square": _reduce(lambda x, axis, keepdims: np.sum(np.square(x), axis=axis, keepdims=keepdims)),
}


def cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """Running sum along `axis`; `exclusive` leaves the own element out, `reverse` runs from the end."""
    axis = int(axis)
    x = np.flip(f32(x), axis) if reverse else f32(x)
    total = np.cumsum(x, axis=axis, dtype=x.dtype)
    if exclusive:
        total = np.roll(total, 1, axis)
        total[(slice(None),) * (axis % x.ndim) + (0,)] = 0
    return np.flip(total, axis) if reverse else total


def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum."""
    x = f32(x)
    weights = np.exp(x - np.max(x, axis=int(axis), keepdims=True))
    weights /= np.sum(weights, axis=int(axis), keepdims=True)
    return weights


# --- matrix products --------------------------------------------------------------------------------------------------


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x [*, K] times weight [N, K] transposed, plus bias [N] -> [*, N]."""
    if weight.dtype != np.float16:
        out = np.matmul(f32(x), weight.T)
    else:
        x_MK = f32(x).reshape(-1, weight.shape[1])
        out = np.empty((x_MK.shape[0], weight.shape[0]), np.float32)
        rows = max(1, _WIDEN_ELEMENTS // weight.shape[1])
        for start in range(0, weight.shape[0], rows):
            np.matmul(x_MK, f32(weight[start : start + rows]).T, out=out[:, start : start + rows])
        out = out.reshape(*x.shape[:-1], weight.shape[0])
    return out if bias is None else out + f32(bias)


def matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    """Batched product with numpy's broadcasting; the flags swap the last two axes of a factor first."""
    if transpose_y and not transpose_x and y.ndim == 2 and x.ndim >= 2:
        return linear(x, y)  # an lm_head kept as a matmul: do not widen it whole
    x = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    y = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    return np.matmul(f32(x), f32(y))


def einsum(values: Sequence[Array], equation: str) -> Array:
    """MIL's two equations, nchw,nwhu->nchu and chw,whr->chr (size-1 batch axes broadcast); others by numpy's einsum."""
    x, y = values
    letters = {letter: chr(97 + i) for i, letter in enumerate(dict.fromkeys(c for c in equation if c.isalpha()))}
    if "".join(letters.get(c, c) for c in equation.replace(" ", "")) in ("abcd,adce->abce", "abc,cbd->abd"):
        return np.swapaxes(np.matmul(f32(np.swapaxes(x, -3, -2)), f32(np.swapaxes(y, -3, -2))), -3, -2)
    return np.einsum(equation, f32(x), f32(y), optimize=True)


def scaled_dot_product_attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    """softmax(Q K^T / sqrt(E) + mask) V for [B, *, L, E]; a bool mask keeps where true. Rounded once, at the end."""
    scores = np.matmul(f32(query), np.swapaxes(f32(key), -1, -2))
    scores *= np.float32(1.0 / math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        masked = np.where(attn_mask, np.float32(0), np.float32(-np.inf)) if attn_mask.dtype == bool else f32(attn_mask)
        scores = scores + masked
    return np.matmul(softmax(scores), f32(value))


# --- norms ------------------------------------------------------------------------------------------------------------


def _normalize(x: Array, axes: tuple[int, ...], epsilon: Array | float) -> Array:
    centered = x - np.mean(x, axis=axes, keepdims=True)
    return centered / np.sqrt(np.mean(np.square(centered), axis=axes, keepdims=True) + np.float32(epsilon))


def layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Normalize over `axes` (all by default); gamma and beta have the shape of those axes."""
    chosen = tuple(range(x.ndim)) if axes is None else tuple(sorted(int(axis) % x.ndim for axis in np.atleast_1d(axes)))
    shape = [size if axis in chosen else 1 for axis, size in enumerate(x.shape)]
    out = _normalize(f32(x), chosen, epsilon)
    out = out if gamma is None else out * f32(gamma).reshape(shape)
    return out if beta is None else out + f32(beta).reshape(shape)


def instance_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Normalize every channel of [N, C, *spatial] over its spatial axes; gamma, beta [C]."""
    out = _normalize(f32(x), tuple(range(2, x.ndim)), epsilon)
    out = out if gamma is None else out * _per_channel(gamma, x.ndim)
    return out if beta is None else out + _per_channel(beta, x.ndim)


def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Normalize [N, C, *spatial] by the given statistics [C]."""
    out = (f32(x) - _per_channel(mean, x.ndim)) / np.sqrt(_per_channel(variance, x.ndim) + np.float32(epsilon))
    out = out if gamma is None else out * _per_channel(gamma, x.ndim)
    return out if beta is None else out + _per_channel(beta, x.ndim)


def l2_norm(x: Array, epsilon: Array | float = 1e-6) -> Array:
    """Divide by the root of the sum of squares over the last three axes."""
    x = f32(x)
    return x / np.sqrt(np.sum(np.square(x), axis=(-3, -2, -1), keepdims=True) + np.float32(epsilon))


# --- windows ----------------------------------------------------------------------------------------------------------


def _windows(
    x: Array,
    kernel: Sequence[int],
    strides: Array | None,
    dilations: Array | None,
    pad_type: str,
    pad: Array | None,
    fill: float,
) -> Array:
    """[N, C, *D] -> a strided view [N, C, *D_out, *kernel] of the padded input."""
    spatial = len(kernel)
    steps = [1] * spatial if strides is None else [int(s) for s in strides]
    holes = [1] * spatial if dilations is None else [int(d) for d in dilations]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, holes, strict=True)]
    if pad_type in ("same", "same_lower"):
        totals = [max(0, (math.ceil(n / s) - 1) * s + r - n) for n, s, r in zip(x.shape[2:], steps, reach, strict=True)]
        low = [(total + (pad_type == "same_lower")) // 2 for total in totals]
        around = [(before, total - before) for before, total in zip(low, totals, strict=True)]
    elif pad_type == "custom" and pad is not None:
        around = [(int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(spatial)]
    else:
        around = [(0, 0)] * spatial
    if any(before or after for before, after in around):
        x = np.pad(x, [(0, 0), (0, 0), *around], constant_values=fill)
    view = sliding_window_view(x, reach, axis=tuple(range(2, 2 + spatial)))
    every = [slice(None), slice(None), *(slice(None, None, s) for s in steps), *(slice(None, None, d) for d in holes)]
    return view[tuple(every)]


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """Convolution in 1 to 3 dimensions: x [N, C, *D], weight [O, C / groups, *K] -> [N, O, *D_out]."""
    groups, spatial, kernel = int(groups), x.ndim - 2, weight.shape[2:]
    view = _windows(f32(x), kernel, strides, dilations, pad_type, pad, 0.0)
    n, c, *out_shape = view.shape[: 2 + spatial]
    view = view.reshape(n, groups, c // groups, *out_shape, *kernel)
    order = (1, 0, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial))
    columns = view.transpose(order).reshape(groups, n * math.prod(out_shape), -1)  # [G, N * D_out, C / G * K]
    filters = f32(weight).reshape(groups, weight.shape[0] // groups, -1)  # [G, O / G, C / G * K]
    out = np.matmul(columns, np.swapaxes(filters, 1, 2)).reshape(groups, n, -1, weight.shape[0] // groups)
    out = out.transpose(1, 0, 3, 2).reshape(n, weight.shape[0], *out_shape)
    return out if bias is None else out + _per_channel(bias, x.ndim)


def _no_ceil(ceil_mode: bool) -> None:
    if ceil_mode:
        raise NotImplementedError("pooling with ceil_mode=True is not interpreted; export it with ceil_mode=False")


def max_pool(
    x: Array,
    kernel_sizes: Array,
    pad_type: str,
    strides: Array | None = None,
    pad: Array | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Largest value of each window of [N, C, *D]. Raises NotImplementedError for `ceil_mode`."""
    _no_ceil(ceil_mode)
    kernel = [int(k) for k in kernel_sizes]
    view = _windows(f32(x), kernel, strides, None, pad_type, pad, -np.inf)
    return view.max(axis=tuple(range(-len(kernel), 0)))


def avg_pool(
    x: Array,
    kernel_sizes: Array,
    pad_type: str,
    strides: Array | None = None,
    pad: Array | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Array:
    """Mean of each window of [N, C, *D], padding counted unless excluded. Raises NotImplementedError: `ceil_mode`."""
    _no_ceil(ceil_mode)
    kernel = [int(k) for k in kernel_sizes]
    axes = tuple(range(-len(kernel), 0))
    total = _windows(f32(x), kernel, strides, None, pad_type, pad, 0.0).sum(axis=axes)
    if not exclude_padding_from_average:
        return total / np.float32(math.prod(kernel))
    return total / _windows(np.ones_like(f32(x)), kernel, strides, None, pad_type, pad, 0.0).sum(axis=axes)


MATH: dict[str, Callable[..., Any]] = {
    **ELEMENTWISE,
    **REDUCTIONS,
    "avg_pool": avg_pool,
    "batch_norm": batch_norm,
    "conv": conv,
    "cumsum": cumsum,
    "einsum": einsum,
    "instance_norm": instance_norm,
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
    "linear": linear,
    "matmul": matmul,
    "max_pool": max_pool,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "softmax": softmax,
}
