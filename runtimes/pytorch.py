"""The PyTorch reference behind the same interface: eager modules, given by the exporter."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from vlmp.runtimes.bundle.manifest import METHODS, Manifest, MethodName, MethodSpec, TensorSpec
from vlmp.runtimes.session import Array, Session
from vlmp.runtimes.versions import package_version


class TorchSession(Session):
    """methods: name -> callable on tensors that returns a tensor or a tuple, as the manifest's specs say."""

    def __init__(self, manifest: Manifest, methods: Mapping[MethodName, Callable[..., Any]]) -> None:
        super().__init__(with_rows(manifest))
        self.methods = methods

    def _bucket(self, ids: list[int]) -> dict[str, Array]:
        """Without padding, as graphs of ONNX Runtime compute: activations that are rounded by the range of all rows
        would be others. Where a runtime computes it, it must make no difference."""
        inputs = super()._bucket(ids)
        return {**inputs, "ids": inputs["ids"][:, : len(ids)]}

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"pytorch {package_version('torch')}"

    @torch.no_grad()
    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one method eagerly."""
        spec = self.manifest.method(method)
        outputs = self.methods[method](*(torch.from_numpy(np.asarray(inputs[tensor.name])) for tensor in spec.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {tensor.name: value.numpy() for tensor, value in zip(spec.outputs, outputs, strict=True)}


def with_rows(manifest: Manifest) -> Manifest:
    """The manifest as if its graphs returned new rows, as PyTorch's do."""
    if manifest.shape.kv.update == "rows":
        return manifest
    kv, bucket = manifest.shape.kv, manifest.prompt.text_len
    tower = manifest.shape.tower
    from_tower = tower is not None and 0 in manifest.shape.weighed
    taken: dict[MethodName, tuple[str, ...]] = {
        "vision": ("image",),
        "prefill": ("ids", "text_len", "visual", "places", *(["bias_cache_0"] if from_tower else [])),
        "decode": ("ids", "past", "_cache_"),
        "extend": ("ids", "text_len", "past", "_cache_"),
    }

    def one(spec: TensorSpec, method: MethodName) -> TensorSpec:
        kind, _, layer = spec.name.rpartition("_")
        if not kind.startswith(("key", "value")):  # biases and states have one shape in all graphs
            return spec
        shape = spec.shape[1:]
        if "cache" not in kind:
            shape[1] = {"prefill": kv.keyed[int(layer)].base + bucket, "decode": 1}.get(method, bucket)
        return spec.model_copy(update={"shape": shape})

    def rows(name: MethodName, method: MethodSpec) -> MethodSpec:
        inputs = [spec for spec in method.inputs if any(part in spec.name for part in taken[name])]
        made = [spec for spec in method.outputs if name in ("vision", "prefill") or not spec.name.startswith("bias_")]
        return method.model_copy(
            update={"inputs": [one(i, name) for i in inputs], "outputs": [one(o, name) for o in made]}
        )

    methods = {name: rows(name, manifest.method(name)) for name in METHODS}
    shape = manifest.shape.model_copy(
        update={"kv": kv.model_copy(update={"update": "rows"}), "methods": {name: name for name in METHODS}}
    )
    return manifest.model_copy(update={"methods": methods, "shapes": [shape]})
