"""The runtimes that can be exported for. A target is one file beside this one."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from vlmp.runtimes.bundle.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from vlmp.export.config import Precision
    from vlmp.export.geometry import Geometry
    from vlmp.export.quantize import Preset, QuantLinear, Scheme
    from vlmp.pruner import Loop
    from vlmp.runtimes.bundle.manifest import MethodName, MethodSpec

Report = Callable[[str], None]
"""Takes a line about what is being done now."""


class Target(Protocol):
    """What a target file offers."""

    name: str
    precisions: "tuple[Precision, ...]"
    """What it can be exported in; the first is the default."""
    loop: "Loop"
    """How its graph repeats the pruner's steps."""
    presets: "Mapping[str, Preset]"
    """Its quantizations by name."""
    kv_update: 'Literal["rows", "in_place"]'
    """How its graphs keep the caches; see KvSpec."""
    cuts_text: bool
    """Whether its graphs leave the padding of a text bucket out, instead of computing it for nothing."""

    def quantized(self, weight_OI: "Tensor", scheme: "Scheme") -> "QuantLinear":
        """A linear layer with integer weights that computes as this target's kernels do."""
        ...

    def lower(
        self,
        methods: "dict[MethodName, nn.Module]",
        geometry: "Geometry",
        precision: "Precision",
        folder: "Path",
        report: Report,
    ) -> "dict[MethodName, MethodSpec]":
        """Write the graphs into `folder`. Modules hold float32 weights whatever the precision."""
        ...

    def tools(self) -> dict[str, str]:
        """Versions of what lowered the graphs."""
        ...


TARGETS: dict[str, str] = {
    "onnx": "vlmp.export.targets.onnx:OnnxTarget",
    "executorch": "vlmp.export.targets.executorch:ExecuTorchTarget",
    "coreml": "vlmp.export.targets.coreml:CoreMLTarget",
}
"""Target name -> "module:class"."""


class Offer(NamedTuple):
    """What a target can be exported in, the default first, and its quantizations beside none."""

    precisions: "tuple[Precision, ...]"
    presets: tuple[str, ...]
    single_file: bool = False
    """Whether its weights can stand in the file of its graphs."""


OFFERS: dict[str, Offer] = {
    "onnx": Offer(("float32",), ("int8", "int4")),
    "executorch": Offer(("float32",), ("int8", "int4", "int4-fp16"), single_file=True),
    "coreml": Offer(("float16", "float32"), ("int8", "int4", "palette4")),
}
"""What the classes say themselves, told before they are imported."""


def check_single_file(name: str, single_file: bool) -> None:
    """Raises UserError when it is asked for and the target's weights cannot stand in the file of its graphs."""
    if single_file and not OFFERS[name].single_file:
        able = ", ".join(target for target, offer in OFFERS.items() if offer.single_file)
        raise UserError(f"--single-file: target {name} keeps its weights in a file of their own, {able} need not")


def open_target(name: str, *, single_file: bool = False) -> Target:
    """The target `name`. single_file: its weights are to stand in the file of its graphs.

    Raises UserError listing the choices, naming the extra to install, or when it has no single file.
    """
    if name not in TARGETS:
        raise UserError(f"unknown target {name!r}: choose one of {', '.join(TARGETS)}, all")
    check_single_file(name, single_file)
    module, attribute = TARGETS[name].split(":")
    try:
        kind = getattr(import_module(module), attribute)
        return kind(single_file=True) if single_file else kind()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vlmp"):
            raise
        raise UserError(f"target {name} needs {error.name}: pip install 'vlmp[{name}]'") from error
