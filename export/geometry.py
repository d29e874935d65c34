"""All static sizes of an export, and the specs of the four methods derived from them.

P prefix ids, N visual tokens, S kept, T text bucket, G room to generate, L layers, D hidden size, V vocabulary.
Trace inputs, declared inputs and the manifest all come from here, so they cannot disagree.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from vlmp.runtimes.bundle.manifest import MethodName, TensorSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class KvLayer:
    """Keys and values of one layer."""

    heads: int
    head_dim: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StateLayer:
    """What a layer without keys keeps of the tokens so far: a few rows of the width of its convolution."""

    rows: int
    width: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Before decoder layer `layer`, `kept` of the visual tokens are left."""

    layer: int
    kept: int
    weighs: bool = False
    """Whether attention counts each of them as those that it stands for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Sizes of one export; the derived ones are properties."""

    height: int
    width: int
    grid: tuple[int, int]
    prefix: int
    text_start: int
    """Position of the first text token after the image, by the model's own rule."""
    cuts: tuple[Cut, ...]
    """Of each stage, in order; at least one, and all tokens are left where nothing is pruned."""
    text: int
    room: int
    kv: tuple[KvLayer | StateLayer, ...]
    """Of each layer."""
    hidden: int
    vocab: int
    deep: int = 0
    """First layers to whose output visual features are added, which come with the visual tokens."""

    @property
    def visual(self) -> int:
        """N, visual tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def visual_width(self) -> int:
        """Of a visual token with its features."""
        return self.hidden * (1 + self.deep)

    @property
    def whole_base(self) -> int:
        """Slot of the first text token after the image where no visual token is pruned."""
        return self.prefix + self.visual

    @property
    def groups(self) -> list[range]:
        """The layers before the first stage, and after each one; the first group is empty with K = 0."""
        borders = [0, *(cut.layer for cut in self.cuts), self.layers]
        return [range(start, stop) for start, stop in pairwise(borders)]

    @property
    def bases(self) -> list[int]:
        """Slot of the first text token after the image in the layers of each group."""
        return [self.whole_base, *(self.prefix + cut.kept for cut in self.cuts)]

    @property
    def text_room(self) -> int:
        """Text tokens that fit after the image over the whole chat."""
        return self.text + self.room

    @property
    def layers(self) -> int:
        """L, decoder layers."""
        return len(self.kv)

    def base(self, layer: int) -> int:
        """Slot of the first text token after the image in `layer`."""
        return self.bases[sum(cut.layer <= layer for cut in self.cuts)]

    def slots(self, layer: int) -> int:
        """Cache slots of `layer`."""
        return self.base(layer) + self.text_room

    def inputs(self, method: MethodName, dtype: Literal["float32", "float16"]) -> list[TensorSpec]:
        """Inputs of a method in order."""
        ids = TensorSpec(name="ids", shape=[1, 1 if method == "decode" else self.text], dtype="int32")
        text_len = TensorSpec(name="text_len", shape=[1], dtype="int32")
        past = TensorSpec(name="past", shape=[1], dtype="int32")
        visual = TensorSpec(name="visual", shape=[self.visual, self.visual_width], dtype=dtype)
        caches = [
            TensorSpec(name=f"{kind}_cache_{layer}", shape=shape, dtype=dtype)
            for layer in range(self.layers)
            for kind, shape in self.cached(layer, self.slots(layer)).items()
        ] + self._biases("bias_cache", dtype)
        match method:
            case "vision":
                return [TensorSpec(name="image", shape=[1, 3, self.height, self.width], dtype=dtype)]
            case "prefill":
                return [ids, text_len, visual]
            case "decode":
                return [ids, past, *caches]
            case "extend":
                return [ids, text_len, past, *caches]

    def outputs(self, method: MethodName, dtype: Literal["float32", "float16"]) -> list[TensorSpec]:
        """Outputs of a method in order."""
        if method == "vision":
            return [TensorSpec(name="visual", shape=[self.visual, self.visual_width], dtype=dtype)]
        logits = TensorSpec(name="logits", shape=[self.vocab], dtype=dtype)
        *earlier, last = [cut.kept for cut in self.cuts]
        kept = [
            *(TensorSpec(name=f"kept_{stage}", shape=[left], dtype="int32") for stage, left in enumerate(earlier)),
            TensorSpec(name="kept", shape=[last], dtype="int32"),
            TensorSpec(name="order", shape=[last], dtype="int32"),
            TensorSpec(name="filled", shape=[1], dtype="int32"),
        ]
        rows = [
            TensorSpec(name=f"{kind}_{layer}", shape=shape, dtype=dtype)
            for layer in range(self.layers)
            for kind, shape in self.cached(layer, self._rows(method, layer)).items()
        ]
        return [logits, *kept, *rows, *self._biases("bias", dtype)] if method == "prefill" else [logits, *rows]

    def cached(self, layer: int, rows: int) -> dict[str, list[int]]:
        """What a layer keeps, by kind, with its shape: keys and values of so many tokens, or a state."""
        kv = self.kv[layer]
        if isinstance(kv, StateLayer):
            return {"state": [kv.rows, kv.width]}
        return {kind: [kv.heads, rows, kv.head_dim] for kind in ("key", "value")}

    def _biases(self, name: str, dtype: Literal["float32", "float16"]) -> list[TensorSpec]:
        """What is added to the scores of the tokens that each stage has kept, where it weighs them."""
        return [
            TensorSpec(name=f"{name}_{stage}", shape=[cut.kept], dtype=dtype)
            for stage, cut in enumerate(self.cuts)
            if cut.weighs
        ]

    def _rows(self, method: MethodName, layer: int) -> int:
        if method == "prefill":
            return self.base(layer) + self.text
        return 1 if method == "decode" else self.text
