"""ONNX Runtime: a graph of the vision tower, a graph of the language model, all weights once in a shared file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import onnx_ir as ir
import torch
from torch import Tensor, nn
from vlmp.export.config import Precision
from vlmp.export.geometry import Geometry
from vlmp.export.models.decoder import Decode, Prefill
from vlmp.export.quantize import Preset, QuantLinear, Scheme
from vlmp.export.targets import Report
from vlmp.export.targets.onnx.graphs import WEIGHTS_NAME, externalize, trace
from vlmp.export.targets.onnx.kernels import GroupLinear, RowLinear
from vlmp.export.targets.onnx.language import language_graph
from vlmp.export.tracing import example_inputs
from vlmp.pruner import Loop
from vlmp.runtimes.bundle.manifest import MethodName, MethodSpec, TensorSpec
from vlmp.runtimes.versions import package_version

VISION_NAME, LANGUAGE_NAME = "vision.onnx", "language.onnx"
CACHED = ("key_", "value_", "bias_", "state_")
"""What a method returns to be taken by the next one."""
ROWS = Scheme(bits=8)
GROUPS = Scheme(bits=4, group=64, smaller_groups=(32, 16))
TABLE = Scheme(bits=8, group=128, smaller_groups=(64, 32, 16))


class OnnxTarget:
    """ONNX opset 20 and ONNX Runtime's own operators; the pruner's steps are a Loop that ends with the S-th token."""

    name = "onnx"
    precisions: tuple[Precision, ...] = ("float32",)
    loop: Loop = "while"
    kv_update: Literal["rows", "in_place"] = "in_place"
    cuts_text = True
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
        """Export the two graphs; equal tensors are stored once."""
        offsets: dict[str, int] = {}
        with (folder / WEIGHTS_NAME).open("wb") as weights:
            report("onnx: vision")
            inputs, outputs = geometry.inputs("vision", precision), geometry.outputs("vision", precision)
            image = {"image": example_inputs(inputs)[0]}
            vision = trace(methods["vision"], image, [spec.name for spec in outputs])
            externalize(vision, folder, weights, offsets)
            ir.save(vision, folder / VISION_NAME)
            report("onnx: language model")
            language = language_graph(cast(Prefill, methods["prefill"]), cast(Decode, methods["decode"]))
            externalize(language, folder, weights, offsets)
            ir.save(language, folder / LANGUAGE_NAME)
        seen = MethodSpec(file=VISION_NAME, entry="", inputs=inputs, outputs=outputs)
        others: tuple[MethodName, ...] = ("prefill", "decode", "extend")
        return {"vision": seen, **{name: language_spec(name, geometry, precision) for name in others}}

    def tools(self) -> dict[str, str]:
        """Versions."""
        return {name: package_version(name) for name in ("onnx", "onnxscript", "onnxruntime")}


def language_spec(name: MethodName, geometry: Geometry, precision: Precision) -> MethodSpec:
    """How a method calls the one graph: with all its inputs; caches come back as outputs, updated in place."""
    given = {spec.name: spec for spec in (*geometry.inputs("extend", precision), *geometry.inputs(name, precision))}
    pictures = [given.get("visual", TensorSpec(name="visual", shape=[0, geometry.visual_width], dtype=precision))]
    if geometry.drops:
        pictures.append(given.get("places", TensorSpec(name="places", shape=[0], dtype="int32")))
    caches = [_batched(spec) for spec in given.values() if "_cache_" in spec.name]
    outputs = [spec for spec in geometry.outputs(name, precision) if not spec.name.startswith(CACHED)]
    # What the vision tower has found is read alone.
    read = {spec.name for spec in geometry.inputs("prefill", precision)}
    updated = [
        spec.model_copy(update={"name": spec.name.replace("_cache", "")}) for spec in caches if spec.name not in read
    ]
    return MethodSpec(
        file=LANGUAGE_NAME,
        entry="",
        inputs=[given["ids"], given["text_len"], given["past"], *pictures, *caches],
        outputs=[*outputs, *updated],
    )


def _batched(spec: TensorSpec) -> TensorSpec:
    """Keys and values as the operator takes them."""
    return spec if spec.name.startswith(("bias_", "state_")) else spec.model_copy(update={"shape": [1, *spec.shape]})
