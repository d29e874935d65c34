"""ONNX Runtime: one graph file a method, all weights once in a shared external file."""

import hashlib
import io
import logging
import warnings
from ast import literal_eval
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vlmp.export.bundle import MethodName, MethodSpec
from vlmp.export.config import Precision
from vlmp.export.geometry import Geometry
from vlmp.export.quantize import Preset, QuantLinear, Scheme, constant
from vlmp.export.targets import Report
from vlmp.export.tracing import example_inputs
from vlmp.pruner import Loop

WEIGHTS_NAME = "weights.bin"
PAGE_BYTES = 4096
"""Large tensors start on page borders, so that ONNX Runtime can map each; small ones would waste a page each."""
INLINE_BYTES = 1024
"""Smaller tensors stay in the graph file."""
ROWS, GROUPS, TABLE = Scheme(bits=8), Scheme(bits=4, group=64), Scheme(bits=8, group=128)


class OnnxTarget:
    """ONNX opset 20 without custom ops; the pruner's steps are an ONNX Loop that ends when S tokens are selected."""

    precisions: tuple[Precision, ...] = ("float32",)
    loop: Loop = "while"
    presets: Mapping[str, Preset] = {
        "int8": Preset(
            description="8-bit weights, one scale a row, activations 8-bit a tensor; embedding and head in groups",
            parts={"vision": ROWS, "early": ROWS, "late": ROWS, "table": TABLE},
        ),
        "int4": Preset(
            description="language model 4-bit in groups of 64, activations 8-bit in the same groups; the rest as int8",
            parts={"vision": ROWS, "early": GROUPS, "late": GROUPS, "table": TABLE},
        ),
    }

    def quantized(self, weight_OI: Tensor, scheme: Scheme) -> QuantLinear:
        """One scale a row: DynamicQuantizeMatMul; groups: MatMulNBits."""
        return (RowLinear if scheme.group is None else GroupLinear)(weight_OI, scheme)

    @torch.no_grad()
    def lower(
        self,
        methods: dict[MethodName, nn.Module],
        geometry: Geometry,
        precision: Precision,
        folder: Path,
        report: Report,
    ) -> dict[MethodName, MethodSpec]:
        """Export method by method; equal tensors are stored once."""
        specs: dict[MethodName, MethodSpec] = {}
        offsets: dict[str, int] = {}
        with (folder / WEIGHTS_NAME).open("wb") as weights:
            for name, module in methods.items():
                report(f"onnx: {name}")
                inputs, outputs = geometry.inputs(name, precision), geometry.outputs(name, precision)
                model = _export(module, example_inputs(inputs), [i.name for i in inputs], [o.name for o in outputs])
                if name == "prefill":
                    _name_regions(model, geometry.prune_layer)
                _strip(model)
                _externalize(model, folder, weights, offsets)
                ir.save(model, folder / f"{name}.onnx")
                specs[name] = MethodSpec(file=f"{name}.onnx", entry="", inputs=inputs, outputs=outputs)
        return specs

    def tools(self) -> dict[str, str]:
        """Versions."""
        return {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")}


class RowLinear(QuantLinear):
    """DynamicQuantizeMatMul: int8 weights with a scale for each output, activations uint8 with one scale and zero."""

    def pack(self, codes_OI: Tensor, scale_OG: Tensor) -> None:
        """The kernel reads the weight as [I, O]."""
        self.codes = constant(codes_OI.T.contiguous())
        self.scale = constant(scale_OG[:, 0].contiguous())

    def rows(self, index_L: Tensor) -> Tensor:
        """Rows of the weight. int [L] -> float32 [L, I]."""
        return (self.codes.index_select(1, index_L).float() * self.scale.index_select(0, index_L)).T

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [L, I] -> [L, O]."""
        if self.lowering:
            inputs = (hidden_LI, self.codes, self.scale, None, self.bias)
            return _contrib("DynamicQuantizeMatMul", inputs[: 5 if self.bias is not None else 3], {}, self.outputs)
        low, high = hidden_LI.amin().clamp_max(0), hidden_LI.amax().clamp_min(0)
        scale = (high - low) / 255
        zero = (-low / scale).round()
        codes_LI = ((hidden_LI / scale).round() + zero).clamp(0, 255) - zero
        return F.linear(codes_LI * scale, self.weight(), self.bias)


class GroupLinear(QuantLinear):
    """MatMulNBits at accuracy level 4: activations are int8 with a scale for each row and group of inputs.

    The weight is uint8 [O, G, g * bits / 8] around 2^(bits - 1), two 4-bit codes in a byte, the first one low.
    """

    def pack(self, codes_OI: Tensor, scale_OG: Tensor) -> None:
        """Offset and pack."""
        codes_OGg = (
            (codes_OI.to(torch.int16) + (self.scheme.largest + 1)).to(torch.uint8).unflatten(1, (-1, self.group))
        )
        if self.scheme.bits == 4:
            codes_OGg = codes_OGg[..., ::2] | (codes_OGg[..., 1::2] << 4)
        self.codes = constant(codes_OGg.contiguous())
        self.scale = constant(scale_OG.contiguous())

    def rows(self, index_L: Tensor) -> Tensor:
        """Rows of the weight. int [L] -> float32 [L, I]."""
        codes_LGg = self.codes.index_select(0, index_L)
        if self.scheme.bits == 4:
            codes_LGg = torch.stack([codes_LGg & 15, codes_LGg >> 4], -1).flatten(-2)
        scale_LG1 = self.scale.index_select(0, index_L).unsqueeze(-1)
        return ((codes_LGg.float() - (self.scheme.largest + 1)) * scale_LG1).reshape(-1, self.inputs)

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [L, I] -> [L, O]."""
        if self.lowering:
            sizes = {"K": self.inputs, "N": self.outputs, "bits": self.scheme.bits, "block_size": self.group}
            product = _contrib(
                "MatMulNBits", (hidden_LI, self.codes, self.scale), sizes | {"accuracy_level": 4}, self.outputs
            )
            return product if self.bias is None else product + self.bias
        hidden_LGg = hidden_LI.unflatten(-1, (-1, self.group))
        scale_LG1 = (hidden_LGg.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-30)
        rounded_LI = ((hidden_LGg / scale_LG1).round() * scale_LG1).flatten(-2)
        return F.linear(rounded_LI, self.weight(), self.bias)


def _contrib(name: str, inputs: tuple[Tensor | None, ...], attributes: dict[str, Any], outputs: int) -> Tensor:
    """One of ONNX Runtime's own operators in the graph; its value at tracing is of no use. [L, I] -> [L, outputs]."""
    hidden_LI = inputs[0]
    assert hidden_LI is not None
    return torch.onnx.ops.symbolic(
        f"com.microsoft::{name}",
        inputs,
        attributes,
        dtype=hidden_LI.dtype,
        shape=(hidden_LI.shape[0], outputs),
        version=1,
    )


def _export(module: nn.Module, example: tuple[torch.Tensor, ...], inputs: list[str], outputs: list[str]) -> ir.Model:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    quantized = [part for part in module.modules() if isinstance(part, QuantLinear)]
    for part in quantized:
        part.lowering = True
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        traced = torch.export.export(module, example, strict=False)
        program = torch.onnx.export(
            traced, input_names=inputs, output_names=outputs, opset_version=20, dynamo=True, verbose=False
        )
    for part in quantized:
        part.lowering = False
    assert program is not None  # only the legacy exporter, which writes files itself, returns nothing
    return program.model


def _name_regions(model: ir.Model, prune_layer: int) -> None:
    """Let the names of prefill's nodes begin with before/, pruner/ or after/, so that a profile can tell them apart.

    Nodes stand in the order in which they were traced: layers < K, what prepares and does the pruning, the rest.
    """
    scopes = [literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")) for node in model.graph]
    last_early = [place for place, scope in enumerate(scopes) if f"decoder.layers.{prune_layer - 1}" in scope][-1:]
    pruner = [place for place, scope in enumerate(scopes) if "pruner" in scope]
    start = last_early[0] + 1 if last_early else pruner[0] if pruner else 0
    end = pruner[-1] + 1 if pruner else start
    for place, node in enumerate(model.graph):
        region = "before" if place < start else "pruner" if place < end else "after"
        bodies = [value.as_graph() for value in node.attributes.values() if value.type == ir.AttributeType.GRAPH]
        for each in (node, *(inner for body in bodies for inner in body.all_nodes())):
            each.name = f"{region}/{each.name}"


def _strip(model: ir.Model) -> None:
    """Drop the tracer's notes: they hold paths of the exporting machine, and more bytes than the graph itself."""
    described: list[ir.Graph | ir.Node | ir.Function] = [
        model.graph,
        *model.graph.all_nodes(),
        *model.functions.values(),
    ]
    for item in described:
        item.metadata_props.clear()
        item.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        for output in node.outputs:
            output.metadata_props.clear()
    model.metadata_props.clear()


def _externalize(model: ir.Model, folder: Path, weights: BinaryIO, offsets: dict[str, int]) -> None:
    """Move large initializers into the shared file, where a tensor of equal bytes may already be."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < INLINE_BYTES:
            continue
        content = tensor.tobytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in offsets:
            alignment = PAGE_BYTES if len(content) >= 16 * PAGE_BYTES else 64
            weights.seek(-(-weights.tell() // alignment) * alignment)
            offsets[digest] = weights.tell()
            weights.write(content)
        value.const_value = ir.ExternalTensor(
            WEIGHTS_NAME,
            offsets[digest],
            len(content),
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=tensor.name or "",
            base_dir=folder,
        )
