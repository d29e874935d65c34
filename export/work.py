"""How much arithmetic and memory traffic a method is, counted while its module runs on tensors without values.

The figures are those of the graph as it stands, before a runtime fuses or rearranges anything:

- macs: multiply-accumulates of matrix products and convolutions, by torch's own formulas. A pruner's repeated steps
  hold none, whatever their number; sorting and elementwise work count nowhere.
- weight_bytes: parameters and persistent buffers (what a state_dict holds) that the region reads, each once; of a
  table that is looked up only the rows. Baked constants such as masks and rotary rows are not persistent.
- cache_bytes: rows of keys and values that the method takes, all slots, and those it returns; states, too. Where caches
  are updated in place (ONNX Runtime) kernels read the filled slots only.
- activation_bytes: what goes into and comes out of the matrix products, beside weights and caches. Whatever else reads
  or writes memory comes on top; attention that a kernel fuses keeps its scores to itself.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from vlmp.export.config import Precision
from vlmp.export.geometry import Geometry
from vlmp.export.models.tower import TowerStage
from vlmp.export.quantize import QuantLinear
from vlmp.export.tracing import example_inputs
from vlmp.pruner import Pruner
from vlmp.runtimes.bundle.manifest import (
    MethodName,
    MethodSpec,
    PrefillRegion,
    Region,
    TensorSpec,
    TowerRegion,
    WorkSpec,
)

NUMBER_BYTES = {"float32": 4, "float16": 2}
_LOOKUPS = (torch.ops.aten.embedding.default, torch.ops.aten.index_select.default)


def with_work(
    specs: Mapping[MethodName, MethodSpec],
    methods: Mapping[MethodName, nn.Module],
    geometry: Geometry,
    precision: Precision,
    cuts_text: bool = False,
) -> dict[MethodName, MethodSpec]:
    """The specs with the work of each method.

    cuts_text: whether the graph leaves the bucket's padding out. Work grows with the text in a straight line but for
    the scores among its own tokens, which are few: it is counted with a full bucket and with one token.
    """
    counted = {}
    for name, spec in specs.items():
        work = _work(name, methods[name], geometry, precision)
        counted[name] = spec.model_copy(update={"work": work})
        if cuts_text and name in ("prefill", "extend") and geometry.text > 1:
            least = _work(
                name, methods[name], replace(geometry, text=1, room=geometry.room + geometry.text - 1), precision
            )
            per_token = {region: _share(work[region], least[region], geometry.text - 1) for region in work}
            counted[name] = counted[name].model_copy(update={"work_per_token": per_token})
    return counted


def _work(name: MethodName, module: nn.Module, geometry: Geometry, precision: Precision) -> dict[Region, WorkSpec]:
    """With the bucket of `geometry`. What a target's graph is called with may differ, for the same work."""
    inputs, outputs = geometry.inputs(name, precision), geometry.outputs(name, precision)
    spec = MethodSpec(file="", entry="", inputs=inputs, outputs=outputs)
    return count_work(name, module, spec, geometry.cuts[0].layer, precision)


def _share(most: WorkSpec, least: WorkSpec, tokens: int) -> WorkSpec:
    """Of one of the tokens that make the difference."""
    least_by = least.model_dump()
    return WorkSpec(**{field: (value - least_by[field]) // tokens for field, value in most.model_dump().items()})


@torch.no_grad()
def count_work(
    name: MethodName, module: nn.Module, spec: MethodSpec, prune_layer: int, precision: Precision
) -> dict[Region, WorkSpec]:
    """The work of one method, region by region; of prefill before, in and after the pruner, which is at `prune_layer`.

    Of several pruners `before` ends at the first, `pruner` is all of them, and `after` is the rest. Of vision with a
    stage in the tower the whole, and its parts.

    module: as it is lowered, in float32 whatever the precision. No value is read and no memory taken, so that its size
    does not matter. float32 numbers count as many bytes as they have in `precision`, except in the pruner, which
    computes in float32.
    """
    in_tower = any(isinstance(part, TowerStage) for part in module.modules())
    parts = TowerRegion if in_tower else PrefillRegion
    regions: Sequence[Region] = get_args(parts) if in_tower or name == "prefill" else (name,)
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = example_inputs([tensor.model_copy(update={"dtype": _traced(tensor)}) for tensor in spec.inputs])
        caches = [value for value, tensor in zip(inputs, spec.inputs, strict=True) if "_cache_" in tensor.name]
        counter = _Counter(regions[0], module, caches, NUMBER_BYTES[precision])
        hooks = []
        for part in module.modules():
            if isinstance(part, TowerStage if in_tower else Pruner):
                hooks.append(part.register_forward_pre_hook(lambda *_: counter.enter(regions[1])))
                hooks.append(part.register_forward_hook(lambda *_: counter.enter(regions[2])))
        try:
            with counter:
                module(*inputs)
        finally:
            for hook in hooks:
                hook.remove()
    cache_bytes: dict[Region, int] = defaultdict(int)
    for tensor in (*spec.inputs, *spec.outputs):
        kind, _, layer = tensor.name.rpartition("_")
        if kind.startswith(("key", "value", "state")):
            region = regions[0] if int(layer) < prune_layer else regions[-1]
            cache_bytes[region] += prod(tensor.shape) * NUMBER_BYTES[precision]
    found = {
        region: WorkSpec(
            macs=counter.macs[region],
            weight_bytes=sum(counter.weight_bytes[region].values()),
            cache_bytes=cache_bytes[region],
            activation_bytes=counter.activation_bytes[region],
        )
        for region in regions
    }
    return {name: _sum(list(found.values())), **found} if name == "vision" and in_tower else found


def _sum(works: Sequence[WorkSpec]) -> WorkSpec:
    """Of regions that share no weights."""
    return WorkSpec(**{field: sum(getattr(work, field) for work in works) for field in WorkSpec.model_fields})


class _Counter(TorchDispatchMode):
    """Sees every op of a module that runs inside; belongs inside a FakeTensorMode."""

    def __init__(self, region: Region, module: nn.Module, caches: Sequence[Tensor], number_bytes: int) -> None:
        super().__init__()
        self.region, self.number_bytes = region, number_bytes
        self.macs: dict[Region, int] = defaultdict(int)
        self.weight_bytes: dict[Region, dict[int, int]] = defaultdict(dict)
        self.activation_bytes: dict[Region, int] = defaultdict(int)
        weights = module.state_dict(keep_vars=True).values()
        self._sizes = {id(weight): self._bytes(weight) for weight in weights}
        quantized = [part for part in module.modules() if isinstance(part, QuantLinear)]
        self._sizes |= {id(tensor): size for part in quantized for tensor, size in part.kernel_bytes()}
        # Tensors by identity, and so kept alive: weights, caches, and what is made of nothing else (a transposed view,
        # a dequantized matrix, a range of numbers). They are no activations.
        self._given: dict[int, Tensor] = {id(tensor): tensor for tensor in (*weights, *caches)}

    def enter(self, region: Region) -> None:
        """What follows belongs to `region`."""
        self.region = region

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0  # asked for by the pruner's loop: no further step, since steps hold no matrix product
        out = func(*args, **(kwargs or {}))
        taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self._read_weights(func, taken, made)
        if all(id(tensor) in self._given for tensor in taken):
            self._given |= {id(tensor): tensor for tensor in made}
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.macs[self.region] += formula(*args, **(kwargs or {}), out_val=out) // 2
            moved = [tensor for tensor in (*taken, *made) if id(tensor) not in self._given]
            self.activation_bytes[self.region] += sum(self._bytes(tensor) for tensor in moved)
        return out

    def _read_weights(self, func: Any, taken: list[Tensor], made: list[Tensor]) -> None:
        """Count the weights among an op's arguments; a table that is looked up and also used whole counts whole."""
        read = self.weight_bytes[self.region]
        for tensor in taken:
            size = self._sizes.get(id(tensor), 0)
            rows = min(made[0].numel(), tensor.numel()) if func in _LOOKUPS else tensor.numel()
            if size:
                read[id(tensor)] = max(read.get(id(tensor), 0), size * rows // tensor.numel())

    def _bytes(self, tensor: Tensor) -> int:
        lowered = tensor.dtype == torch.float32 and not self.region.endswith("pruner")
        return tensor.numel() * (self.number_bytes if lowered else tensor.dtype.itemsize)


def _traced(tensor: TensorSpec) -> str:
    return "float32" if tensor.dtype == "float16" else tensor.dtype
