"""Modules to ONNX graphs, graphs to one graph, and large tensors to one shared file."""

import hashlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, BinaryIO

import onnx_ir as ir
import torch
from torch import Tensor, nn
from vlmp.export.models.tower import TowerStage
from vlmp.export.targets.onnx.kernels import fused
from vlmp.runtimes.bundle.manifest import Region

OPSET = 20
TRACED_IN = "pkg.torch.onnx.class_hierarchy"
"""The tracer's note with the classes of the modules that a node was traced in, and one of them as it stands there."""
STAGE = f"'{TowerStage.__module__}.{TowerStage.__qualname__}'"
WEIGHTS_NAME = "weights.bin"
PAGE_BYTES = 4096
"""Large tensors start on page borders, so that ONNX Runtime can map each; small ones would waste a page each."""
INLINE_BYTES = 1024
"""Smaller tensors stay in the graph file."""


def trace(
    module: nn.Module,
    inputs: Mapping[str, Tensor | list[Tensor]],
    outputs: Sequence[str],
    dynamic: Mapping[str, Any] | None = None,
) -> ir.Model:
    """The graph of a module.

    inputs: examples by the names of forward's arguments; dynamic: which of their dims may vary.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    shapes = {name: (dynamic or {}).get(name) for name in inputs}
    names = [leaf for name, value in inputs.items() for leaf in _leaves(name, value)]
    with fused(module), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        traced = torch.export.export(module, (), dict(inputs), dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(
            traced, input_names=names, output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False
        )
    assert program is not None  # only the legacy exporter, which writes files itself, returns nothing
    _name_regions(program.model)
    _strip(program.model)
    _drop_unused(program.model)
    return program.model


def _leaves(name: str, value: Tensor | list[Tensor]) -> list[str]:
    return [name] if isinstance(value, Tensor) else [f"{name}_{index}" for index in range(len(value))]


def _name_regions(model: ir.Model) -> None:
    """Let the names of nodes in a vision tower with a stage begin with their region, as those of `Assembly` do.

    Nodes are in the order in which they were traced, those of a loop's body after the loop. The tracer's notes tell
    which are the stage's.
    """
    nodes = list(model.graph.all_nodes())
    inside = [place for place, node in enumerate(nodes) if STAGE in node.metadata_props.get(TRACED_IN, "")]
    if inside:
        parts: dict[Region, list[ir.Node]] = {
            "vision_before": nodes[: inside[0]],
            "vision_pruner": nodes[inside[0] : inside[-1] + 1],
            "vision_after": nodes[inside[-1] + 1 :],
        }
        for region, part in parts.items():
            for node in part:
                node.name = f"{region}/{node.name}"


class Assembly:
    """One graph, put together from traced parts.

    values: by name, what parts take as inputs and leave as outputs.
    """

    def __init__(self, name: str, inputs: Sequence[ir.Value]) -> None:
        self.graph = ir.Graph(inputs, [], nodes=[], opset_imports={"": OPSET, "com.microsoft": 1}, name=name)
        self.parts = 0
        self.values: dict[str, ir.Value] = {value.name or "": value for value in inputs}

    def add(self, region: str, part: ir.Model, inputs: Mapping[str, str] | None = None) -> None:
        """Append a part; names of its nodes begin with `region/`. inputs: its input -> another name in `values`."""
        outputs = self._take(region, part, inputs or {})
        nodes = list(part.graph)
        part.graph.outputs.clear()
        part.graph.remove(nodes)
        self.graph.extend(nodes)
        self.values |= outputs

    def choose(
        self, region: str, condition: ir.Value, yes: ir.Model, no: ir.Model, inputs: Mapping[str, str] | None = None
    ) -> None:
        """Append an If of two parts with outputs of the same names. inputs: of both, as `add` takes them."""
        names = list(self._take(region, yes, inputs or {}))
        self._take(region, no, inputs or {})
        node = ir.Node(
            "",
            "If",
            [condition],
            [ir.AttrGraph("then_branch", yes.graph), ir.AttrGraph("else_branch", no.graph)],
            num_outputs=len(names),
            name=f"{region}/{self.parts}/choose",
        )
        for output, inner in zip(node.outputs, yes.graph.outputs, strict=True):
            output.name, output.type, output.shape = f"{inner.name}/chosen", inner.type, None
        self.graph.append(node)
        self.values |= dict(zip(names, node.outputs, strict=True))

    def model(self, outputs: Sequence[str]) -> ir.Model:
        """The whole, with these of `values` as outputs."""
        for name in outputs:
            value = self.values[name]
            value.name = name
            self.graph.outputs.append(value)
        return ir.Model(self.graph, ir_version=10)

    def _take(self, region: str, part: ir.Model, inputs: Mapping[str, str]) -> dict[str, ir.Value]:
        """Connect a part's inputs, take over its initializers, and make its names unlike all others."""
        graph = part.graph
        self.parts += 1
        prefix = f"{region}/{self.parts}"
        outputs = _computed_outputs(graph)
        given, held = list(graph.inputs), list(graph.initializers.values())
        graph.inputs.clear()
        graph.initializers.clear()
        for value in given:
            name = value.name or ""
            ir.convenience.replace_all_uses_with(value, self.values[inputs.get(name, name)])
        nodes = list(graph.all_nodes())
        attributes = [attribute for node in nodes for attribute in node.attributes.values()]
        bodies = [each.as_graph() for each in attributes if each.type == ir.AttributeType.GRAPH]
        made = [value for node in nodes for value in node.outputs if value.name]  # one without is not computed
        taken = [value for body in bodies for value in body.inputs]
        for value in (*made, *taken, *held):
            value.name = f"{prefix}/{value.name}"
        for node in nodes:
            node.name = f"{prefix}/{node.name}"
        for value in held:
            self.graph.register_initializer(value)
        return outputs


def _computed_outputs(graph: ir.Graph) -> dict[str, ir.Value]:
    """Outputs by name; one that is a constant or an input is made one of a node, as a branch must have it."""
    outputs: dict[str, ir.Value] = {}
    for place, value in enumerate(list(graph.outputs)):
        name = value.name or ""
        if value.producer() is None:
            node = ir.node("Identity", [value], outputs=[ir.val(f"{name}_out", value.dtype)])
            graph.append(node)
            value = graph.outputs[place] = node.outputs[0]
        outputs[name] = value
    return outputs


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


def _drop_unused(model: ir.Model) -> None:
    """Optional outputs of ONNX Runtime's operators that nobody reads are not computed."""
    for node in model.graph.all_nodes():
        for value in node.outputs if node.domain == "com.microsoft" else ():
            if not value.uses() and not value.is_graph_output():
                value.name, value.type, value.shape = "", None, None


def externalize(model: ir.Model, folder: Path, weights: BinaryIO, offsets: dict[str, int]) -> None:
    """Move large initializers into the shared file, where a tensor of equal bytes may already be."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < INLINE_BYTES or isinstance(tensor, ir.ExternalTensor):
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
