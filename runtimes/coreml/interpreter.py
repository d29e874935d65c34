"""Run a saved Core ML program op by op in numpy.

Apple's framework does not exist on Linux, so an export is proven here by loading the saved `.mlpackage` back and
interpreting what was written: that proves graph, weights and serialization, not Apple's kernels. The program is read
from the package's own protobuf, not rebuilt with coremltools' builder, whose shape inference and constant folding
could repair or hide what the file says. fp16 values are rounded after every op; see `ops_math` for the widths inside.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vlmp.runtimes.coreml.ops import FIXED, LIST_PARAMETERS, OPS, OPSET
from vlmp.runtimes.coreml.ops_tensor import to_dtype
from vlmp.runtimes.coreml.package import Constant, Package, TensorType, tensor_type

Array = NDArray[Any]


class UnsupportedOpError(NotImplementedError):
    """An op, or a parameter of one, that the interpreter does not know."""

    def __init__(self, op_type: str, op_name: str, function: str, detail: str = "") -> None:
        super().__init__(
            f"op {op_type!r} (named {op_name!r}, in function {function!r}) is not interpreted{detail and ': ' + detail}"
        )
        self.op_type, self.op_name, self.function = op_type, op_name, function


@dataclass(frozen=True, slots=True)
class _Op:
    type: str
    name: str
    run: Callable[..., Any]
    inputs: dict[str, Constant | str | list[Constant | str]]  # a str is the name of a value
    outputs: tuple[tuple[str, TensorType], ...]


class _Parser:
    """Turns one function of the protobuf into ops whose inputs are resolved; keeps what it finds on the way."""

    def __init__(self, package: Package, function: str) -> None:
        self.package, self.function = package, function
        self.spec = package.spec.mlProgram.functions[function]
        self.constants: dict[str, Constant] = {}
        self.counts: Counter[str] = Counter()

    def ops(self, block: Any) -> list[_Op]:
        """What is to be computed, in order. Raises UnsupportedOpError for what the tables do not know."""
        found = []
        for spec in block.operations:
            self.counts[spec.type] += 1
            if spec.type == "const":
                self.constants[spec.outputs[0].name] = self.package.constant(spec.attributes["val"])
                continue
            op = self.op(spec)
            if op.type.startswith("constexpr_"):
                self.constexpr(op)
            else:
                found.append(op)
        return found

    def resolved(self, name: str) -> Constant | str:
        """A constant, or the name of a value that an op or the caller gives."""
        return self.constants.get(name, name)

    def op(self, spec: Any) -> _Op:
        """One op. Raises UnsupportedOpError if its type, or a parameter or its value, is unknown."""
        name = spec.attributes["name"].immediateValue.tensor.strings.values[0] if "name" in spec.attributes else ""
        run = OPS.get(spec.type)
        if run is None or spec.blocks:
            raise UnsupportedOpError(spec.type, name, self.function)
        inputs: dict[str, Constant | str | list[Constant | str]] = {}
        for parameter, argument in spec.inputs.items():
            bound = [
                self.package.constant(binding.value)
                if binding.WhichOneof("binding") == "value"
                else self.resolved(binding.name)
                for binding in argument.arguments
            ]
            inputs[parameter] = bound if parameter in LIST_PARAMETERS or len(bound) != 1 else bound[0]
        for parameter, value in FIXED.get(spec.type, {}).items():
            given = inputs.pop(parameter, None)
            if not isinstance(given, Constant) or not np.array_equal(given.read(), value):
                raise UnsupportedOpError(spec.type, name, self.function, f"{parameter} other than {value}")
        if unknown := sorted(set(inputs) - set(inspect.signature(run).parameters)):
            raise UnsupportedOpError(spec.type, name, self.function, f"unknown parameter {', '.join(unknown)}")
        try:
            outputs = tuple((output.name, tensor_type(output.type)) for output in spec.outputs)
        except ValueError as error:
            raise UnsupportedOpError(spec.type, name, self.function, str(error)) from error
        return _Op(spec.type, name, run, inputs, outputs)

    def constexpr(self, op: _Op) -> None:
        """Bind the output of a compressed weight as a constant that is dequantized when first read."""
        inputs = {name: value for name, value in op.inputs.items() if isinstance(value, Constant)}
        if len(inputs) != len(op.inputs):
            raise UnsupportedOpError(op.type, op.name, self.function, "its inputs are not all constant")
        key = (op.type, tuple(sorted((name, value.key) for name, value in inputs.items())))
        ((output, declared),) = op.outputs
        self.constants[output] = Constant(
            key, lambda: _conform(self.package.dequantized(key, op.run, inputs), declared)
        )


def _names(op: _Op) -> set[str]:
    """Values that an op reads."""
    flat = [item for value in op.inputs.values() for item in (value if isinstance(value, list) else [value])]
    return {item for item in flat if isinstance(item, str)}


def _last_uses(ops: list[_Op], outputs: tuple[Constant | str, ...]) -> list[tuple[str, ...]]:
    """For each op, the values to forget after it: read or written by it, and by nothing later."""
    needed = {item for item in outputs if isinstance(item, str)}
    uses: list[tuple[str, ...]] = []
    for op in reversed(ops):
        touched = _names(op) | {name for name, _ in op.outputs}
        uses.append(tuple(touched - needed))
        needed |= touched
    return uses[::-1]


def _conform(value: Any, declared: TensorType) -> Array:
    """Round a result to the declared dtype. Raises RuntimeError if its shape is not the declared one."""
    array = to_dtype(np.asarray(value), declared.dtype)
    if array.shape != declared.shape:
        raise RuntimeError(f"result has shape {array.shape}, the program declares {declared.shape}")
    return array


class MilProgram:
    """One function of a saved `.mlpackage`, interpreted on numpy.

    package: folder, or a `Package` already open, so that functions share weights; function: None for the default one.
    Raises FileNotFoundError, ValueError for a function that is not there or outputs of one name, UnsupportedOpError for
    an op unknown here.

    inputs: name -> (dims, dtype). outputs: names in the program's order. op_counts: op type -> number of such ops.
    """

    def __init__(self, package: Path | Package, function: str | None = None) -> None:
        self._package = package if isinstance(package, Package) else Package(package)
        self.function = self._package.default_function if function is None else function
        if self.function not in self._package.functions:
            raise ValueError(
                f"{self._package.path} has no function {self.function!r}; it has {', '.join(self._package.functions)}"
            )
        parser = _Parser(self._package, self.function)
        if parser.spec.opset != OPSET:
            raise ValueError(f"{self._package.path} is of opset {parser.spec.opset}; {OPSET} is interpreted")
        block = parser.spec.block_specializations[OPSET]
        self._types = {item.name: tensor_type(item.type) for item in parser.spec.inputs}
        self._ops = parser.ops(block)
        self._constants = parser.constants
        self._results = tuple(parser.resolved(name) for name in block.outputs)
        self._last_used = _last_uses(self._ops, self._results)
        self.inputs = {name: (declared.shape, declared.dtype) for name, declared in self._types.items()}
        self.outputs: tuple[str, ...] = tuple(block.outputs)
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"outputs of {self.function!r} share a name, which merged outputs do: {self.outputs}")
        self.op_counts: dict[str, int] = dict(parser.counts)

    def constant(self, name: str) -> Array:
        """A constant of the function by its name in the program, dequantized. Raises KeyError if there is none."""
        value: Array = self._constants[name].read()
        return value

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the function once: inputs by name -> outputs by name, fresh arrays of the declared dtypes.

        Raises ValueError for a name, shape or dtype that does not fit; errors inside an op carry a note that names it.
        """
        for name in self.inputs:
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing; {self.function!r} takes {', '.join(self.inputs)}")
        values: dict[str, Array] = {}
        for name, given in inputs.items():
            if name not in self.inputs:
                raise ValueError(f"input {name!r} is unknown; {self.function!r} takes {', '.join(self.inputs)}")
            declared, values[name] = self._types[name], np.asarray(given)
            if (values[name].dtype, values[name].shape) != (declared.dtype, declared.shape):
                raise ValueError(
                    f"input {name!r} is {values[name].dtype} {list(values[name].shape)}, "
                    f"it should be {declared.dtype} {list(declared.shape)}"
                )
        # Overflow to inf and 0/0 are answers here, as on the device, not accidents.
        with np.errstate(all="ignore"):
            for op, forgotten in zip(self._ops, self._last_used, strict=True):
                self._run(op, values)
                for name in forgotten:
                    values.pop(name, None)
        results = [self._value(item, values) for item in self._results]
        return {name: np.array(result) for name, result in zip(self.outputs, results, strict=True)}

    def _run(self, op: _Op, values: dict[str, Array]) -> None:
        arguments = {
            name: [self._value(item, values) for item in bound]
            if isinstance(bound, list)
            else self._value(bound, values)
            for name, bound in op.inputs.items()
        }
        try:
            result = op.run(**arguments)
            results = result if isinstance(result, list) else [result]
            for (name, declared), value in zip(op.outputs, results, strict=True):
                values[name] = _conform(value, declared)
        except Exception as error:
            error.add_note(f"in op {op.type} {op.name!r} of function {self.function!r} of {self._package.path}")
            raise

    def _value(self, item: Constant | str, values: Mapping[str, Array]) -> Any:
        return values[item] if isinstance(item, str) else item.read()


def load_functions(package: Path) -> dict[str, MilProgram]:
    """Every function of a package by its name, over one copy of the spec and the weights; raises as `MilProgram`."""
    opened = Package(package)
    return {name: MilProgram(opened, name) for name in opened.functions}
