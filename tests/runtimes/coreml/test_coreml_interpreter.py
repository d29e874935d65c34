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
from coremltools.converters.mil.mil import types
from vlmp.runtimes.coreml.interpreter import MilProgram, UnsupportedOpError, load_functions
from vlmp.runtimes.coreml.ops import FIXED, OPS, unpack_nibbles
from vlmp.runtimes.coreml.ops_math import erf

BOUND = {"fp32": 5e-6, "fp16": 5e-3}
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
    compress: Callable[[Any], Any] | None = None,
    **convert: Any,
) -> Path:
    """Trace, convert and save; inputs are named i0, i1, ..."""
    kinds = [np.int32 if not t.is_floating_point() else np.float32 for t in inputs]
    named = [ct.TensorType(f"i{k}", tuple(t.shape), dtype=kinds[k]) for k, t in enumerate(inputs)]
    model = ct.convert(
        torch.export.export(module.eval(), inputs).run_decompositions({}),
        inputs=named,
        compute_precision=PRECISION[precision],
        minimum_deployment_target=convert.pop("target", ct.target.iOS18),
        skip_model_load=True,
        **convert,
    )
    model = compress(model) if compress else model
    model.save(str(path))
    return path


def run(program: MilProgram, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    arrays = {n: t.numpy().astype(dtype) for (n, (_, dtype)), t in zip(program.inputs.items(), inputs, strict=True)}
    return list(program.predict(arrays).values())


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest error relative to max(1, |want|); infinite where shapes differ."""
    if got.shape != want.shape:
        return math.inf
    wide = want.astype(np.float64)
    return float(np.max(np.abs(got - wide) / np.maximum(1.0, np.abs(wide)), initial=0.0))


def built(program: Any, path: Path, precision: str = "fp32") -> MilProgram:
    """Save a program written with the MIL builder, without any graph pass, and load it back."""
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=PRECISION[precision],
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    return MilProgram(path)


# --- one op against coremltools' own constant folding -----------------------------------------------------------------

A, B = RNG.standard_normal((2, 3, 4)).astype(np.float32), RNG.standard_normal((3, 1)).astype(np.float32)
SMALL = RNG.uniform(-0.9, 0.9, (3, 4)).astype(np.float32)
WHOLE, DIVISOR = np.array([[7, -7, 0], [9, 5, -4]], np.int32), np.array([2, -3, 4], np.int32)
FLAGS = np.array([[True, False, True], [False, False, True]])


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def flags(*values: bool) -> np.ndarray:
    return np.array(values, np.bool_)


Case = tuple[str, dict[str, Any]]


def case(ops: str, **arguments: Any) -> list[Case]:
    """The same arguments for each op of a list."""
    return [(op, arguments) for op in ops.split()]


LOW, HIGH = np.float32(0.3), np.float32(0.6)
ROWS = np.array([[1, 0], [0, 1]], np.int32)
REDUCED = "reduce_sum reduce_mean reduce_max reduce_min"
FOLDED: list[Case] = [
    *case("abs sigmoid", x=5 * A),
    *case("softmax", x=5 * A, axis=-1),
    *case("sqrt", x=np.abs(A)),
    *case("exp", x=A),
    *case("log", x=np.abs(A) + 1, epsilon=np.float32(1e-3)),
    *case("rsqrt", x=np.abs(A) + 1, epsilon=np.float32(1e-3)),
    *case("add sub mul real_div maximum minimum floor_div", x=A, y=B),
    *case("equal not_equal less less_equal greater greater_equal", x=A, y=B),
    *case("add sub mul floor_div maximum minimum equal less", x=WHOLE, y=DIVISOR),
    *case("logical_and", x=FLAGS, y=flags(True, True, False)),
    *case("logical_not", x=FLAGS),
    *case("gelu", x=4 * A),
    *case("clip", x=A, alpha=LOW, beta=HIGH),
    *case(REDUCED, x=A, axes=ints(0, -1), keep_dims=True),
    *case(REDUCED, x=A, axes=ints(0, -1), keep_dims=False),
    *case("reduce_sum", x=WHOLE, axes=ints(1), keep_dims=False),
    *case("reduce_argmax", x=A, axis=1, keep_dims=True),
    *case("reduce_argmax", x=A, axis=-1, keep_dims=False),
    *case("cumsum", x=A, axis=1),
    *case("layer_norm", x=A, axes=ints(-1), gamma=A[0, 0], beta=A[1, 0], epsilon=np.float32(1e-3)),
    *case("linear", x=A, weight=SMALL, bias=SMALL[:, 0]),
    *case("matmul", x=A, y=SMALL, transpose_y=True),
    *case("matmul", x=A, y=A, transpose_y=True),
    *case("matmul", x=A, y=SMALL.T, transpose_y=False),
    *case("expand_dims", x=A, axes=ints(1, -1)),
    *case("squeeze", x=B, axes=ints(1)),
    *case("reshape", x=A, shape=ints(1, 6, -1)),
    *case("transpose", x=A, perm=ints(-1, 0, 1)),
    *case("topk", x=A, k=2, axis=-1, ascending=True),
    *case("concat", values=(A, A[:1]), axis=-3),
    *case("stack", values=(A, A + 1), axis=-1),
    *case("split", x=A, axis=2, split_sizes=ints(1, 3)),
    *case("tile", x=A, reps=ints(2, 1, 3)),
    *case("fill_like", ref_tensor=A, value=3),
    *case("select", cond=FLAGS, a=WHOLE, b=WHOLE + 100),
    *case("gather", x=A, indices=ROWS, axis=0),
    *case("gather", x=A, indices=ROWS, axis=1),
    *case(
        "slice_by_index", x=A, begin=ints(1, -2, 0), end=ints(0, -1, -1), end_mask=flags(False, False, True),
        squeeze_mask=flags(True, False, False),
    ),
    *case("slice_by_index", x=A, begin=ints(0, 1, 0), end=ints(2, 9, 3), end_mask=flags(False, False, False)),
    *case("cast", x=7 * A, dtype="int32"),
    *case("cast", x=WHOLE, dtype="bool"),
    *case("cast", x=7 * A, dtype="fp16"),
]  # fmt: skip


def call(op: str, **arguments: Any) -> Any:
    stated = FIXED.get(op, {})
    values = {k: v if isinstance(v, str | tuple) else np.asarray(v) for k, v in arguments.items() if k not in stated}
    return OPS[op](**values)


@pytest.mark.parametrize(("op", "arguments"), FOLDED, ids=[f"{i}-{op}" for i, (op, _) in enumerate(FOLDED)])
def test_op_equals_constant_folding(op: str, arguments: dict[str, Any]) -> None:
    folded: list[Any] = []

    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS18)
    def _program(x: Any) -> Any:
        result = getattr(mb, op)(**copy.deepcopy(arguments))  # folding works on the arrays it is given
        folded.extend(var.val for var in (result if isinstance(result, tuple | list) else [result]))
        return mb.identity(x=x)

    got = call(op, **arguments)
    assert folded[0] is not None, "coremltools did not fold the op"
    for g, want in zip(got if isinstance(got, list) else [got], folded, strict=True):
        assert error(np.asarray(g), np.asarray(want)) <= 2e-6


def test_every_op_is_tested_alone() -> None:
    elsewhere = {"conv", "identity", "silu", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"}
    assert {op for op, _ in FOLDED} | elsewhere == set(OPS)


# --- semantics that folding does not cover ----------------------------------------------------------------------------


def test_ops_that_are_not_folded_equal_torch() -> None:
    x, weight = RNG.standard_normal((2, 3, 9, 8)).astype(np.float32), RNG.standard_normal((5, 3, 3, 2))
    given = {"x": x, "weight": weight.astype(np.float32), "strides": ints(3, 2)}
    want = F.conv2d(torch.from_numpy(x), torch.from_numpy(given["weight"]), stride=(3, 2))
    assert error(call("conv", **given), want.numpy()) < 2e-6
    bias = np.arange(5, dtype=np.float32)
    assert error(call("conv", **given, bias=bias), want.numpy() + bias[:, None, None]) < 2e-6
    assert error(call("silu", x=x), F.silu(torch.from_numpy(x)).numpy()) < 2e-6
    assert call("identity", x=x) is x


def test_ties_go_to_the_lower_index() -> None:
    x = ints(3, 1, 3, 2, 3, 1)
    np.testing.assert_array_equal(call("topk", x=x, k=5, axis=-1)[1], [1, 5, 3, 0, 2])
    assert call("reduce_argmax", x=x, axis=0, keep_dims=False) == 0


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_bounds_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match=rf"index {index} is outside \[0, 5\)"):
        call("gather", x=np.arange(5), indices=ints(index), axis=0)


def test_axes_that_no_export_has_are_refused() -> None:
    with pytest.raises(ValueError, match="topk along axis 0"):
        call("topk", x=A, k=1, axis=0)
    with pytest.raises(ValueError, match="layer_norm over axes"):
        call("layer_norm", x=A, axes=ints(1), gamma=A[0], beta=A[0], epsilon=LOW)


def test_casts_truncate_saturate_and_overflow() -> None:
    x = np.float32([2.9, -2.9, 1e20, -1e20, np.nan, np.inf])
    limits = np.iinfo(np.int32)
    np.testing.assert_array_equal(call("cast", x=x, dtype="int32"), [2, -2, limits.max, limits.min, 0, limits.max])
    np.testing.assert_array_equal(call("cast", x=x, dtype="bool"), [1, 1, 1, 1, 1, 1])
    with np.errstate(over="ignore"):
        assert np.isinf(call("cast", x=np.float32(70000), dtype="fp16"))


def test_erf_over_its_range() -> None:
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    assert np.max(np.abs(erf(x) - np.vectorize(math.erf)(x))) < 5e-7
    assert erf(np.float32([-0.0, np.inf, -np.inf])).tolist() == [0, 1, -1]


@pytest.mark.parametrize("signed", [False, True])
def test_unpack_nibbles(signed: bool) -> None:
    low = -8 if signed else 0
    values = RNG.integers(low, low + 16, 37)
    stream = sum(int(v % 16) << (4 * i) for i, v in enumerate(values))
    packed = np.frombuffer(stream.to_bytes(19, "little"), np.uint8)
    np.testing.assert_array_equal(unpack_nibbles(packed, 37, signed), values)
    with pytest.raises(ValueError, match="39 elements"):
        unpack_nibbles(packed, 39, signed)


# --- compressed weights -----------------------------------------------------------------------------------------------


def test_compressed_weights_element_by_element() -> None:
    data, scale = RNG.integers(-8, 8, (4, 6)).astype(np.int8), RNG.uniform(1, 2, (4, 2)).astype(np.float32)
    want = [[scale[row, column // 3] * data[row, column] for column in range(6)] for row in range(4)]
    np.testing.assert_array_equal(call("constexpr_blockwise_shift_scale", data=data, scale=scale), want)
    indices, lut = RNG.integers(0, 4, (4, 6)).astype(np.uint8), RNG.standard_normal((2, 1, 4, 1)).astype(np.float16)
    want = [[lut[row // 2, 0, indices[row, column], 0] for column in range(6)] for row in range(4)]
    np.testing.assert_array_equal(call("constexpr_lut_to_dense", indices=indices, lut=lut), want)


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, scale = RNG.integers(-8, 8, (12, 8)).astype(np.int8), RNG.uniform(1, 2, (12, 2)).astype(np.float16)
    indices, lut = RNG.integers(0, 4, (12, 8)).astype(np.uint8), RNG.standard_normal((3, 1, 4, 1)).astype(np.float16)
    x, weight = RNG.standard_normal((5, 8)).astype(np.float32), RNG.standard_normal((12, 8)).astype(np.float16)
    calls: list[Callable[[], np.ndarray]] = [
        lambda: call("constexpr_blockwise_shift_scale", data=data, scale=scale),
        lambda: call("constexpr_lut_to_dense", indices=indices, lut=lut),
        lambda: call("linear", x=x, weight=weight, bias=np.zeros(12, np.float16)),
    ]
    whole = [make() for make in calls]
    monkeypatch.setattr("vlmp.runtimes.coreml.ops._CHUNK_ELEMENTS", 40)
    monkeypatch.setattr("vlmp.runtimes.coreml.ops_math._WIDEN_ELEMENTS", 40)
    for make, want in zip(calls, whole, strict=True):
        np.testing.assert_allclose(make(), want, rtol=0, atol=1e-6)
    np.testing.assert_allclose(whole[2], x @ weight.astype(np.float32).T, rtol=0, atol=1e-5)


# --- whole programs ---------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Attention with its softmax, a norm and a gated layer, as our models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.gate, self.up, self.down = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + ((self.q(y) @ self.k(y).T) * 0.25).softmax(-1) @ self.v(y)
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_block_equals_torch(precision: str, tmp_path: Path) -> None:
    module, x = Block().half().float(), torch.randn(6, 16).half().float()
    with torch.no_grad():
        want = module(x).numpy()
    (got,) = run(MilProgram(export(module, (x,), tmp_path / "m.mlpackage", precision)), (x,))
    assert error(got, want) <= BOUND[precision]


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
        return mb.add(x=mb.mul(x=x, y=3), y=1), mb.floor_div(x=x, y=7)

    x = ints(123456789, -123456789)
    got = built(program, tmp_path / "m.mlpackage").predict({"x": x})
    for value, want in zip(got.values(), (x * 3 + 1, x // 7), strict=True):
        np.testing.assert_array_equal(value, want)


def quantize_int8(model: Any) -> Any:
    settings = cto.coreml.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    return cto.coreml.linear_quantize_weights(model, cto.coreml.OptimizationConfig(global_config=settings))


@pytest.mark.parametrize("compress", [None, quantize_int8], ids=["fp16", "int8"])
def test_multifunction_shares_weights(compress: Callable[[Any], Any] | None, tmp_path: Path) -> None:
    linear = nn.Linear(64, 64).half().float()
    described = ct.utils.MultiFunctionDescriptor()
    inputs = {"prefill": torch.randn(5, 64), "decode": torch.randn(1, 64)}
    for name, x in inputs.items():
        export(linear, (x,), tmp_path / f"{name}.mlpackage", "fp16", compress)
        described.add_function(str(tmp_path / f"{name}.mlpackage"), "main", name)
    described.default_function_name = "decode"
    ct.utils.save_multifunction(described, str(tmp_path / "both.mlpackage"))

    programs = load_functions(tmp_path / "both.mlpackage")
    assert set(programs) == {"prefill", "decode"}
    assert MilProgram(tmp_path / "both.mlpackage").function == "decode"
    for name, x in inputs.items():
        with torch.no_grad():
            want = linear(x.half().float()).numpy()
        bound = BOUND["fp16"] if compress is None else 0.05  # int8 weights of +-1/8 over 64 inputs
        assert error(run(programs[name], (x,))[0], want) < bound
    weights = [
        next(value for name in p._constants if np.shape(value := p.constant(name)) == (64, 64) and value.dtype == "f2")
        for p in programs.values()
    ]
    assert np.shares_memory(*weights)
    with pytest.raises(ValueError, match=r"has no function 'nope'; it has decode, prefill"):
        MilProgram(tmp_path / "both.mlpackage", "nope")


# --- errors and memory ------------------------------------------------------------------------------------------------


def edited(path: Path, op_type: str, change: Callable[[Any], None]) -> Path:
    """Change the one op of this type in a saved package."""
    spec = ct.models.utils.load_spec(str(path))
    block = spec.mlProgram.functions["main"].block_specializations["CoreML8"]
    (found,) = [op for op in block.operations if op.type == op_type]
    change(found)
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())
    return path


def test_unknown_ops_parameters_and_values_are_refused(tmp_path: Path) -> None:
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
    edited(tmp_path / "n.mlpackage", "softmax", lambda op: op.inputs["temperature"].CopyFrom(op.inputs["axis"]))
    with pytest.raises(UnsupportedOpError, match="unknown parameter temperature"):
        MilProgram(tmp_path / "n.mlpackage")

    @mb.program(input_specs=[mb.TensorSpec((4,))], opset_version=ct.target.iOS18)
    def reverse(x: Any) -> Any:
        return mb.cumsum(x=x, axis=0, reverse=True, exclusive=False)

    with pytest.raises(UnsupportedOpError, match="reverse other than False"):
        built(reverse, tmp_path / "o.mlpackage")


def test_control_flow_flexible_shapes_and_older_systems_are_refused(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS18)
    def branch(x: Any) -> Any:
        big = mb.greater(x=mb.squeeze(x=x, axes=[0]), y=1.0)
        return mb.cond(pred=big, _true_fn=lambda: mb.add(x=x, y=1.0), _false_fn=lambda: mb.sub(x=x, y=1.0))

    with pytest.raises(UnsupportedOpError, match="op 'cond'"):
        built(branch, tmp_path / "m.mlpackage")
    path = export(nn.Linear(8, 4), (torch.randn(2, 8),), tmp_path / "old.mlpackage", target=ct.target.iOS17)
    with pytest.raises(ValueError, match="is of opset CoreML7; CoreML8 is interpreted"):
        MilProgram(path)
    model = ct.convert(
        torch.jit.trace(nn.Linear(8, 4).eval(), (torch.randn(2, 8),)),
        inputs=[ct.TensorType("x", (ct.RangeDim(1, 9, 2), 8))],
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "flexible.mlpackage"))
    with pytest.raises(ValueError, match="are not interpreted"):
        MilProgram(tmp_path / "flexible.mlpackage")


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    x = np.zeros((2, 3, 8), np.float32)
    program = MilProgram(export(nn.Linear(8, 4), (torch.from_numpy(x),), tmp_path / "m.mlpackage"))
    assert program.inputs == {"i0": ((2, 3, 8), np.float32)}
    with pytest.raises(ValueError, match="input 'i0' is missing; 'main' takes i0"):
        program.predict({})
    with pytest.raises(ValueError, match="input 'extra' is unknown; 'main' takes i0"):
        program.predict({"i0": x, "extra": x})
    with pytest.raises(ValueError, match=r"input 'i0' is float64 \[2, 3, 8\], it should be float32 \[2, 3, 8\]"):
        program.predict({"i0": x.astype(np.float64)})
    with pytest.raises(ValueError, match=r"input 'i0' is float32 \[3, 8\], it should be float32 \[2, 3, 8\]"):
        program.predict({"i0": x[0]})
    with pytest.raises(FileNotFoundError, match="no Core ML package"):
        MilProgram(tmp_path / "other.mlpackage")


def test_error_inside_an_op_names_it(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((2,), types.int32)], opset_version=ct.target.iOS18)
    def program(i: Any) -> Any:
        return mb.gather(x=np.float32([1, 2, 3]), indices=i, axis=0, batch_dims=0, validate_indices=False, name="rows")

    loaded = built(program, tmp_path / "m.mlpackage")
    with pytest.raises(IndexError, match=r"index 3 is outside \[0, 3\)") as caught:
        loaded.predict({"i": ints(0, 3)})
    assert "in op gather 'rows' of function 'main'" in caught.value.__notes__[0]


class Merged(nn.Module):
    """The converter makes one of two outputs that are equal."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.silu(x), x.sigmoid(), F.silu(x)


def test_merged_outputs_are_refused(tmp_path: Path) -> None:
    path = export(Merged(), (torch.randn(2, 8),), tmp_path / "m.mlpackage", "fp16")
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
            x = mb.add(x=mb.abs(x=x), y=1.0)
        return mb.reduce_sum(x=x, axes=[0], keep_dims=True)

    loaded = built(program, tmp_path / "m.mlpackage")
    x = np.zeros(1 << 18, np.float32)
    tracemalloc.start()
    loaded.predict({"x": x})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes  # of 60 such arrays
