"""ExecuTorch with XNNPACK: one program with four methods, all weights once in a data file beside it, or inside."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
import torchao.quantization  # noqa: F401 (its ops)
from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir._serialize._named_data_store import NamedDataStore
from executorch.exir.lowered_backend_module import LoweredBackendModule
from executorch.exir.passes import MemoryPlanningPass
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.nn import functional as F
from vlmp.export.config import Precision
from vlmp.export.geometry import Geometry
from vlmp.export.quantize import Preset, QuantLinear, Scheme, constant
from vlmp.export.targets import Report
from vlmp.export.targets.executorch.half import CONVERSIONS, HalfPatchAttention
from vlmp.export.targets.executorch.passes import fewer_passes
from vlmp.export.tracing import example_inputs, shared_weights
from vlmp.pruner import Loop
from vlmp.runtimes.bundle.manifest import MethodName, MethodSpec
from vlmp.runtimes.versions import package_version

PROGRAM_NAME = "model.pte"
WEIGHTS_TAG = "weights"
"""Names the data file."""
ROWS, GROUPS = Scheme(bits=8), Scheme(bits=4, group=32, scale_dtype="bfloat16")
_INT4 = Preset(
    description="language model 4-bit in groups of 32 (8da4w), activations 8-bit a row; the rest as int8",
    parts={"vision": ROWS, "early": GROUPS, "late": GROUPS, "table": ROWS},
)


class ExecuTorchTarget:
    """XNNPACK delegates for the model, portable kernels for the pruner, whose steps are a scan."""

    name = "executorch"
    precisions: tuple[Precision, ...] = ("float32",)
    loop: Loop = "scan"
    kv_update: Literal["rows", "in_place"] = "rows"
    cuts_text = False
    presets: Mapping[str, Preset] = {
        "int8": Preset(
            description="8-bit weights, one scale a row; activations 8-bit a row",
            parts={"vision": ROWS, "early": ROWS, "late": ROWS, "table": ROWS},
        ),
        "int4": _INT4,
        "int4-fp16": replace(
            _INT4,
            description="as int4, attention of the vision tower in float16: for CPUs that multiply such numbers",
            patch_attention=HalfPatchAttention,
        ),
    }

    def __init__(self, *, single_file: bool = False) -> None:
        """single_file: weights in the program, for a runtime that takes no data file (ExecuTorch's Java Module)."""
        self.single_file = single_file

    def quantized(self, weight_OI: Tensor, scheme: Scheme) -> QuantLinear:
        """What XNNPACK knows as qd8-f32-qc8w, and as qd8-f32-qb4w."""
        return DynamicLinear(weight_OI, scheme)

    @torch.no_grad()
    def lower(
        self,
        methods: dict[MethodName, nn.Module],
        geometry: Geometry,
        precision: Precision,
        folder: Path,
        report: Report,
    ) -> dict[MethodName, MethodSpec]:
        """Trace all methods, then lower them together, so that equal weights are stored once."""
        data_file = "" if self.single_file else f"{WEIGHTS_TAG}.ptd"
        programs: dict[str, ExportedProgram] = {}
        specs: dict[MethodName, MethodSpec] = {}
        for name, module in methods.items():
            report(f"executorch: trace {name}")
            inputs, outputs = geometry.inputs(name, precision), geometry.outputs(name, precision)
            programs[name] = _trace(module, example_inputs(inputs), tagged=not self.single_file)
            specs[name] = MethodSpec(file=PROGRAM_NAME, entry=name, data_file=data_file, inputs=inputs, outputs=outputs)
        report("executorch: lower to XNNPACK")
        with shared_weights(), _stored_once(), fewer_passes(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            edge = to_edge_transform_and_lower(
                programs,
                partitioner=[_SkippingPartitioner(_in_pruner)],
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
            )
            report("executorch: write")
            program = edge.to_executorch(
                ExecutorchBackendConfig(
                    external_constants=False if self.single_file else _external_tag,
                    # The caches come in as they are, instead of being copied into the program's memory.
                    memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
                )
            )
        program.save(str(folder / PROGRAM_NAME))
        if data_file:
            program.write_tensor_data_to_file(str(folder))
        for method in programs:
            for manager in (edge, program):
                _empty(manager.exported_program(method))
        return specs

    def tools(self) -> dict[str, str]:
        """Versions."""
        return {"executorch": package_version("executorch")}


class DynamicLinear(QuantLinear):
    """Activations int8 with a scale and a zero for each row, in the ops by which XNNPACK's partitioner knows it."""

    def pack(self, codes_OI: Tensor, scale_OG: Tensor) -> None:
        """XNNPACK packs the codes when it loads them."""
        super().pack(codes_OI, scale_OG)
        self.zero = constant(torch.zeros_like(scale_OG, dtype=torch.int8))

    def kernel_bytes(self) -> list[tuple[Tensor, int]]:
        """Zeros are in the graph alone: no kernel keeps them."""
        return [*super().kernel_bytes(), (self.zero, 0)]

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [L, I] -> [L, O]."""
        ops, row = torch.ops.torchao, [1, self.inputs]
        scale, zero = ops.choose_qparams_affine(
            hidden_LI, "ASYMMETRIC", row, torch.int8, -128, 127, None, None, torch.int8
        )
        codes_LI = ops.quantize_affine(hidden_LI, row, scale, zero, torch.int8, -128, 127)
        rounded_LI = ops.dequantize_affine(codes_LI, row, scale, zero, torch.int8, -128, 127)
        if self.in_parts:
            return self.product(rounded_LI)
        limits = -self.scheme.largest - 1, self.scheme.largest
        weight_OI = ops.dequantize_affine(self.codes, [1, self.group], self.scale, self.zero, torch.int8, *limits)
        return F.linear(rounded_LI, weight_OI, self.bias)


def _empty(program: ExportedProgram) -> None:
    """Drop the weights of the parts that a delegate took, as they were and as they are stored.

    The parts outlive the export, in cycles of torch.fx nodes that the garbage collector does not see through.
    """
    for part in program.graph_module.modules():
        if isinstance(part, LoweredBackendModule):
            part.original_module.state_dict.clear()
            part.original_module.constants.clear()
            if part.named_data_store_output is not None:
                part.named_data_store_output.buffers.clear()


def _trace(module: nn.Module, example: tuple[torch.Tensor, ...], *, tagged: bool) -> ExportedProgram:
    """Export, with every weight tagged for the data file if there is one; delegates and kernels then share one copy.

    Weights only: the file finds data by name, and constants of the same name differ from method to method.
    """
    program = torch.export.export(module, example, strict=False).run_decompositions(_IN_XNNPACK_OPS)
    if tagged:
        weights = program.graph_signature.inputs_to_parameters
        for node in program.graph.find_nodes(op="placeholder"):
            node.meta["custom"] = {"delegate_constant_tag": WEIGHTS_TAG if node.name in weights else None}
    return program


def _layer_norm(
    hidden_LD: Tensor, shape: list[int], weight_D: Tensor, bias_D: Tensor, eps: float = 1e-5, _cudnn: bool = True
) -> Tensor:
    """LayerNorm in ops that XNNPACK has: a mean over the last two of four dims."""

    def mean(value_LD: Tensor) -> Tensor:
        return value_LD.reshape(1, -1, 1, shape[0]).mean((2, 3), keepdim=True).reshape(-1, 1)

    centred_LD = hidden_LD - mean(hidden_LD)
    return centred_LD * torch.rsqrt(mean(centred_LD * centred_LD) + eps) * weight_D + bias_D


def _split(value: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    """Slices, since XNNPACK has no split."""
    whole = value.shape[dim]
    return [value.narrow(dim, start, min(size, whole - start)) for start in range(0, whole, size)]


def _split_with_sizes(value: Tensor, sizes: list[int], dim: int = 0) -> list[Tensor]:
    ends = accumulate(sizes)
    return [value.narrow(dim, end - size, size) for size, end in zip(sizes, ends, strict=True)]


_IN_XNNPACK_OPS = {
    torch.ops.aten.layer_norm.default: _layer_norm,
    torch.ops.aten.split.Tensor: _split,
    torch.ops.aten.split_with_sizes.default: _split_with_sizes,
}


@contextmanager
def _stored_once() -> Iterator[None]:
    """Let delegates hold equal weights as the same bytes; by themselves they are found equal only in the end."""
    add = NamedDataStore.add_named_data
    known: dict[bytes, bytes] = {}

    def add_known(store: NamedDataStore, key: str, data: Any, *rest: Any, **options: Any) -> None:
        add(store, key, known.setdefault(data, data) if isinstance(data, bytes) else data, *rest, **options)

    NamedDataStore.add_named_data = add_known
    try:
        yield
    finally:
        NamedDataStore.add_named_data = add


def _external_tag(node: Node) -> str | None:
    """The same for weights that portable kernels read: torch.export names parameters p_..., buffers b_..."""
    return WEIGHTS_TAG if node.name.startswith("p_") else None


def _in_pruner(node: Node) -> bool:
    """Whether a node belongs to the pruner; its many small ops would become dozens of tiny delegates."""
    owners = [str(owner) for _, owner in (node.meta.get("nn_module_stack") or {}).values()]
    return "bmm" not in str(node.target) and any("vlmp.pruner." in owner for owner in owners)


class _SkippingPartitioner(XnnpackPartitioner):
    """XNNPACK's partitioner, blind to some nodes."""

    def __init__(self, skip: Callable[[Node], bool]) -> None:
        super().__init__(configs=[*ALL_PARTITIONER_CONFIGS, *CONVERSIONS])
        self._skip = skip

    def get_matched_nodes_from_configs(self, program: ExportedProgram) -> list[Any]:
        """The groups of nodes that XNNPACK could take, less those with a skipped one."""
        groups = super().get_matched_nodes_from_configs(program)
        return [group for group in groups if not any(self._skip(node) for node in group)]

    def ops_to_not_decompose(self, program: ExportedProgram) -> tuple[list[Any], Callable[[Node], bool] | None]:
        """XNNPACK's operators, and which of their nodes it takes; None: all of them, which is lowered faster."""
        ops, takes = super().ops_to_not_decompose(program)
        parts = [part for part in program.graph_module.modules() if isinstance(part, GraphModule)]
        nodes = [node for part in parts for node in part.graph.nodes if node.op == "call_function"]
        return ops, None if all(takes(node) for node in nodes if node.target in ops) else takes
