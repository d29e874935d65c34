"""The model in PyTorch behind the runtimes' own interface: the same graphs, nothing lowered, nothing written."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from vlmp.export.config import ExportConfig, Precision
from vlmp.export.describe import describe
from vlmp.export.geometry import Geometry
from vlmp.export.pipeline import build_methods
from vlmp.export.plan import make_plan, open_source
from vlmp.export.quantize import UNQUANTIZED, Preset, QuantLinear
from vlmp.export.targets import Report
from vlmp.export.work import with_work
from vlmp.pruner import Loop
from vlmp.runtimes.bundle.manifest import MethodName, MethodSpec
from vlmp.runtimes.chat import Chat
from vlmp.runtimes.pytorch import TorchSession


class Eager:
    """PyTorch in the place of a target: its steps run until S tokens are selected, as exact exports do."""

    name = "pytorch"
    precisions: tuple[Precision, ...] = ("float32",)
    loop: Loop = "while"
    kv_update: Literal["rows", "in_place"] = "rows"
    cuts_text = False
    presets: Mapping[str, Preset] = {}
    quantized = QuantLinear

    def lower(
        self,
        methods: dict[MethodName, nn.Module],
        geometry: Geometry,
        precision: Precision,
        folder: Path,
        report: Report,
    ) -> dict[MethodName, MethodSpec]:
        """What each method takes and returns; no file holds it."""
        return {
            name: MethodSpec(
                file="", entry=name, inputs=geometry.inputs(name, precision), outputs=geometry.outputs(name, precision)
            )
            for name in methods
        }

    def tools(self) -> dict[str, str]:
        """Nothing beside PyTorch itself."""
        return {}


@torch.no_grad()
def open_eager(config: ExportConfig, *, counted: bool = False) -> Chat:
    """A chat that answers as an exact float32 export of `config` would.

    Targets, output, precision and quantization of `config` are not used. counted: whether the manifest says the work of
    the methods, which takes longer than the rest. Raises UserError on settings or a checkpoint that cannot be served.
    """
    config, target = replace(config, quant=UNQUANTIZED, precision=None), Eager()
    source = open_source(config)
    plan = make_plan(config, source, target)
    methods = build_methods(plan, "float32")
    specs = target.lower(methods, source.geometry, "float32", Path(), lambda _: None)
    if counted:
        specs = with_work(specs, methods, source.geometry, "float32")
    manifest = describe(plan, specs)
    return Chat(TorchSession(manifest, methods), source.prompt.tokenizer)
