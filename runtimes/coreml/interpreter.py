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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vlmp.runtimes.coreml.ops import LIST_PARAMETERS, op_table
from vlmp.runtimes.coreml.ops_tensor import to_dtype
from vlmp.runtimes.coreml.package import Constant, Package, TensorType, tensor_type

Array = NDArray[Any]

_CONTROL = {"cond": {"pred"}, "while_loop": {"loop_vars"}, "read_state": {"input"}, "write_state": {"input", "data"}}


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
    run: Callable[..., Any] | None  # None for control flow and states
    inputs: dict[str, Constant | str | list[Constant | str]]  # a str is the name of a value
    outputs: tuple[tuple[str, TensorType], ...]
    blocks: tuple[_Block, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    inputs: tuple[str, ...]
    ops: tuple[_Op, ...]
    outputs: tuple[Constant | str, ...]
    last_used: tuple[tuple[str, ...], ...]  # for each op, the values that nothing after it needs


class _Parser:
    """Turns one function of the protobuf into ops whose inputs are resolved; keeps what it finds on the way."""

    def __init__(self, package: Package, function: str) -> None:
        self.package, self.function = package, function
        self.spec = package.spec.mlProgram.functions[function]
        self.table = op_table(self.spec.opset)
        self.constants: dict[str, Constant] = {}
        self.counts: Counter[str] = Counter()

    def binding(self, binding: Any, scope: Mapping[str, Constant]) -> Constant | str:
        """An argument: a constant, or the name of a value that an op or the caller gives."""
        if binding.WhichOneof("binding") == "value":
            return self.package.constant(binding.value)
        return scope.get(binding.name, binding.name)

    def block(self, spec: Any, scope: dict[str, Constant]) -> _Block:
        """A block and the blocks inside it. Raises UnsupportedOpError for what the tables do not know."""
        scope, ops, previous = dict(scope), [], None
        for op in spec.operations:
            if op.type == "const":
                self.counts["const"] += 1
                name = op.outputs[0].name
                try:
                    scope[name] = self.constants[name] = self.package.constant(op.attributes["val"])
                except ValueError as error:  # dictionaries of classifiers, 8-bit floats
                    raise UnsupportedOpError("const", name, self.function, str(error)) from error
                continue
            parsed = self.op(op, scope)
            if op.type.startswith("constexpr_"):
                self.constexpr(parsed, scope)
            else:
                ops.append(parsed)
            # As in coremltools, write_state with the read_state that follows it is one coreml_update_state.
            if op.type != "read_state" or previous != ("write_state", parsed.inputs["input"]):
                self.counts[{"write_state": "coreml_update_state"}.get(op.type, op.type)] += 1
            previous = (op.type, parsed.inputs.get("input"))
        outputs = tuple(scope.get(name, name) for name in spec.outputs)
        return _Block(tuple(i.name for i in spec.inputs), tuple(ops), outputs, _last_uses(ops, outputs))

    def op(self, spec: Any, scope: dict[str, Constant]) -> _Op:
        """One op. Raises UnsupportedOpError if its type or a parameter is unknown."""
        name = spec.attributes["name"].immediateValue.tensor.strings.values[0] if "name" in spec.attributes else ""
        inputs: dict[str, Constant | str | list[Constant | str]] = {}
        for parameter, argument in spec.inputs.items():
            bound = [self.binding(binding, scope) for binding in argument.arguments]
            inputs[parameter] = bound if parameter in LIST_PARAMETERS or len(bound) != 1 else bound[0]
        # Up to iOS 16 the parameters of constexpr ops are attributes.
        inputs |= {key: self.package.constant(value) for key, value in spec.attributes.items() if key != "name"}
        run = self.table.get(spec.type)
        if run is None and spec.type not in _CONTROL:
            raise UnsupportedOpError(spec.type, name, self.function)
        known = _CONTROL[spec.type] if run is None else set(inspect.signature(run).parameters)
        if unknown := sorted(set(inputs) - known):
            raise UnsupportedOpError(spec.type, name, self.function, f"unknown parameter {', '.join(unknown)}")
        try:
            outputs = tuple((output.name, tensor_type(output.type)) for output in spec.outputs)
        except ValueError as error:
            raise UnsupportedOpError(spec.type, name, self.function, str(error)) from error
        blocks = tuple(self.block(block, scope) for block in spec.blocks)
        return _Op(spec.type, name, run, inputs, outputs, blocks)

    def constexpr(self, op: _Op, scope: dict[str, Constant]) -> None:
        """Bind the outputs of a compressed weight as constants that are dequantized when first read."""
        inputs = {name: value for name, value in op.inputs.items() if isinstance(value, Constant)}
        if len(inputs) != len(op.inputs) or op.run is None:
            raise UnsupportedOpError(op.type, op.name, self.function, "its inputs are not all constant")
        key = (op.type, tuple(sorted((name, value.key) for name, value in inputs.items())))

        def read(index: int) -> Any:
            value = self.package.dequantized(key, op.run, inputs)  # type: ignore[arg-type]
            value = value[index] if isinstance(value, list) else value
            return _conform(value, op.outputs[index][1], op)

        for index, (output, _) in enumerate(op.outputs):
            scope[output] = self.constants[output] = Constant((key, index), partial(read, index))


def _names(op: _Op) -> set[str]:
    """Values that an op reads, its inner blocks included."""
    flat = [item for value in op.inputs.values() for item in (value if isinstance(value, list) else [value])]
    names = {item for item in flat if isinstance(item, str)}
    for block in op.blocks:
        names |= {item for item in block.outputs if isinstance(item, str)}
        names = names.union(*(_names(inner) for inner in block.ops))
    return names


def _last_uses(ops: list[_Op], outputs: tuple[Constant | str, ...]) -> tuple[tuple[str, ...], ...]:
    """For each op, the values to forget after it: read or written by it, and by nothing later."""
    needed = {item for item in outputs if isinstance(item, str)}
    uses: list[tuple[str, ...]] = []
    for op in reversed(ops):
        touched = _names(op) | {name for name, _ in op.outputs}
        uses.append(tuple(touched - needed))
        needed |= touched
    return tuple(reversed(uses))


def _conform(value: Any, declared: TensorType, op: _Op) -> Array:
    """Round a result to the declared dtype. Raises RuntimeError if its shape is not the declared one."""
    array = to_dtype(np.asarray(value), declared.dtype)
    if not declared.accepts(array.shape):
        raise RuntimeError(f"result has shape {array.shape}, the program declares {declared.shape}")
    return array


class MilProgram:
    """One function of a saved `.mlpackage`, interpreted on numpy.

    package: folder, or a `Package` already open, so that functions share weights; function: None for the default one.
    Raises FileNotFoundError, ValueError for a function that is not there or outputs of one name, UnsupportedOpError for
    an op unknown here.

    inputs, states: name -> (dims, None where flexible; dtype). outputs: names in the program's order.
    op_counts: op type -> number of such ops, inner blocks included, in coremltools' names (`coreml_update_state` is
    what the file stores as write_state, read_state).
    """

    def __init__(self, package: Path | Package, function: str | None = None) -> None:
        self._package = package if isinstance(package, Package) else Package(package)
        self.function = self._package.default_function if function is None else function
        if self.function not in self._package.functions:
            raise ValueError(
                f"{self._package.path} has no function {self.function!r}; it has {', '.join(self._package.functions)}"
            )
        parser = _Parser(self._package, self.function)
        block = parser.spec.block_specializations[parser.spec.opset]
        self._types = {item.name: tensor_type(item.type) for item in parser.spec.inputs}
        stateful = {item.name for item in parser.spec.inputs if item.type.WhichOneof("type") == "stateType"}
        self._block = parser.block(block, {})
        self._constants = parser.constants
        self.inputs = {name: (t.shape, t.dtype) for name, t in self._types.items() if name not in stateful}
        self.states = {name: (t.shape, t.dtype) for name, t in self._types.items() if name in stateful}
        self.outputs: tuple[str, ...] = tuple(block.outputs)
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"outputs of {self.function!r} share a name, which merged outputs do: {self.outputs}")
        self.op_counts: dict[str, int] = dict(parser.counts)

    def make_state(self) -> dict[str, Array]:
        """Zeros for every state of the function, as Core ML starts them. Raises ValueError for a flexible state."""
        state = {}
        for name, (shape, dtype) in self.states.items():
            if None in shape:
                raise ValueError(f"state {name!r} has the flexible shape {shape}; make its array yourself")
            state[name] = np.zeros([size or 0 for size in shape], dtype)
        return state

    def constant(self, name: str) -> Array:
        """A constant of the function by its name in the program, dequantized. Raises KeyError if there is none."""
        value: Array = self._constants[name].read()
        return value

    def predict(self, inputs: Mapping[str, Array], state: dict[str, Array] | None = None) -> dict[str, Array]:
        """Run the function once: inputs by name -> outputs by name, fresh arrays of the declared dtypes.

        state: from `make_state`, needed if the function has states; its entries are replaced by what was written.
        Raises ValueError for a name, shape or dtype that does not fit; errors inside an op carry a note that names it.
        """
        for name in self.inputs:
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing; {self.function!r} takes {', '.join(self.inputs)}")
        for name in inputs:
            if name not in self.inputs:
                raise ValueError(f"input {name!r} is unknown; {self.function!r} takes {', '.join(self.inputs)}")
        held = {} if state is None else state
        for name in self.states:
            if name not in held:
                raise ValueError(f"state {name!r} is missing; pass what make_state() gave as `state`")
        values: dict[str, Array] = {}
        for kind, names, given in (("input", self.inputs, inputs), ("state", self.states, held)):
            for name in names:
                declared, array = self._types[name], np.asarray(given[name])
                if array.dtype != declared.dtype or not declared.accepts(array.shape):
                    raise ValueError(
                        f"{kind} {name!r} is {array.dtype} {list(array.shape)}, "
                        f"it should be {declared.dtype} {list(declared.shape)}"
                    )
                if kind == "input":
                    values[name] = array
        # Overflow to inf and 0/0 are answers here, as on the device, not accidents.
        with np.errstate(all="ignore"):
            results = self._run(self._block, values, held)
        return {name: np.array(result) for name, result in zip(self.outputs, results, strict=True)}

    def _run(self, block: _Block, values: dict[str, Array], state: dict[str, Array]) -> list[Any]:
        for op, forgotten in zip(block.ops, block.last_used, strict=True):
            try:
                results = self._apply(op, values, state)
                for (name, declared), result in zip(op.outputs, results, strict=True):
                    values[name] = _conform(result, declared, op)
            except Exception as error:
                error.add_note(f"in op {op.type} {op.name!r} of function {self.function!r} of {self._package.path}")
                raise
            for name in forgotten:
                values.pop(name, None)
        return [self._value(item, values) for item in block.outputs]

    def _value(self, item: Constant | str, values: Mapping[str, Array]) -> Any:
        return values[item] if isinstance(item, str) else item.read()

    def _apply(self, op: _Op, values: dict[str, Array], state: dict[str, Array]) -> list[Any]:
        if op.type == "read_state":
            return [state[str(op.inputs["input"])]]
        if op.type == "write_state":
            # Replaced rather than overwritten, since what was read from it may still be in use; copied, since the
            # value may be a caller's array.
            data = op.inputs["data"]
            state[str(op.inputs["input"])] = np.array(self._value(data, values))  # type: ignore[arg-type]
            return []
        arguments: dict[str, Any] = {}
        for name, bound in op.inputs.items():
            if isinstance(bound, list):
                arguments[name] = [self._value(item, values) for item in bound]
            else:
                arguments[name] = self._value(bound, values)
        if op.type == "cond":
            return self._run(op.blocks[0 if arguments["pred"] else 1], dict(values), state)
        if op.type == "while_loop":
            return self._loop(op, arguments["loop_vars"], values, state)
        assert op.run is not None
        result = op.run(**arguments)
        return result if isinstance(result, list) else [result]

    def _loop(self, op: _Op, carried: list[Any], values: dict[str, Array], state: dict[str, Array]) -> list[Any]:
        condition, body = op.blocks
        while self._run(condition, values | dict(zip(condition.inputs, carried, strict=True)), state)[0]:
            carried = self._run(body, values | dict(zip(body.inputs, carried, strict=True)), state)
        return carried


def load_functions(package: Path) -> dict[str, MilProgram]:
    """Every function of a package by its name, over one copy of the spec and the weights; raises as `MilProgram`."""
    opened = Package(package)
    return {name: MilProgram(opened, name) for name in opened.functions}
