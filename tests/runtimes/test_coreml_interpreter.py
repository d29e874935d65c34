"""The interpreter against torch, coremltools' own value inference, and hand-dequantized weights.

Tolerances bound |error| / max(1, |reference|): 5e-6 in float32; in fp16 1e-3 for one op (two roundings of 2^-11) and
5e-3 for a whole block, where the reference is torch in float32 on weights and inputs already rounded to fp16.
"""

# ruff: noqa: E402
from __future__ import annotations

import copy
import gc
import math
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ct = pytest.importorskip("coremltools")
import coremltools.optimize as cto
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.frontend.milproto.load import load_mil_proto
from coremltools.converters.mil.mil import types
from vlmp.runtimes.coreml.interpreter import MilProgram, UnsupportedOpError, load_functions
from vlmp.runtimes.coreml.ops import op_table, unpack_bits
from vlmp.runtimes.coreml.ops_math import erf

BOUND = {"fp32": 5e-6, "fp16": 1e-3}
BLOCK_BOUND = {"fp32": 5e-6, "fp16": 5e-3}
PRECISION = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}
RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True, scope="module")
def _frozen_heap() -> Iterator[None]:
    """ct.convert ends in gc.collect(), which would walk torch and coremltools every time: two thirds of its time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    precision: str = "fp32",
    target: Any = ct.target.iOS18,
    compress: Callable[[Any], Any] | None = None,
    **convert: Any,
) -> Path:
    """Trace, convert and save; inputs are named i0, i1, ..."""
    names = [f"i{k}" for k in range(len(inputs))]
    kinds = [np.int32 if not t.is_floating_point() else np.float32 for t in inputs]
    types_ = [ct.TensorType(n, tuple(t.shape), dtype=k) for n, t, k in zip(names, inputs, kinds, strict=True)]
    model = ct.convert(
        torch.jit.trace(module.eval(), inputs),
        inputs=types_,
        compute_precision=PRECISION[precision],
        minimum_deployment_target=target,
        skip_model_load=True,
        **convert,
    )
    model = compress(model) if compress else model
    model.save(str(path))
    return path


def round_weights(module: nn.Module) -> None:
    """Give the reference the fp16 values that the package stores."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half().float())


def run(
    program: MilProgram, inputs: tuple[Tensor, ...], state: dict[str, np.ndarray] | None = None
) -> list[np.ndarray]:
    arrays = {n: t.numpy().astype(dtype) for (n, (_, dtype)), t in zip(program.inputs.items(), inputs, strict=True)}
    return list(program.predict(arrays, state).values())


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest error relative to max(1, |want|); infinite where shapes differ."""
    if got.shape != want.shape:
        return math.inf
    wide = want.astype(np.float64)
    same = (got.astype(np.float64) == wide) | (np.isnan(got) & np.isnan(wide))  # equal infinities differ by nan
    return float(np.max(np.where(same, 0.0, np.abs(got - wide) / np.maximum(1.0, np.abs(wide))), initial=0.0))


def built(program: Any, path: Path, target: Any = ct.target.iOS18, precision: str = "fp32") -> MilProgram:
    """Save a program written with the MIL builder, without any graph pass, and load it back."""
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=PRECISION[precision],
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    return MilProgram(path)


# --- torch modules ----------------------------------------------------------------------------------------------------


class Vision(nn.Module):
    """Patch embedding, and one block with rotary attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.norm, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        angle = torch.outer(torch.arange(16.0), 0.1 ** torch.arange(4.0))
        self.register_buffer("cos", torch.cat([angle, angle], -1).cos())
        self.register_buffer("sin", torch.cat([angle, angle], -1).sin())

    def rotary(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-right, left], -1) * self.sin

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).reshape(1, 16, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (self.rotary(q) @ self.rotary(k).transpose(-1, -2)) / math.sqrt(8)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(1, 16, 32))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Decoder(nn.Module):
    """Embedding, RMSNorm, grouped-query attention with rotary, SwiGLU, head; a mask built from a length."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.norm = nn.Parameter(1 + 0.1 * torch.randn(32))
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 16), nn.Linear(32, 16)
        self.out = nn.Linear(32, 32, bias=False)
        self.gate, self.up, self.down = (nn.Linear(a, b, bias=False) for a, b in ((32, 48), (32, 48), (48, 32)))

    def rms(self, x: Tensor) -> Tensor:
        return self.norm * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        left, right = x[..., :4], x[..., 4:]
        return x * cos + torch.cat([-right, left], -1) * sin

    def forward(self, ids: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        x = self.embed(ids)
        place = torch.arange(6)
        angle = place[:, None].float() * torch.tensor([1.0, 0.3, 0.1, 0.03])
        cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
        y = self.rms(x)
        q = self.rotary(self.q(y).view(1, 6, 4, 8).transpose(1, 2), cos, sin)
        k = self.rotary(self.k(y).view(1, 6, 2, 8).transpose(1, 2), cos, sin)
        v = self.v(y).view(1, 6, 2, 8).transpose(1, 2)
        k, v = (t[:, :, None].expand(1, 2, 2, 6, 8).reshape(1, 4, 6, 8) for t in (k, v))
        seen = torch.logical_and(place[None] <= place[:, None], place[None] < length)
        mask = torch.where(seen, 0.0, -40000.0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(1, 6, 32))
        y = self.rms(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return x, x @ self.embed.weight.T


class Pick(nn.Module):
    """Score tokens, keep the best, gather their rows and rotary tables, attend: selection inside a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.mix = nn.Linear(16, 1), nn.Linear(16, 16)
        self.register_buffer("cos", torch.linspace(-1, 1, 24 * 16).reshape(24, 16))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        kept = torch.topk(self.score(x).squeeze(-1), 5).indices
        kept = torch.sort(kept).values
        rows = x[kept] * self.cos[kept]
        near = F.normalize(rows, dim=-1) @ F.normalize(x, dim=-1).T
        owner = near.argmax(0)
        merged = torch.zeros_like(rows).scatter_add(0, owner[:, None].expand(24, 16), self.mix(x))
        return kept.int(), owner.int(), merged, rows.softmax(-1) @ merged.T, near.amin(0), near.cumsum(-1)


class Convolutions(nn.Module):
    """Strides, pads, groups and dilations in one, two and three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2)
        self.dilated = nn.Conv2d(4, 6, 3, dilation=2, padding="same")
        self.depthwise = nn.Conv2d(4, 8, (3, 2), stride=(1, 2), groups=4)
        self.frames = nn.Conv3d(1, 5, (2, 4, 4), stride=(2, 4, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # x [2, 4, 9, 8]
        return self.grouped(x[:, :, 0]), self.dilated(x), self.depthwise(x), self.frames(x[:, None, :, :8])


class Wrapped(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def norms() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([9, 8]))


def pools() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 2, 1, count_include_pad=False))


def activations(x: Tensor) -> Tensor:
    smooth = [F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), x.tanh(), x.sigmoid(), F.softplus(x), torch.erf(x)]
    kinked = [F.relu(x), F.relu6(x * 4), F.elu(x), F.leaky_relu(x, 0.1), F.hardsigmoid(x), F.softsign(x)]
    return torch.stack([*smooth, *kinked])


def elementwise(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    size = x.abs() + 0.1
    two = (x + y, x - y, x * y, x / (y.abs() + 1), torch.maximum(x, y), torch.minimum(x, y), size**1.5)
    one = (size.sqrt(), size.rsqrt(), size.log(), x.exp(), x.sin(), x.cos(), torch.atan(x), x.sign())
    return *two, *one, x.floor(), x.ceil(), x.round(), x.clamp(-0.5, 0.7)


def integers(i: Tensor) -> tuple[Tensor, ...]:
    return i // 3, i % 3, i * 70001, (i > 1).int(), (i == 2).int(), (i != 2).int(), i - 5


def logic(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(torch.logical_or(torch.logical_not(x > 0), torch.logical_and(y >= 0, x <= y)), x, y)


def reductions(x: Tensor) -> tuple[Tensor, ...]:
    sums = (x.sum(1), x.mean((0, 2)), x.logsumexp(-1), x.norm(dim=1), x.abs().sum(), x.cumsum(0), x.cumsum(-1))
    return *sums, x.amax(-1, keepdim=True), x.amin(0), x.argmax(-1).int(), x.argmin(1).int()


def shapes(x: Tensor) -> tuple[Tensor, ...]:
    moved = (x.reshape(6, -1), x.permute(2, 0, 1), x[:, None, :, :, None], x[:1].squeeze(0), x.flip(1), x.flatten(1))
    joined = (x.repeat(2, 1, 3), torch.cat([x, x], 1), torch.stack([x, x], 2), x.expand(4, 2, 3, 8))
    return *moved, *joined, torch.full_like(x, 2.5) + x, torch.arange(8) * x, torch.ones(3, 8) - x


def slices(x: Tensor) -> tuple[Tensor, ...]:
    pads = (F.pad(x, (1, 2, 0, 1), value=3.0), F.pad(x, (2, 1), "reflect"), F.pad(x, (1, 2), "replicate"))
    return x[:, 1:, ::3], x[..., -2:], x[1, :, 0], *x.split([1, 2, 5], -1), torch.tril(x), torch.triu(x, 1), *pads


def gathers(x: Tensor, i: Tensor) -> tuple[Tensor, ...]:
    wide = i.view(1, 4, 1).expand(2, 4, 8)
    return x[:, :, i], x.index_select(1, i), x.gather(1, wide), x[:, i, i], F.one_hot(i, 5).int()


def scatters(x: Tensor, i: Tensor) -> tuple[Tensor, ...]:
    wide, turned = i.view(1, 4, 1).expand(2, 4, 8), x.transpose(0, 1)
    placed = torch.zeros(2, 3, 8).scatter(1, wide[:, :1], x[:, :1])
    return x.scatter_add(1, wide, torch.ones(2, 4, 8)), turned.index_put((i[:2],), turned[:2]), placed


def sorting(x: Tensor) -> tuple[Tensor, ...]:
    return *torch.topk(x, 3, dim=-1), *torch.topk(x, 2, dim=1, largest=False), x.argsort(-1), x.sort(1).values


def products(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    lower = torch.ones(3, 3).tril().bool()
    attended = F.scaled_dot_product_attention(x, y, y, attn_mask=lower)
    heads = F.scaled_dot_product_attention(x[None], y[None, :, :2], y[None, :, :2])
    return x @ y.transpose(1, 2), x.transpose(1, 2) @ y, torch.einsum("bij,bkj->bki", x, y), attended, heads


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


X, Y = noise(2, 2, 3, 8)
IMAGES, PLACES = noise(2, 4, 9, 8), torch.tensor([2, 0, 2, 1])
BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "vision": (Vision, (noise(1, 3, 16, 16),)),
    "decoder": (Decoder, (torch.tensor([[3, 49, 0, 7, 7, 1]]), torch.tensor([5]))),
    "pick": (Pick, (noise(24, 16),)),
}
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    **BLOCKS,
    "linear_no_bias": (lambda: nn.Linear(8, 5, bias=False), (X,)),
    "convolutions": (Convolutions, (IMAGES,)),
    "norms": (norms, (IMAGES,)),
    "pools": (pools, (IMAGES,)),
    "activations": (lambda: Wrapped(activations), (3 * X,)),
    "elementwise": (lambda: Wrapped(elementwise), (3 * X, Y)),
    "integers": (lambda: Wrapped(integers), (torch.tensor([7, -7, 2, 1]),)),
    "logic": (lambda: Wrapped(logic), (X, Y)),
    "reductions": (lambda: Wrapped(reductions), (X,)),
    "shapes": (lambda: Wrapped(shapes), (X,)),
    "slices": (lambda: Wrapped(slices), (X,)),
    "gathers": (lambda: Wrapped(gathers), (X, PLACES)),
    "scatters": (lambda: Wrapped(scatters), (X, PLACES)),
    "sorting": (lambda: Wrapped(sorting), (X,)),
    "products": (lambda: Wrapped(products), (X, Y)),
}


def compare(program: MilProgram, module: nn.Module, inputs: tuple[Tensor, ...], bound: float) -> None:
    """Floats within the bound, integers exactly."""
    with torch.no_grad():
        want = module(*inputs)
    for index, (got, w) in enumerate(
        zip(run(program, inputs), want if isinstance(want, tuple) else (want,), strict=True)
    ):
        if w.is_floating_point():
            assert error(got, w.numpy()) <= bound, f"output {index}"
        else:
            np.testing.assert_array_equal(got, w.numpy(), err_msg=f"output {index}")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", MODULES)
def test_module_equals_torch(name: str, precision: str, tmp_path: Path) -> None:
    make, inputs = MODULES[name]
    module = make().eval()
    if precision == "fp16":
        round_weights(module)
        inputs = tuple(t.half().float() if t.is_floating_point() else t for t in inputs)
    program = MilProgram(export(module, inputs, tmp_path / "m.mlpackage", precision))
    compare(program, module, inputs, (BLOCK_BOUND if name in BLOCKS else BOUND)[precision])


@pytest.mark.parametrize("target", ["iOS16", "iOS17"])
@pytest.mark.parametrize("name", ["decoder", "pick"])
def test_other_systems(name: str, target: str, tmp_path: Path) -> None:
    make, inputs = BLOCKS[name]
    module = make()
    path = export(module, inputs, tmp_path / "m.mlpackage", target=getattr(ct.target, target))
    compare(MilProgram(path), module, inputs, BLOCK_BOUND["fp32"])


def test_torch_export_path(tmp_path: Path) -> None:
    make, inputs = BLOCKS["decoder"]
    module = make().eval()
    model = ct.convert(
        torch.export.export(module, inputs).run_decompositions({}),
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "m.mlpackage"))
    compare(MilProgram(tmp_path / "m.mlpackage"), module, inputs, BLOCK_BOUND["fp32"])


# --- one op against coremltools' own constant folding -----------------------------------------------------------------

A, B = RNG.standard_normal((2, 3, 4)).astype(np.float32), RNG.standard_normal((3, 1)).astype(np.float32)
SMALL = RNG.uniform(-0.9, 0.9, (3, 4)).astype(np.float32)
WHOLE, DIVISOR = np.array([[7, -7, 0], [9, 5, -4]], np.int32), np.array([2, -3, 4], np.int32)
FLAGS = np.array([[True, False, True], [False, False, True]])
IMAGE = RNG.standard_normal((2, 4, 6, 6)).astype(np.float32)
AXES = np.array([0, -1], np.int32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def flags(*values: bool) -> np.ndarray:
    return np.array(values, np.bool_)


Case = tuple[str, dict[str, Any]]


def case(ops: str, **arguments: Any) -> list[Case]:
    """The same arguments for each op of a list."""
    return [(op, arguments) for op in ops.split()]


LOW, HIGH = np.float32(0.3), np.float32(0.6)
ROWS, PAIRS = np.array([[1, 0], [0, 1]], np.int32), np.array([[2, 0], [1, 1]], np.int32)
ALL, LAST = flags(True, True, True), flags(False, False, True)
FOLDED: list[Case] = [
    *case("acos asin atan atanh ceil cos cosh erf exp exp2 floor round sign sin sinh sqrt", x=SMALL),
    *case("square tan tanh abs relu relu6 sigmoid softplus softsign softmax", x=5 * A),
    *case("add sub mul real_div maximum minimum mod floor_div pow", x=A, y=B),
    *case("equal not_equal less less_equal greater greater_equal", x=A, y=B),
    *case("add sub mul floor_div mod maximum minimum equal less", x=WHOLE, y=DIVISOR),
    *case("logical_and logical_or logical_xor", x=FLAGS, y=flags(True, True, False)),
    *case("logical_not", x=FLAGS),
    *case("gelu", x=4 * A, mode="EXACT"),
    *case("gelu", x=4 * A, mode="TANH_APPROXIMATION"),
    *case("gelu", x=4 * A, mode="SIGMOID_APPROXIMATION"),
    *case("log rsqrt inverse", x=np.abs(A) + 1),
    *case("leaky_relu elu threshold thresholded_relu", x=A, alpha=LOW),
    *case("clamped_relu clip scaled_tanh sigmoid_hard linear_activation", x=A, alpha=LOW, beta=HIGH),
    *case("prelu", x=IMAGE, alpha=np.float32([0.1, 0.2, 0.3, 0.4])),
    *case("softplus_parametric", x=IMAGE, alpha=np.float32([1, 2, 3, 4]), beta=np.float32([4, 3, 2, 1])),
    *case("reduce_sum reduce_mean reduce_max reduce_min reduce_prod", x=A, axes=AXES, keep_dims=True),
    *case("reduce_sum reduce_mean reduce_max reduce_min reduce_prod", x=A, axes=AXES, keep_dims=False),
    *case("reduce_l1_norm reduce_l2_norm reduce_sum_square reduce_log_sum_exp", x=A, axes=AXES, keep_dims=True),
    *case("reduce_l1_norm reduce_l2_norm reduce_sum_square reduce_log_sum_exp", x=A, axes=AXES, keep_dims=False),
    *case("reduce_log_sum", x=np.abs(A), keep_dims=False),
    *case("reduce_sum", x=WHOLE, axes=ints(1), keep_dims=False),
    *case("reduce_argmax reduce_argmin", x=A, axis=1, keep_dims=True),
    *case("reduce_argmax reduce_argmin", x=A, axis=-1, keep_dims=False),
    *case("cumsum", x=A, axis=1, reverse=True, exclusive=False),
    *case("layer_norm", x=A, axes=ints(-1, 1), gamma=A[0], beta=A[1], epsilon=np.float32(1e-3)),
    *case("l2_norm", x=IMAGE, epsilon=np.float32(1e-3)),
    *case("linear", x=A, weight=SMALL, bias=SMALL[:, 0]),
    *case("matmul", x=A, y=SMALL, transpose_x=False, transpose_y=True),
    *case("matmul", x=A, y=A, transpose_x=True, transpose_y=False),
    *case("scaled_dot_product_attention", query=A, key=A, value=A, attn_mask=np.tri(3, dtype=np.bool_)),
    *case("expand_dims", x=A, axes=ints(1, -1)),
    *case("squeeze", x=B, axes=ints(1)),
    *case("flatten2d", x=A, axis=-1),
    *case("reshape", x=A, shape=ints(1, 0, -1, 0)),
    *case("transpose", x=A, perm=ints(-1, 0, 1)),
    *case("reverse", x=A, axes=ints(0, 2)),
    *case("reverse shape identity argsort", x=A),
    *case("argsort", x=A, axis=1, ascending=True),
    *case("topk", x=A, k=2, axis=-1, ascending=True),
    *case("topk", x=WHOLE, k=1, axis=0),
    *case("concat", values=(A, A[:1]), axis=-3, interleave=False),
    *case("stack", values=(A, A + 1), axis=-1),
    *case("split", x=A, axis=2, split_sizes=ints(1, 3)),
    *case("split", x=A, axis=-1, num_splits=2),
    *case("tile", x=A, reps=ints(2, 1, 3)),
    *case("pad", x=A, pad=ints(1, 2, 2, 0), mode="reflect"),
    *case("pad", x=A, pad=ints(1, 2, 2, 0), mode="replicate"),
    *case("pad", x=A, pad=ints(0, 1), mode="constant", constant_val=np.float32(-3)),
    *case("range_1d", start=2, end=11, step=3),
    *case("range_1d", start=np.float32(1), end=np.float32(0), step=np.float32(-0.3)),
    *case("band_part", x=A, lower=1, upper=0),
    *case("band_part", x=A, lower=-1, upper=1),
    *case("fill", shape=ints(2, 3), value=np.float32(1.5)),
    *case("fill_like", ref_tensor=A, value=3),
    *case("non_zero", x=WHOLE),
    *case("select", cond=FLAGS, a=WHOLE, b=WHOLE + 100),
    *case("gather", x=A, indices=ROWS, axis=0),
    *case("gather", x=A, indices=PAIRS, axis=1, batch_dims=1),
    *case("gather_along_axis", x=A, indices=np.ones((2, 2, 4), np.int32), axis=1),
    *case("scatter_along_axis", data=A, indices=np.full((2, 1, 4), 2), updates=A[:, :1], axis=1, mode="update"),
    *case("slice_by_size", x=A, begin=ints(0, 1, -2), size=ints(-1, 2, 1)),
    *case("slice_by_index", x=A, begin=ints(0, 0, 3), end=ints(2, 2, 0), stride=ints(1, 1, -2)),
    *case("slice_by_index", x=A, begin=ints(1, -2, 0), end=ints(0, -1, -1), end_mask=LAST, squeeze_mask=flags(1, 0, 0)),
    *case(
        "slice_by_index", x=A, begin=AXES[[0, 0, 0]], end=AXES[[0, 0, 0]], begin_mask=ALL, end_mask=ALL,
        stride=ints(-1, 2, -3),
    ),
    *case("slice_update", x=A, update=-A[:, 1:2, ::2], begin=ints(0, 1, 0), end=ints(2, 2, 9), stride=ints(1, 1, 2)),
    *case("cast", x=7 * A, dtype="int32"),
    *case("cast", x=WHOLE, dtype="bool"),
    *case("cast", x=7 * A, dtype="fp16"),
    *case(
        "quantize", input=A, scale=np.float32([0.02, 0.01, 0.3, 1]), zero_point=np.int8([3, -2, 0, 1]), axis=2,
        output_dtype="int8",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("op", "arguments"), FOLDED, ids=[f"{i}-{op}" for i, (op, _) in enumerate(FOLDED)])
def test_op_equals_constant_folding(op: str, arguments: dict[str, Any]) -> None:
    folded: list[Any] = []

    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS18)
    def _program(x: Any) -> Any:
        # Folding works on the arrays it is given, and thresholded_relu even writes into them.
        result = getattr(mb, op)(**copy.deepcopy(arguments))
        folded.extend(var.val for var in (result if isinstance(result, tuple | list) else [result]))
        return mb.identity(x=x)

    values = {k: v if isinstance(v, str | tuple) else np.asarray(v) for k, v in arguments.items()}
    got = op_table("CoreML8")[op](**values)
    got = got if isinstance(got, list) else [got]
    assert folded[0] is not None, "coremltools did not fold the op"
    for g, want in zip(got, folded, strict=True):
        assert error(np.asarray(g), np.asarray(want)) <= 2e-6


# --- semantics that folding does not cover ----------------------------------------------------------------------------


def call(op: str, opset: str = "CoreML8", **arguments: Any) -> Any:
    return op_table(opset)[op](**{k: v if isinstance(v, str | tuple) else np.asarray(v) for k, v in arguments.items()})


def test_ties_go_to_the_lower_index() -> None:
    x = np.array([[3, 1, 3, 2, 3, 1]], np.int32)
    np.testing.assert_array_equal(call("topk", x=x, k=4)[1], [[0, 2, 4, 3]])
    np.testing.assert_array_equal(call("topk", x=x, k=3, ascending=True)[1], [[1, 5, 3]])
    np.testing.assert_array_equal(call("topk", x=x, k=-1, output_indices_dtype="uint16")[1], [[0, 2, 4, 3, 1, 5]])
    assert len(call("topk", x=x, k=2, return_indices=False)) == 1
    np.testing.assert_array_equal(call("argsort", x=x, axis=-1), [[0, 2, 4, 3, 1, 5]])
    assert call("reduce_argmax", x=x, axis=-1)[0] == 0


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumsum(exclusive: bool, reverse: bool) -> None:
    x = np.array([1, 2, 4], np.int32)
    want = {(0, 0): [1, 3, 7], (1, 0): [0, 1, 3], (0, 1): [7, 6, 4], (1, 1): [6, 4, 0]}[exclusive, reverse]
    np.testing.assert_array_equal(call("cumsum", x=x, exclusive=exclusive, reverse=reverse), want)


@pytest.mark.parametrize("op", ["gather", "gather_along_axis", "gather_nd"])
def test_index_out_of_bounds_is_an_error_and_negatives_wrap_only_up_to_ios16(op: str) -> None:
    x = np.arange(5, dtype=np.float32)
    index = np.array([[-1]] if op == "gather_nd" else [-1], np.int32)
    assert call(op, opset="CoreML6", x=x, indices=index).item() == 4
    with pytest.raises(IndexError, match=r"index -1 is outside \[0, 5\)"):
        call(op, x=x, indices=index)
    with pytest.raises(IndexError, match="index 5 is outside"):
        call(op, opset="CoreML6", x=x, indices=-index + 4)


def test_gather_nd_with_batch_dims() -> None:
    x, indices = np.arange(24).reshape(2, 3, 4), np.array([[[0, 1], [2, 3]], [[1, 0], [0, 0]]], np.int32)
    want = [[x[b][tuple(place)] for place in indices[b]] for b in range(2)]
    np.testing.assert_array_equal(call("gather_nd", x=x, indices=indices, batch_dims=1), want)


@pytest.mark.parametrize(
    ("mode", "want"),
    [
        ("update", [1, 9, 8]),
        ("add", [1, 16, 12]),
        ("sub", [1, -12, -4]),
        ("mul", [1, 90, 32]),
        ("div", [1, 2 / 45, 0.5]),
        ("max", [1, 9, 8]),
        ("min", [1, 2, 4]),
    ],
)
def test_scatter_modes_accumulate_over_repeated_indices(mode: str, want: list[float]) -> None:
    data, updates, index = np.float32([1, 2, 4]), np.float32([5, 9, 8]), ints(1, 1, 2)
    for op, indices in (("scatter", index), ("scatter_along_axis", index), ("scatter_nd", index[:, None])):
        got = call(op, data=data, indices=indices, updates=updates, mode=mode)
        np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_array_equal(data, [1, 2, 4])


def test_slice_update_does_not_broadcast_and_slice_by_size_stays_inside() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1\) into a slice of shape \(2, 3, 4\)"):
        call("slice_update", x=A, update=A[:1, :1, :1], begin=ints(0, 0, 0), end=ints(2, 3, 4))
    with pytest.raises(IndexError, match="takes 2:5 of axis 2"):
        call("slice_by_size", x=A, begin=ints(0, 0, 2), size=ints(1, 1, 3))


def test_shaping_ops() -> None:
    np.testing.assert_array_equal(
        call("concat", values=(ints(1, 2), ints(7, 8)), axis=-1, interleave=True), [1, 7, 2, 8]
    )
    np.testing.assert_array_equal(call("concat", values=(np.int32(1), np.int32(5)), axis=0), [1, 5])
    hot = call("one_hot", indices=ints(1, -1, 2), one_hot_vector_size=3, axis=0, on_value=2, off_value=-1)
    np.testing.assert_array_equal(hot, [[-1, -1, -1], [2, -1, -1], [-1, -1, 2]])
    like = call("reshape_like", x=A, ref_tensors=(A, A), begins=(0, 1), ends=(1, 0), end_masks=(False, True))
    assert like.shape == A.shape
    np.testing.assert_array_equal(
        call("sliding_windows", x=np.arange(6), axis=0, size=3, stride=2), [[0, 1, 2], [2, 3, 4]]
    )
    assert call("squeeze", x=B, axes=ints(0, 1)).shape == (3,)  # a longer axis that is named stays
    x = torch.from_numpy(IMAGE)
    np.testing.assert_array_equal(call("pixel_shuffle", x=IMAGE, upscale_factor=2), F.pixel_shuffle(x, 2))
    np.testing.assert_array_equal(call("pixel_unshuffle", x=IMAGE, downscale_factor=3), F.pixel_unshuffle(x, 3))
    assert call("linear", x=A, weight=SMALL.astype(np.float16)).dtype == np.float32


@pytest.mark.parametrize(
    ("equation", "order"), [("nchw,nwhu->nchu", "abcd,adce->abce"), ("chw,whr->chr", "abc,cbd->abd")]
)
def test_einsum_broadcasts_its_batch(equation: str, order: str) -> None:
    rank = equation.index(",")
    x, y = RNG.standard_normal((2, 3, 5, 4)[-rank:]), RNG.standard_normal((2, 4, 1, 6)[-rank:])
    want = np.einsum(order, x, np.broadcast_to(y, (*y.shape[:-2], 5, 6)))
    np.testing.assert_allclose(call("einsum", values=(x, y), equation=equation), want, rtol=1e-9)


@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
def test_same_padding(pad_type: str) -> None:
    x, weight = RNG.standard_normal((1, 2, 7)).astype(np.float32), RNG.standard_normal((3, 2, 4)).astype(np.float32)
    before, after = (1, 2) if pad_type == "same" else (2, 1)  # 7 -> ceil(7 / 2) = 4 needs 3
    want = F.conv1d(F.pad(torch.from_numpy(x), (before, after)), torch.from_numpy(weight), stride=2)
    assert error(call("conv", x=x, weight=weight, strides=ints(2), pad_type=pad_type), want.numpy()) < 2e-6


def test_casts_truncate_saturate_and_overflow() -> None:
    x = np.float32([2.9, -2.9, 1e20, -1e20, np.nan, np.inf])
    limits = np.iinfo(np.int32)
    np.testing.assert_array_equal(call("cast", x=x, dtype="int32"), [2, -2, limits.max, limits.min, 0, limits.max])
    np.testing.assert_array_equal(call("cast", x=x, dtype="bool"), [1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(call("cast", x=ints(70000, -1), dtype="int16"), [70000 - 65536, -1])
    with np.errstate(over="ignore"):
        assert np.isinf(call("cast", x=np.float32(70000), dtype="fp16"))


def test_erf_over_its_range() -> None:
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    assert np.max(np.abs(erf(x) - np.vectorize(math.erf)(x))) < 5e-7
    assert erf(np.float32([-0.0, np.inf, -np.inf])).tolist() == [0, 1, -1]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_unpack_bits(bits: int, signed: bool) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    values = RNG.integers(low, low + 2**bits, 37)
    stream = sum(int(v % 2**bits) << (bits * i) for i, v in enumerate(values))
    packed = np.frombuffer(stream.to_bytes(-(-37 * bits // 8), "little"), np.uint8)
    np.testing.assert_array_equal(unpack_bits(packed, bits, 37, signed), values)
    with pytest.raises(ValueError, match="38 elements"):
        unpack_bits(packed[: 37 * bits // 8], bits, 38, signed)


# --- whole programs ---------------------------------------------------------------------------------------------------


def test_fp16_rounds_after_every_op_and_accumulates_wide(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((4096,), types.fp16)], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        ones = mb.reduce_sum(x=x, axes=[0], keep_dims=True)  # adding ones in fp16 would stop at 2048
        odd = mb.add(x=ones, y=np.float16(1))  # 4097 rounds to 4096
        return ones, odd, mb.mul(x=ones, y=np.float16(17)), mb.sub(x=odd, y=ones)

    got = built(program, tmp_path / "m.mlpackage", precision="fp16").predict({"x": np.ones(4096, np.float16)})
    assert [value.item() for value in got.values()] == [4096, 4096, math.inf, 0]
    assert {value.dtype for value in got.values()} == {np.dtype(np.float16)}


def test_int32_is_exact_beyond_float32(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((2,), types.int32)], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        return mb.add(x=mb.mul(x=x, y=3), y=1), mb.floor_div(x=x, y=7), mb.mod(x=x, y=7)

    x = ints(123456789, -123456789)
    got = built(program, tmp_path / "m.mlpackage").predict({"x": x})
    for value, want in zip(got.values(), (x * 3 + 1, x // 7, x % 7), strict=True):
        np.testing.assert_array_equal(value, want)


def test_cond_and_while_loop(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1,)), mb.TensorSpec((1,), types.int32)], opset_version=ct.target.iOS18)
    def program(x: Any, n: Any) -> Any:
        outer = mb.mul(x=x, y=2.0)

        def more(i: Any, _y: Any) -> Any:
            return mb.less(x=mb.squeeze(x=i), y=mb.squeeze(x=n))

        def step(i: Any, y: Any) -> Any:
            return mb.add(x=i, y=1), mb.add(x=y, y=outer)

        _, total = mb.while_loop(_cond=more, _body=step, loop_vars=(mb.mul(x=n, y=0), x))
        big = mb.greater(x=mb.squeeze(x=total), y=10.0)
        return mb.cond(pred=big, _true_fn=lambda: mb.sub(x=total, y=outer), _false_fn=lambda: mb.identity(x=total))

    loaded = built(program, tmp_path / "m.mlpackage")
    assert loaded.op_counts["while_loop"] == loaded.op_counts["cond"] == 1
    for n, want in ((0, 1.5), (2, 7.5), (3, 7.5), (4, 10.5)):  # 1.5 + 3 n, less 3 above 10
        (got,) = loaded.predict({"x": np.float32([1.5]), "n": ints(n)}).values()
        assert got.tolist() == [want]


def test_flexible_shape(tmp_path: Path) -> None:
    module = Wrapped(lambda x: x.reshape(-1, 2).sum(0) * x.shape[0])
    model = ct.convert(
        torch.jit.trace(module, (torch.randn(3, 4),)),
        inputs=[ct.TensorType("x", (ct.RangeDim(1, 9, 3), 4))],
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "m.mlpackage"))
    program = MilProgram(tmp_path / "m.mlpackage")
    assert program.inputs["x"] == ((None, 4), np.float32)
    x = torch.randn(7, 4)
    assert error(run(program, (x,))[0], (x.reshape(-1, 2).sum(0) * 7).numpy()) < 5e-6


class Cached(nn.Module):
    """Writes a row into a state and reads all of it back."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)
        self.register_buffer("cache", torch.zeros(4, 8))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        chosen = (torch.arange(4)[:, None] == place).to(x.dtype)
        self.cache[:] = self.cache * (1 - chosen) + self.proj(x) * chosen
        return self.cache.softmax(-1) @ x.T


def test_state_over_several_steps(tmp_path: Path) -> None:
    module = Cached().half().float()
    states = [ct.StateType(ct.TensorType(shape=(4, 8), dtype=np.float16), name="cache")]
    example = (torch.randn(1, 8), torch.tensor([0]))
    path = export(module, example, tmp_path / "m.mlpackage", "fp16", states=states)
    program = MilProgram(path)
    assert program.op_counts["coreml_update_state"] == 1
    assert program.states == {"cache": ((4, 8), np.float16)}
    module.cache.zero_()
    state = program.make_state()
    for place in (0, 2, 1, 2, 3):
        x = torch.randn(1, 8).half().float()
        before = state["cache"].copy()
        held = state["cache"]
        (got,) = run(program, (x, torch.tensor([place])), state)
        with torch.no_grad():
            want = module(x, torch.tensor([place]))
        assert error(got, want.numpy()) < BLOCK_BOUND["fp16"]
        assert error(state["cache"], module.cache.detach().numpy()) < BOUND["fp16"]
        np.testing.assert_array_equal(held, before)  # what a caller kept is not written over
    with pytest.raises(ValueError, match=r"state 'cache' is missing; pass what make_state\(\) gave"):
        run(program, example)
    with pytest.raises(ValueError, match=r"state 'cache' is float32 \[4, 8\], it should be float16 \[4, 8\]"):
        run(program, example, {"cache": np.zeros((4, 8), np.float32)})


class Head(nn.Module):
    """Two functions over one weight: `rows` of a table, with or without a projection."""

    def __init__(self, linear: nn.Linear, twice: bool) -> None:
        super().__init__()
        self.linear, self.twice = linear, twice

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.linear(y.relu()) if self.twice else y


def quantize_int8(model: Any) -> Any:
    config = cto.coreml.OptimizationConfig(global_config=cto.coreml.OpLinearQuantizerConfig(weight_threshold=0))
    return cto.coreml.linear_quantize_weights(model, config)


@pytest.mark.parametrize("compress", [None, quantize_int8], ids=["fp16", "int8"])
def test_multifunction_shares_weights(compress: Callable[[Any], Any] | None, tmp_path: Path) -> None:
    linear = nn.Linear(64, 64).half().float()
    described = ct.utils.MultiFunctionDescriptor()
    modules = {"prefill": (Head(linear, True), torch.randn(5, 64)), "decode": (Head(linear, False), torch.randn(1, 64))}
    for name, (module, x) in modules.items():
        export(module, (x,), tmp_path / f"{name}.mlpackage", "fp16", compress=compress)
        described.add_function(str(tmp_path / f"{name}.mlpackage"), "main", name)
    described.default_function_name = "decode"
    ct.utils.save_multifunction(described, str(tmp_path / "both.mlpackage"))

    programs = load_functions(tmp_path / "both.mlpackage")
    assert set(programs) == {"prefill", "decode"}
    assert MilProgram(tmp_path / "both.mlpackage").function == "decode"
    for name, (module, x) in modules.items():
        with torch.no_grad():
            want = module(x.half().float()).numpy()
        bound = BLOCK_BOUND["fp16"] if compress is None else 0.05  # int8 weights of +-1/8 over 64 inputs
        assert error(run(programs[name], (x,))[0], want) < bound
    weights = [
        [
            value
            for key in p._constants
            if (value := p._constants[key].read()) is not None and np.shape(value) == (64, 64)
        ]
        for p in programs.values()
    ]
    dense = [next(w for w in group if w.dtype == np.float16) for group in weights]
    assert np.shares_memory(*dense)
    with pytest.raises(ValueError, match=r"has no function 'nope'; it has decode, prefill"):
        MilProgram(tmp_path / "both.mlpackage", "nope")


# --- compressed weights -----------------------------------------------------------------------------------------------


def config(settings: Any) -> Any:
    return cto.coreml.OptimizationConfig(op_type_configs={"linear": settings})


def int4_blocks(model: Any) -> Any:
    settings = cto.coreml.OpLinearQuantizerConfig(
        mode="linear", dtype="int4", granularity="per_block", block_size=32, weight_threshold=0
    )
    return cto.coreml.linear_quantize_weights(model, config(settings))


def int8_asymmetric(model: Any) -> Any:
    return cto.coreml.linear_quantize_weights(
        model, config(cto.coreml.OpLinearQuantizerConfig(mode="linear", weight_threshold=0))
    )


def palettize(nbits: int, **settings: Any) -> Callable[[Any], Any]:
    chosen = cto.coreml.OpPalettizerConfig(mode="uniform", nbits=nbits, weight_threshold=0, **settings)
    return lambda model: cto.coreml.palettize_weights(model, config(chosen))


def prune(model: Any) -> Any:
    return cto.coreml.prune_weights(
        model, config(cto.coreml.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0))
    )


def prune_then(second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def compress(model: Any) -> Any:
        settings = {
            palette: cto.coreml.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0),
            int8_asymmetric: cto.coreml.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0),
        }[second]
        apply = cto.coreml.palettize_weights if second is palette else cto.coreml.linear_quantize_weights
        return apply(prune(model), config(settings), joint_compression=True)

    return compress


palette = palettize(4)
grouped = palettize(4, granularity="per_grouped_channel", group_size=16)
COMPRESSED = {  # how, for which system, in how many bits (None: pruned to half, values kept)
    "int8": (int8_asymmetric, ct.target.iOS18, 8),
    "int4_blocks_of_32": (int4_blocks, ct.target.iOS18, 4),
    "palette4": (palette, ct.target.iOS18, 4),
    "palette4_groups_of_16": (grouped, ct.target.iOS18, 4),
    "palette3": (palettize(3), ct.target.iOS18, 3),
    "palette6": (palettize(6), ct.target.iOS18, 6),
    "sparse": (prune, ct.target.iOS18, None),
    "sparse_palette": (prune_then(palette), ct.target.iOS18, None),
    "sparse_int8": (prune_then(int8_asymmetric), ct.target.iOS18, None),
    "ios16_int8": (int8_asymmetric, ct.target.iOS16, 8),
    "ios16_palette4": (palette, ct.target.iOS16, 4),
    "ios16_palette6": (palettize(6), ct.target.iOS16, 6),
    "ios16_sparse": (prune, ct.target.iOS16, None),
}


def fields(packed: np.ndarray, bits: int, count: int) -> list[int]:
    stream = int.from_bytes(packed.tobytes(), "little")
    return [stream >> (bits * i) & (2**bits - 1) for i in range(count)]


def dequantized_by_hand(op: Any) -> np.ndarray:
    """What the op's documented equation gives, element by element, from the raw values coremltools' reader finds."""
    value = {name: var.val for name, var in op.inputs.items() if var is not None}
    if op.op_type == "constexpr_affine_dequantize":
        data = value["quantized_data"].astype(np.float64) - value["zero_point"].astype(np.float64)[:, None]
        return data * value["scale"].astype(np.float64)[:, None]
    if op.op_type == "constexpr_blockwise_shift_scale":
        data, scale = value["data"], value["scale"].astype(np.float64)
        offset = np.zeros(scale.shape) if value.get("offset") is None else value["offset"].astype(np.float64)
        block = data.shape[1] // scale.shape[1]
        rows = [
            [scale[r, c // block] * (float(q) - offset[r, c // block]) for c, q in enumerate(row)]
            for r, row in enumerate(data)
        ]
        return np.array(rows)
    if op.op_type == "constexpr_lut_to_dense" and "shape" in value:
        lut, count = value["lut"], int(np.prod(value["shape"]))
        picked = fields(value["indices"], int(math.log2(lut.size)), count)
        return lut[picked].astype(np.float64).reshape(value["shape"])
    if op.op_type == "constexpr_lut_to_dense":
        group = value["indices"].shape[0] // value["lut"].shape[0]
        return np.array(
            [[float(value["lut"][r // group, 0, int(i), 0]) for i in row] for r, row in enumerate(value["indices"])]
        )
    if op.op_type == "constexpr_sparse_to_dense" and "shape" in value:
        kept = iter(value["nonzero_data"].astype(np.float64))
        mask = fields(value["mask"], 1, int(np.prod(value["shape"])))
        return np.array([next(kept) if bit else 0.0 for bit in mask]).reshape(value["shape"])
    return op.materialized_val_inference().astype(np.float64)  # sparse in iOS 18: bit mask, and chains of ops


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_weight(name: str, tmp_path: Path) -> None:
    compress, target, bits = COMPRESSED[name]
    module, x = nn.Linear(64, 48), torch.randn(3, 64)
    round_weights(module)
    original = module.weight.detach().numpy()
    path = export(module, (x,), tmp_path / "m.mlpackage", "fp16", target, compress)
    program = MilProgram(path)
    assert any(op.startswith("constexpr_") for op in program.op_counts)

    spec = ct.models.utils.load_spec(str(path))
    folder = str(path / "Data" / "com.apple.CoreML" / "weights")
    (reference,) = load_mil_proto(spec.mlProgram, spec.specificationVersion, folder).functions.values()
    (linear,) = reference.find_ops(op_type="linear")
    weight = program.constant(linear.weight.name)
    assert weight.dtype == np.float16
    np.testing.assert_array_equal(weight, linear.weight.op.materialized_val_inference())
    want = dequantized_by_hand(linear.weight.op)
    assert np.max(np.abs(weight - want)) <= 2**-11 * np.max(np.abs(want))
    # The weights spread over 0.25: half a step away from the original, or for symmetric int4 a little more.
    if bits is not None:
        assert np.max(np.abs(want - original)) < 0.6 * 0.25 / (2**bits - 1) + 1e-4
    else:
        kept = np.abs(original) > np.median(np.abs(original))
        assert np.max(np.abs(want - original * kept)) < 0.6 * 0.25 / 15
    bias = module.bias.detach().numpy()
    assert error(run(program, (x,))[0], x.half().double().numpy() @ want.T + bias) < 1e-3
    # Every plain constant, too, is what coremltools' reader finds.
    for op in reference.operations:
        if op.op_type == "const" and op.outputs[0].name in program._constants:
            np.testing.assert_array_equal(program.constant(op.outputs[0].name), op.val.val)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_vector_palette(axis: int, tmp_path: Path) -> None:
    indices, lut = RNG.integers(0, 4, (6, 8)).astype(np.uint8), RNG.standard_normal((2, 1, 4, 2)).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        packed = indices.astype(types.nptype_from_builtin(types.uint2))
        return mb.add(x=mb.constexpr_lut_to_dense(indices=packed, lut=lut, vector_axis=axis), y=x)

    (got,) = built(program, tmp_path / "m.mlpackage").predict({"x": np.zeros(1, np.float32)}).values()
    rows = [[lut[r // 3, 0, i] for i in row] for r, row in enumerate(indices)]
    want = np.array(rows)  # [6, 8, 2]
    want = want.transpose(0, 2, 1).reshape(12, 8) if axis == 0 else want.reshape(6, 16)
    np.testing.assert_array_equal(got, want)


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, scale = RNG.integers(-8, 8, (12, 8)).astype(np.int8), RNG.uniform(1, 2, (3, 2)).astype(np.float16)
    indices, lut = RNG.integers(0, 4, (12, 8)).astype(np.uint8), RNG.standard_normal((3, 1, 4, 2)).astype(np.float16)
    x, weight = RNG.standard_normal((5, 8)).astype(np.float32), RNG.standard_normal((12, 8)).astype(np.float16)
    calls: list[Callable[[], np.ndarray]] = [
        lambda: call("constexpr_blockwise_shift_scale", data=data, scale=scale, offset=np.ones((3, 2), np.int8)),
        lambda: call("constexpr_blockwise_shift_scale", data=data, scale=scale[:1]),
        lambda: call("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=0),
        lambda: call("linear", x=x, weight=weight),
    ]
    whole = [make() for make in calls]
    monkeypatch.setattr("vlmp.runtimes.coreml.ops._CHUNK_ELEMENTS", 40)
    monkeypatch.setattr("vlmp.runtimes.coreml.ops_math._WIDEN_ELEMENTS", 40)
    for make, want in zip(calls, whole, strict=True):
        np.testing.assert_allclose(make(), want, rtol=0, atol=1e-6)
    np.testing.assert_allclose(whole[3], x @ weight.astype(np.float32).T, rtol=0, atol=1e-5)


# --- errors and memory ------------------------------------------------------------------------------------------------


def test_unknown_op_and_unknown_parameter(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1, 4, 3))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        return mb.local_response_norm(x=x, size=3, name="lrn")

    with pytest.raises(
        UnsupportedOpError, match=r"op 'local_response_norm' \(named 'lrn', in function 'main'\)"
    ) as caught:
        built(program, tmp_path / "m.mlpackage")
    assert (caught.value.op_type, caught.value.op_name, caught.value.function) == ("local_response_norm", "lrn", "main")

    @mb.program(input_specs=[mb.TensorSpec((4,))], opset_version=ct.target.iOS18)
    def known(x: Any) -> Any:
        return mb.softmax(x=x, axis=0)

    built(known, tmp_path / "n.mlpackage")
    file = tmp_path / "n.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = ct.models.utils.load_spec(str(tmp_path / "n.mlpackage"))
    block = spec.mlProgram.functions["main"].block_specializations["CoreML8"]
    softmax = next(op for op in block.operations if op.type == "softmax")
    softmax.inputs["temperature"].CopyFrom(softmax.inputs["axis"])
    file.write_bytes(spec.SerializeToString())
    with pytest.raises(UnsupportedOpError, match="unknown parameter temperature"):
        MilProgram(tmp_path / "n.mlpackage")


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    program = MilProgram(export(nn.Linear(8, 4), (X,), tmp_path / "m.mlpackage"))
    assert program.inputs == {"i0": ((2, 3, 8), np.float32)}
    with pytest.raises(ValueError, match="input 'i0' is missing; 'main' takes i0"):
        program.predict({})
    with pytest.raises(ValueError, match="input 'extra' is unknown; 'main' takes i0"):
        program.predict({"i0": X.numpy(), "extra": X.numpy()})
    with pytest.raises(ValueError, match=r"input 'i0' is float64 \[2, 3, 8\], it should be float32 \[2, 3, 8\]"):
        program.predict({"i0": X.double().numpy()})
    with pytest.raises(ValueError, match=r"input 'i0' is float32 \[3, 8\], it should be float32 \[2, 3, 8\]"):
        program.predict({"i0": X[0].numpy()})
    with pytest.raises(FileNotFoundError, match="no Core ML package"):
        MilProgram(tmp_path / "other.mlpackage")


def test_error_inside_an_op_names_it(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((2,), types.int32)], opset_version=ct.target.iOS18)
    def program(i: Any) -> Any:
        return mb.gather(x=np.float32([1, 2, 3]), indices=i, name="rows")

    loaded = built(program, tmp_path / "m.mlpackage")
    with pytest.raises(IndexError, match=r"index 3 is outside \[0, 3\)") as caught:
        loaded.predict({"i": ints(0, 3)})
    assert "in op gather 'rows' of function 'main'" in caught.value.__notes__[0]


def test_merged_outputs_are_refused(tmp_path: Path) -> None:
    path = export(Wrapped(lambda x: (x.relu(), x.sin(), x.relu())), (X,), tmp_path / "m.mlpackage", "fp16")
    with pytest.raises(ValueError, match="share a name"):
        MilProgram(path)


def test_broken_weight_file(tmp_path: Path) -> None:
    path = export(nn.Linear(64, 64), (torch.randn(1, 64),), tmp_path / "m.mlpackage")
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    raw = bytearray(file.read_bytes())
    raw[64:68] = b"\0\0\0\0"
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=r"weight\.bin has no blob header at 64"):
        MilProgram(path).predict({"i0": np.zeros((1, 64), np.float32)})


def test_values_are_freed_after_their_last_use(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1 << 18,))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        for _ in range(30):
            x = mb.add(x=mb.sin(x=x), y=1.0)
        return mb.reduce_sum(x=x, axes=[0], keep_dims=True)

    loaded = built(program, tmp_path / "m.mlpackage")
    x = np.zeros(1 << 18, np.float32)
    tracemalloc.start()
    loaded.predict({"x": x})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes  # of 60 such arrays
