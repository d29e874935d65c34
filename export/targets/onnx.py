"""ONNX Runtime: one graph file a method, all weights once in a shared external file."""

import hashlib
import io
import logging
import warnings
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
import torch
from torch import nn
from vlmp.export.bundle import MethodName, MethodSpec
from vlmp.export.config import Precision
from vlmp.export.geometry import Geometry
from vlmp.export.targets import Report
from vlmp.export.tracing import example_inputs
from vlmp.pruner import Loop

WEIGHTS_NAME = "weights.bin"
PAGE_BYTES = 4096
"""Large tensors start on page borders, so that ONNX Runtime can map each; small ones would waste a page each."""
INLINE_BYTES = 1024
"""Smaller tensors stay in the graph file."""


class OnnxTarget:
    """ONNX opset 20 without custom ops; the pruner's steps are an ONNX Loop that ends when S tokens are selected."""

    precisions: tuple[Precision, ...] = ("float32",)
    loop: Loop = "while"

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
                _strip(model)
                _externalize(model, folder, weights, offsets)
                ir.save(model, folder / f"{name}.onnx")
                specs[name] = MethodSpec(file=f"{name}.onnx", entry="", inputs=inputs, outputs=outputs)
        return specs

    def tools(self) -> dict[str, str]:
        """Versions."""
        return {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")}


def _export(module: nn.Module, example: tuple[torch.Tensor, ...], inputs: list[str], outputs: list[str]) -> ir.Model:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, example, input_names=inputs, output_names=outputs, opset_version=20, dynamo=True, verbose=False
        )
    assert program is not None  # only the legacy exporter, which writes files itself, returns nothing
    return program.model


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
