"""Core ML: one ML Program package (iOS 18) whose functions are the four methods and share their weights.

KV caches are plain inputs and the new rows plain outputs: states must be float16 and cannot be shared between
functions by contract, and the Neural Engine takes inputs and outputs but no states.
"""

import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torchao.quantization  # noqa: F401 (its ops)
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F
from vlmp.export.config import Precision
from vlmp.export.geometry import Geometry
from vlmp.export.quantize import Preset, QuantLinear, Scheme
from vlmp.export.targets import Report
from vlmp.export.targets.coreml.join import join
from vlmp.export.tracing import example_inputs
from vlmp.pruner import Loop
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.manifest import MethodName, MethodSpec, TensorSpec
from vlmp.runtimes.versions import package_version

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    import coremltools as ct
    from vlmp.export.targets.coreml.palette import PaletteLinear

PACKAGE_NAME = "model.mlpackage"
FLOAT32_ISLAND = "vlmp float32 island"
"""Mark of the ops that stay in float32 in a float16 export."""
ROWS = Scheme(bits=8, scale_dtype="float16")
GROUPS = Scheme(bits=4, group=32, smaller_groups=(16,), scale_dtype="float16")
PALETTE = Scheme(bits=4, palette=16, scale_dtype="float16")
CANNOT_WRITE = (
    "filesystem error", "[MIL FileWriter]", "Failed to create", "Failed to open model package", "Failed to look up",
    "valid manifest does not exist",
)  # fmt: skip
"""What coremltools' C++ says of files that it cannot write, or has not written whole."""
_DTYPES = {"float32": np.float32, "float16": np.float16, "int32": np.int32}


class CoreMLTarget:
    """ML Program for iOS 18 and macOS 15. Loops do not convert, so the pruner's steps are unrolled."""

    name = "coreml"
    precisions: tuple[Precision, ...] = ("float16", "float32")
    loop: Loop = "unroll"
    kv_update: Literal["rows", "in_place"] = "rows"
    cuts_text = False
    presets: Mapping[str, Preset] = {
        "int8": Preset(
            description="8-bit weights, one scale a row; activations as they are",
            parts={"vision": ROWS, "early": ROWS, "late": ROWS, "table": ROWS},
        ),
        "int4": Preset(
            description="language model 4-bit in groups of 32, activations as they are; the rest as int8",
            parts={"vision": ROWS, "early": GROUPS, "late": GROUPS, "table": ROWS},
        ),
        "palette4": Preset(
            description="after the pruner 4-bit places in tables of 16 values for each 16 rows; the rest as int8",
            # Early layers in tables change what is kept: docs/results/accuracy.md.
            parts={"vision": ROWS, "early": ROWS, "late": PALETTE, "table": ROWS},
        ),
    }

    def quantized(self, weight_OI: Tensor, scheme: Scheme) -> QuantLinear:
        """Compressed weights: constexpr_lut_to_dense for palettes, constexpr_blockwise_shift_scale for all others."""
        return (PaletteLinear if scheme.palette else WeightLinear)(weight_OI, scheme)

    @torch.no_grad()
    def lower(
        self,
        methods: dict[MethodName, nn.Module],
        geometry: Geometry,
        precision: Precision,
        folder: Path,
        report: Report,
    ) -> dict[MethodName, MethodSpec]:
        """Convert method by method, then join them: equal weights are stored once."""
        specs: dict[MethodName, MethodSpec] = {}
        with TemporaryDirectory(dir=folder, prefix=".functions.") as scratch, _temporary_files_in(Path(scratch)):
            packages: dict[str, Path] = {}
            for name, module in methods.items():
                report(f"coreml: {name}")
                inputs, outputs = geometry.inputs(name, precision), geometry.outputs(name, precision)
                packages[name] = Path(scratch) / f"{name}.mlpackage"
                # Traced in float32; the converter brings all but the marked ops to float16.
                convert(module, geometry.inputs(name, "float32"), inputs, outputs, precision, packages[name])
                specs[name] = MethodSpec(file=PACKAGE_NAME, entry=name, inputs=inputs, outputs=outputs)
            report("coreml: joining functions")
            join(packages, "prefill", folder / PACKAGE_NAME)
        return specs

    def tools(self) -> dict[str, str]:
        """Versions."""
        return {"coremltools": package_version("coremltools")}


class WeightLinear(QuantLinear):
    """Only the weight is stored in integers; Core ML turns it into floats and computes with these."""

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [L, I] -> [L, O]."""
        if self.in_parts:
            return self.product(hidden_LI)
        limits = -self.scheme.largest - 1, self.scheme.largest
        weight_OI = torch.ops.torchao.dequantize_affine(
            self.codes, [1, self.group], self.scale, None, torch.int8, *limits
        )
        return F.linear(hidden_LI, weight_OI.to(hidden_LI.dtype), self.bias)


@contextmanager
def _temporary_files_in(scratch: Path) -> Iterator[None]:
    """Let coremltools write beside the output alone, so that there is one disk that may be full.

    Raises UserError when it cannot: its C++ tells neither where nor why.
    """
    before = tempfile.tempdir
    tempfile.tempdir = str(scratch)
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in CANNOT_WRITE):
            raise
        disk = scratch.parents[1]
        free = shutil.disk_usage(disk).free / 2**20
        raise UserError(
            f"coremltools cannot write its files into {disk}, where {free:.0f} MiB are free now: make room there, or "
            f"choose another --output ({one_line(error)})"
        ) from error
    finally:
        tempfile.tempdir = before


def _marked(program: ExportedProgram) -> ExportedProgram:
    """Mark what must stay in float32: the pruner and what it chooses by (close calls), RMSNorm (its squares overflow).

    coremltools hands a node's stack trace to the precision selector and drops it when the model is written.
    """
    for node in program.graph.nodes:
        owners = [str(owner) for _, owner in node.meta.get("nn_module_stack", {}).values()]
        island = any(
            owner.startswith("vlmp.pruner.") or owner.endswith((".RmsNorm", ".RowAttention")) for owner in owners
        )
        node.meta["stack_trace"] = FLOAT32_ISLAND if island else "main"
    return program


def _in_island(operation: Any) -> bool:
    traces = operation.scopes.get(ct.converters.mil.mil.scope.ScopeSource.EXIR_STACK_TRACE, [])
    return any(FLOAT32_ISLAND in str(trace) for trace in traces)


def convert(
    module: nn.Module,
    traced: list[TensorSpec],
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    precision: Precision,
    path: Path,
) -> None:
    """Write one method as a package of its own; nothing of it stays in memory or elsewhere on the disk."""
    program = _marked(torch.export.export(module, example_inputs(traced)).run_decompositions({}))
    # One gives `topk` its keys in 16 bits, whatever they hold: from 182 visual tokens on, they hold more. The other
    # makes a scale and a shift a normalization by a variance of 1 and an epsilon of 1e-5, which changes the scale.
    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes({"common::add_int16_cast", "common::fuse_elementwise_to_batchnorm"})
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # its progress bars
        warnings.simplefilter("ignore")
        ct.convert(
            program,
            inputs=[ct.TensorType(name=i.name, shape=tuple(i.shape), dtype=_DTYPES[i.dtype]) for i in inputs],
            outputs=[ct.TensorType(name=o.name, dtype=_DTYPES[o.dtype]) for o in outputs],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32
            if precision == "float32"
            else ct.transform.FP16ComputePrecision(op_selector=lambda operation: not _in_island(operation)),
            pass_pipeline=passes,
            skip_model_load=True,
            package_dir=str(path),  # otherwise a copy stays in the system's temporary folder until the process ends
        )
