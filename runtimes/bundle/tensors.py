"""What each method takes and returns, as it follows from the sizes of a bundle. Copies between buffers rest on it.

Axes: N visual tokens, S kept, D hidden, T text bucket, V vocabulary, H KV heads, C head size.
"""

from collections.abc import Callable

from vlmp.runtimes.bundle.manifest import METHODS, KvLayerSpec, Manifest, MethodName, TensorSpec

Tensors = dict[str, tuple[list[int], str]]
"""Name -> shape and dtype."""


def check_tensors(manifest: Manifest) -> None:
    """Raises ValueError naming the method and the tensor that does not follow from the sizes."""
    for name in METHODS:
        method = manifest.method(name)
        taken, made = expected_tensors(manifest, name)
        for kind, found, wanted in (("input", method.inputs, taken), ("output", method.outputs, made)):
            _check_alike(f"methods.{manifest.shape.methods[name]}", kind, found, wanted)


def expected_tensors(manifest: Manifest, name: MethodName) -> tuple[Tensors, Tensors]:
    """Inputs and outputs of a method. D is taken from what `vision` returns."""
    shape, prompt, precision = manifest.shape, manifest.prompt, manifest.precision
    kv, bucket, in_place = shape.kv, prompt.text_len, shape.kv.update == "in_place"
    sees = manifest.method("vision").outputs
    hidden = sees[0].shape[-1] if sees and len(sees[0].shape) == 2 else 1
    tower = shape.tower
    drops = tower is not None and tower.form == "dropped"
    visual_ND: Tensors = {"visual": ([shape.handed, hidden], precision)}
    places: Tensors = {} if tower is None else {"places": ([tower.num_kept], "int32")}

    def rows(key: str, value: str, count: Callable[[KvLayerSpec], int]) -> Tensors:
        return {
            f"{part}_{number}": ([*([1] if in_place else []), layer.kv_heads, count(layer), layer.head_dim], kv.dtype)
            for number, layer in kv.keyed.items()
            for part in (key, value)
        }

    def states(name: str) -> Tensors:
        return {f"{name}_{number}": (list(layer.state), kv.dtype) for number, layer in kv.states.items()}

    def biases(name: str, *, of_tower: bool) -> Tensors:
        stages = [(number, shape.stages[number]) for number in shape.weighed]
        return {
            f"{name}_{number}": ([stage.num_kept], kv.dtype)
            for number, stage in stages
            if (stage.place == "vision") == of_tower
        }

    from_tower = biases("bias_cache", of_tower=True)
    if name == "vision":
        image = shape.image
        told = visual_ND | places | biases("bias", of_tower=True)
        return {"image": ([1, 3, image.height, image.width], precision)}, told

    caches = rows("key_cache", "value_cache", lambda layer: layer.slots) | states("state_cache")
    caches |= from_tower | biases("bias_cache", of_tower=False)
    tokens = 1 if name == "decode" else bucket
    counts: dict[str, Callable[[KvLayerSpec], int]] = {
        "prefill": lambda layer: layer.base + bucket, "decode": lambda _: 1, "extend": lambda _: bucket,
    }  # fmt: skip
    made: Tensors = {"logits": ([manifest.vocab_size], precision)}
    made |= rows("key", "value", (lambda layer: layer.slots) if in_place else counts[name]) | states("state")
    if in_place or name == "prefill":
        made |= biases("bias", of_tower=False)
    taken: Tensors = {"ids": ([1, tokens], "int32")}
    if in_place or name != "decode":
        taken["text_len"] = ([1], "int32")
    if in_place or name != "prefill":
        taken |= {"past": ([1], "int32"), **caches}
    if name == "prefill":
        taken |= visual_ND | (places | from_tower if drops else {})
        made |= {"kept": ([shape.num_kept], "int32"), "order": ([shape.num_kept], "int32"), "filled": ([1], "int32")}
        made |= {
            f"kept_{number}": ([stage.num_kept], "int32")
            for number, stage in enumerate(shape.stages[:-1])
            if stage.place == "layer"
        }
    elif in_place:
        taken["visual"] = ([0, hidden], precision)
        taken |= {"places": ([0], "int32")} if drops else {}
    return taken, made


def _check_alike(where: str, kind: str, found: list[TensorSpec], wanted: Tensors) -> None:
    names = [tensor.name for tensor in found]
    for name in wanted:
        if names.count(name) != 1:
            raise ValueError(f"{where}: {kind} {name} must be there once")
    for tensor in found:
        if tensor.name not in wanted:
            raise ValueError(f"{where}: {kind} {tensor.name!r} is unknown")
        shape, dtype = wanted[tensor.name]
        if (tensor.shape, tensor.dtype) != (shape, dtype):
            raise ValueError(
                f"{where}: {kind} {tensor.name} is {tensor.dtype} {tensor.shape}, "
                f"{dtype} {shape} follows from the sizes"
            )
