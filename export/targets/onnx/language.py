"""Prefill, decode and extend as one graph of ONNX Runtime: every weight is there, and packed, once.

Its branches are chosen by whether there are visual tokens: how the tokens of the call are put together, and the pruner
of each stage between the layers. The layers take any number of tokens; their caches are updated in place.

Dims: N visual tokens, P prefix ids, S kept, T text bucket, L tokens of a call, X = P + N + T + G positions, C cache
slots, D hidden size, H query heads, J key/value heads, d head size, V vocabulary, r rows of a convolution's state.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim
from vlmp.export.geometry import Geometry, KvLayer
from vlmp.export.models.decoder import Decode, Decoder, Prefill, among_text, over_slots, run_layers
from vlmp.export.models.mixers import AttentionLayer, Layer
from vlmp.export.targets.onnx.graphs import OPSET, Assembly, trace
from vlmp.export.targets.onnx.kernels import CacheContext
from vlmp.pruner import Pruner
from vlmp.pruner.weighing import tokens_stood_for
from vlmp.runtimes.bundle.manifest import Region


def token_names(geometry: Geometry) -> list[str]:
    """TOKENS, what the layers are given.

    Tokens [1, L, D], their places in the unpruned prompt int64 [1, L], for the layers of each group the tokens in the
    cache once these are in it: less one, int32 [1], and as a scalar; and, shaped as the tokens, what is added to the
    output of the first layers.
    """
    groups = range(len(geometry.groups))
    totals = [f"{name}_{group}" for group in groups for name in ("seen", "total")]
    return ["hidden", "position", *totals, *feature_names(range(geometry.deep))]


def feature_names(layers: range) -> list[str]:
    """Of what is added to the output of these layers."""
    return [f"feature_{layer}" for layer in layers]


class PromptTokens(nn.Module):
    """Prefix, image and the valid text of the first turn."""

    prefix_P: Tensor

    def __init__(self, decoder: Decoder, geometry: Geometry, prefix_P: Tensor) -> None:
        super().__init__()
        self.embed, self.geometry = decoder.embed, geometry
        self.register_buffer("prefix_P", prefix_P, persistent=False)

    def forward(
        self, ids: Tensor, text_len: Tensor, visual: Tensor, places: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """ids int32 [1, T], text_len int32 [1], visual [N, D (1 + n)] -> TOKENS.

        places int32 [N]: of visual tokens that are not the whole grid.
        """
        geometry = self.geometry
        valid = _size(text_len, geometry.text)
        words = self.embed(torch.cat([self.prefix_P, ids[0, :valid]]))
        hidden, *features = (part.unsqueeze(0) for part in among_text(words, visual, geometry))
        position = torch.arange(geometry.whole_base + valid)
        if places is not None:
            there = places.to(torch.int64) + geometry.prefix
            position = torch.cat([position[: geometry.prefix], there, position[geometry.whole_base :]])
        return hidden, position.unsqueeze(0), *_totals(geometry, text_len), *features


class TextTokens(nn.Module):
    """The valid tokens of a later call."""

    def __init__(self, decoder: Decoder, geometry: Geometry) -> None:
        super().__init__()
        self.embed, self.geometry = decoder.embed, geometry

    def forward(self, ids: Tensor, text_len: Tensor, past: Tensor) -> tuple[Tensor, ...]:
        """ids int32 [1, up to T], text_len int32 [1], past int32 [1] -> TOKENS."""
        valid = _size(text_len, self.geometry.text)
        position = torch.arange(valid) + (past + self.geometry.whole_base)
        hidden = self.embed(ids[0, :valid]).unsqueeze(0)
        features = [torch.zeros_like(hidden) for _ in range(self.geometry.deep)]
        return hidden, position.unsqueeze(0), *_totals(self.geometry, past + text_len), *features


class Layers(nn.Module):
    """Consecutive decoder layers, which are traced with ONNX Runtime's operators in their parts."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        layers: Sequence[Layer],
        cos_Xd: Tensor,
        sin_Xd: Tensor,
        first: int,
        slots: int,
        cached: Sequence[int],
    ) -> None:
        """first: slot of the first visual token. slots: of keys and values. cached: how many caches each layer has."""
        super().__init__()
        self.cached = cached
        self.layers, self.first, self.slots = nn.ModuleList(layers), first, slots
        half = cos_Xd.shape[1] // 2  # the other half is the same
        self.register_buffer("cos", cos_Xd[:, :half].contiguous(), persistent=False)
        self.register_buffer("sin", sin_Xd[:, :half].contiguous(), persistent=False)

    def forward(
        self,
        hidden: Tensor,
        position: Tensor,
        seen: Tensor,
        total: Tensor,
        caches: list[Tensor],
        bias: Tensor | None = None,
        features: list[Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """TOKENS and caches, [1, J, C, d] or [r, D] -> hidden [1, L, D], the input of the last layer, updated caches.

        bias [S]: added to the scores of the visual tokens. features: of the first of these layers.
        """
        rows: list[Tensor] = []
        if bias is not None:
            bias = over_slots(bias, self.first, self.slots)[:, : _size(total, self.slots)]
            bias = bias.expand(1, 1, hidden.shape[1], -1)
        context = CacheContext(position, self.cos, self.sin, seen, total, bias)
        given = iter(caches)
        held = [[next(given) for _ in range(count)] for count in self.cached]
        hidden, last = run_layers(self.layers, hidden, context, rows, held, features or ())
        return hidden, last.before, *rows


class PromptPruner(nn.Module):
    """The pruner of one stage between the layers: visual tokens in, kept ones out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, prefill: Prefill, stage: int) -> None:
        super().__init__()
        self.pruner = cast(Pruner, prefill.pruners[stage])
        self.row_attention = prefill.row_attention
        self.first, self.after = prefill.geometry.prefix, prefill.geometry.bases[stage]
        self.whole = stage == 0 and not prefill.geometry.drops
        self.weighs = prefill.geometry.cuts[stage].weighs
        # Nothing else of the model: what a module holds is given to the tracer, needed or not.
        self.layer: AttentionLayer | None = None
        if "attention" in self.pruner.needs:
            self.layer = cast(AttentionLayer, prefill.decoder.layers[prefill.geometry.cuts[stage].layer - 1])
            self.register_buffer("cos", prefill.cos, persistent=False)
            self.register_buffer("sin", prefill.sin, persistent=False)

    def forward(
        self,
        hidden: Tensor,
        position: Tensor,
        before: Tensor | None = None,
        key: Tensor | None = None,
        bias: Tensor | None = None,
        features: list[Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """hidden [1, L, D], position [1, L] -> hidden, position, kept, order, filled, bias [S] if it weighs, features.

        before [1, L, D] and the key cache [1, J, C, d] are of layer K-1, where it has keys. bias: of the stage before.
        features: of layers from K on.
        """
        first, after = self.first, self.after
        keys_NC = attention_N = None
        if key is not None:
            keys_NC = key[0, :, first:after].permute(1, 0, 2).reshape(after - first, -1)
        if self.layer is not None:
            assert before is not None
            assert key is not None
            attention_N = self._last_attention(self.layer, before, position, key, bias)[first:after]
        visual_N = position[0, first:after]
        pruned = self.pruner(hidden[0, first:after], keys_NC, attention_N, None if self.whole else visual_N - first)
        biases = [tokens_stood_for(hidden[0, first:after], pruned.kept_S, bias)] if self.weighs else []
        hidden = torch.cat([hidden[0, :first], pruned.hidden_SD, hidden[0, after:]])
        position = torch.cat([position[0, :first], visual_N[pruned.kept_S.long()], position[0, after:]])
        kept_S, order_S = (
            index_S if self.whole else (visual_N - first)[index_S] for index_S in (pruned.kept_S, pruned.order_S)
        )
        indices = [index.to(torch.int32) for index in (kept_S, order_S, pruned.filled_1)]
        left = [
            torch.cat([each[:, :first], each[:, first:after].index_select(1, pruned.kept_S.long()), each[:, after:]], 1)
            for each in features or ()
        ]
        return hidden.unsqueeze(0), position.unsqueeze(0), *indices, *biases, *left

    def _last_attention(
        self, layer: AttentionLayer, before: Tensor, position: Tensor, key: Tensor, bias: Tensor | None
    ) -> Tensor:
        """What the last token attends to in layer K-1. float32 [L]."""
        tokens = before.shape[1]
        last_1 = position[0, -1:]
        query_H1d = layer.queries(before[0, -1:], self.cos.index_select(0, last_1), self.sin.index_select(0, last_1))
        mask_1L = torch.zeros(1, 1) if bias is None else over_slots(bias, self.first, tokens)
        return self.row_attention(query_H1d, key[0, :, :tokens], mask_1L)


class Head(nn.Module):
    """Logits of the last token."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.norm, self.head = decoder.norm, decoder.head

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [1, L, D] -> logits [V]."""
        return self.head(self.norm(hidden[:, -1])).reshape(-1)


def language_graph(prefill: Prefill, decode: Decode) -> ir.Model:
    """The graph of all three methods, from the modules that compute them in PyTorch."""
    geometry = prefill.geometry
    whole = Assembly("language", _inputs(geometry))
    has_image = _has_image(whole)
    if geometry.weighed[0] is not None:
        whole.values["bias"] = whole.values[f"bias_cache_{geometry.weighed[0]}"]
    whole.choose("before", has_image, _prompt_tokens(prefill), _text_tokens(prefill))
    _add_layers(whole, "before", 0, prefill, decode)
    kept: list[str] = []
    filled: list[str] = []
    for stage, (number, cut) in enumerate(zip(geometry.stages, geometry.cuts, strict=True)):
        if has_keys(geometry, cut.layer - 1):
            whole.values["key"] = whole.values[f"key_{cut.layer - 1}"]
        to_come = feature_names(range(cut.layer, geometry.deep))
        given = {f"features_{index}": name for index, name in enumerate(to_come)}
        own = _pruned(prefill, stage, to_come), _unpruned(geometry, stage, to_come)
        whole.choose("pruner", has_image, *own, given)
        left = ("kept", "filled", *(["bias"] if cut.weighs else []))
        whole.values |= {f"{name}_{number}": whole.values[name] for name in left}
        kept, filled = [*kept, f"kept_{number}"], [*filled, f"filled_{number}"]
        _add_layers(whole, "after", stage + 1, prefill, decode)
    hidden = {"hidden": torch.zeros(1, 3, geometry.hidden)}
    whole.add("after", trace(Head(prefill.decoder), hidden, ["logits"], {"hidden": {1: Dim("tokens")}}))
    rows = [f"{name}_{layer}" for name, layer, _ in caches_of(geometry, range(geometry.layers))]
    whole.values["filled"] = whole.values[_sum(whole, filled)]
    biases = [f"bias_{number}" for number in _weighing(geometry)]
    return whole.model(["logits", *kept[:-1], "kept", "order", "filled", *rows, *biases])


def _sum(whole: Assembly, names: Sequence[str]) -> str:
    """The name of the sum of values of one shape."""
    total, *others = names
    for name in others:
        value = ir.val(f"pruner/{total}+{name}", ir.DataType.INT32)
        added = [whole.values[total], whole.values[name]]
        whole.graph.append(ir.node("Add", added, outputs=[value], name=value.name))
        total = f"{total}+{name}"
        whole.values[total] = value
    return total


def _prompt_tokens(prefill: Prefill) -> ir.Model:
    geometry = prefill.geometry
    visual = torch.zeros(geometry.handed, geometry.visual_width)
    module = PromptTokens(prefill.decoder, geometry, prefill.prefix_P)
    given = {**_text(geometry), "visual": visual}
    if geometry.drops:
        given["places"] = torch.zeros(geometry.handed, dtype=torch.int32)
    return trace(module, given, token_names(geometry))


def _text_tokens(prefill: Prefill) -> ir.Model:
    geometry = prefill.geometry
    given = {**_text(geometry), "past": torch.ones(1, dtype=torch.int32)}
    dynamic = {"ids": {1: Dim("ids", max=geometry.text)}}
    return trace(TextTokens(prefill.decoder, geometry), given, token_names(geometry), dynamic)


def _text(geometry: Geometry) -> dict[str, Tensor]:
    return {"ids": torch.zeros(1, geometry.text, dtype=torch.int32), "text_len": torch.ones(1, dtype=torch.int32)}


def _add_layers(whole: Assembly, region: Region, group: int, prefill: Prefill, decode: Decode) -> None:
    """Append the layers of a group, which have caches of one size."""
    geometry, place = prefill.geometry, prefill.geometry.groups[group]
    if not place:
        return
    layers = cast(list[Layer], list(prefill.decoder.layers[place.start : place.stop]))
    cos_Xd, sin_Xd = (
        torch.cat([prompt[: geometry.whole_base], text])
        for prompt, text in ((prefill.cos, decode.cos), (prefill.sin, decode.sin))
    )
    example: dict[str, Tensor | list[Tensor]] = {
        "hidden": torch.zeros(1, 3, geometry.hidden),
        "position": torch.zeros(1, 3, dtype=torch.int64),
        "seen": torch.ones(1, dtype=torch.int32),
        "total": torch.tensor(1, dtype=torch.int32),
        # Each a tensor of its own: the tracer takes the same tensor twice for the same input.
        "caches": [torch.zeros(shape) for _, _, shape in caches_of(geometry, place)],
    }
    tokens, names = Dim("tokens"), [(name, layer) for name, layer, _ in caches_of(geometry, place)]
    dynamic: dict[str, Any] = {"hidden": {1: tokens}, "position": {1: tokens}, "caches": [None] * len(names)}
    if geometry.weighed[group] is not None:
        example["bias"] = torch.zeros(geometry.bases[group] - geometry.prefix)
    outputs = ["hidden", "before", *(f"{name}_{layer}" for name, layer in names)]
    given = {f"caches_{index}": f"{name}_cache_{layer}" for index, (name, layer) in enumerate(names)}
    features = feature_names(range(place.start, min(place.stop, geometry.deep)))
    if features:
        example["features"] = [torch.zeros(1, 3, geometry.hidden) for _ in features]
        dynamic["features"] = [{1: tokens}] * len(features)
        given |= {f"features_{index}": name for index, name in enumerate(features)}
    cached = [len(geometry.cached(layer, 0)) for layer in place]
    module = Layers(layers, cos_Xd, sin_Xd, geometry.prefix, geometry.slots(place.start), cached)
    part = trace(module, example, outputs, dynamic)
    whole.add(region, part, {**given, "seen": f"seen_{group}", "total": f"total_{group}"})


def _pruned(prefill: Prefill, stage: int, features: list[str]) -> ir.Model:
    """features: names of those of later layers."""
    geometry = prefill.geometry
    base, layer = geometry.bases[stage], geometry.cuts[stage].layer
    most = base + geometry.text
    example: dict[str, Tensor | list[Tensor]] = {
        "hidden": torch.zeros(1, most, geometry.hidden),
        "position": torch.zeros(1, most, dtype=torch.int64),
    }
    if has_keys(geometry, layer - 1):
        example["before"] = torch.zeros(1, most, geometry.hidden)
        example["key"] = torch.zeros(caches_of(geometry, range(layer - 1, layer))[0][2])
    tokens = Dim("tokens", min=base + 2, max=most)
    varies: dict[str, Any] = {name: {1: tokens} for name in example if name != "key"}
    if geometry.weighed[stage] is not None:
        example["bias"] = torch.zeros(base - geometry.prefix)
    if features:
        example["features"] = [torch.zeros(1, most, geometry.hidden) for _ in features]
        varies["features"] = [{1: tokens}] * len(features)
    biases = ["bias"] if geometry.cuts[stage].weighs else []
    outputs = ["hidden", "position", "kept", "order", "filled", *biases, *features]
    return trace(PromptPruner(prefill, stage), example, outputs, varies)


def caches_of(geometry: Geometry, layers: range) -> list[tuple[str, int, list[int]]]:
    """(kind, layer, shape) in the order of the caches: keys and values [1, J, C, d], states [r, D]."""
    return [
        (kind, layer, shape if kind == "state" else [1, *shape])
        for layer in layers
        for kind, shape in geometry.cached(layer, geometry.slots(layer)).items()
    ]


def has_keys(geometry: Geometry, layer: int) -> bool:
    """Whether there is such a layer, and it makes keys."""
    return layer >= 0 and isinstance(geometry.kv[layer], KvLayer)


def _inputs(geometry: Geometry) -> list[ir.Value]:
    """What any of the three methods passes; a call without an image passes no visual tokens."""
    numbers = [
        ir.val("ids", ir.DataType.INT32, [1, "ids"]),
        ir.val("text_len", ir.DataType.INT32, [1]),
        ir.val("past", ir.DataType.INT32, [1]),
        ir.val("visual", ir.DataType.FLOAT, ["visual_tokens", geometry.visual_width]),
    ]
    if geometry.drops:
        numbers.append(ir.val("places", ir.DataType.INT32, ["visual_tokens"]))
    from_tower = geometry.tower if geometry.weighed[0] is not None else None
    return (
        numbers
        + [
            ir.val(f"{name}_cache_{layer}", ir.DataType.FLOAT, shape)
            for name, layer, shape in caches_of(geometry, range(geometry.layers))
        ]
        + ([ir.val("bias_cache_0", ir.DataType.FLOAT, [from_tower.kept])] if from_tower else [])
        + [_bias_input(geometry, stage) for stage, cut in enumerate(geometry.cuts) if cut.weighs]
    )


def _weighing(geometry: Geometry) -> list[int]:
    """Numbers of the language model's stages that weigh."""
    return [number for number, cut in zip(geometry.stages, geometry.cuts, strict=True) if cut.weighs]


def _bias_input(geometry: Geometry, stage: int) -> ir.Value:
    return ir.val(f"bias_cache_{geometry.stages[stage]}", ir.DataType.FLOAT, [geometry.cuts[stage].kept])


def _has_image(whole: Assembly) -> ir.Value:
    """Whether there are visual tokens."""
    count = ir.val("before/visual_tokens", ir.DataType.INT64, [1])
    has_any = ir.val("before/has_image", ir.DataType.BOOL, [1])
    ends = {"start": 0, "end": 1}
    whole.graph.append(ir.node("Shape", [whole.values["visual"]], ends, outputs=[count], name=count.name))
    whole.graph.append(ir.node("Cast", [count], {"to": has_any.dtype}, outputs=[has_any], name=has_any.name))
    return has_any


def _unpruned(geometry: Geometry, stage: int, features: list[str]) -> ir.Model:
    """What stands for the pruner where there is no image. features: names of those of later layers."""
    inputs = [
        ir.val("hidden", ir.DataType.FLOAT, [1, "tokens", geometry.hidden]),
        ir.val("position", ir.DataType.INT64, [1, "tokens"]),
    ]
    inputs += [ir.val(name, ir.DataType.FLOAT, [1, "tokens", geometry.hidden]) for name in features]
    same = [ir.node("Identity", [value], outputs=[ir.val(value.name, value.dtype)]) for value in inputs]
    nodes = same[:2]
    for name in ("kept", "order", "filled"):
        nothing = ir.tensor(np.zeros(0, np.int32))
        nodes.append(ir.node("Constant", [], {"value": nothing}, outputs=[ir.val(name, nothing.dtype)]))
    if geometry.cuts[stage].weighs:
        inputs.append(_bias_input(geometry, stage))
        nodes.append(ir.node("Identity", [inputs[-1]], outputs=[ir.val("bias", ir.DataType.FLOAT)]))
    nodes += same[2:]
    outputs = [node.outputs[0] for node in nodes]
    return ir.Model(ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": OPSET}, name="unpruned"), ir_version=10)


def _size(number: Tensor, most: int) -> int:
    """A number from 1 to `most`, as a size."""
    size = cast(int, number.item())
    torch._check(size >= 1)
    torch._check(size <= most)
    return size


def _totals(geometry: Geometry, text_1: Tensor) -> list[Tensor]:
    """From the text tokens that the caches hold with this call's: what of TOKENS is each group's."""
    totals = [text_1 + base for base in geometry.bases]
    return [figure for total in totals for figure in (total - 1, total.reshape(()))]
