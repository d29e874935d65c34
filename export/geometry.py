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
class TowerCut:
    """Before block `block` of the vision tower, `kept` of the visual tokens are left."""

    block: int
    kept: int
    form: Literal["rebuilt", "dropped"] = "rebuilt"
    """Whether all tokens are handed to the language model all the same, or those that are left alone."""
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
    """Of each stage in the language model, in order; at least one, and all tokens are left where nothing is pruned."""
    text: int
    room: int
    kv: tuple[KvLayer | StateLayer, ...]
    """Of each layer."""
    hidden: int
    vocab: int
    deep: int = 0
    """First layers to whose output visual features are added, which come with the visual tokens."""
    tower: TowerCut | None = None
    """The stage in the vision tower."""

    @property
    def visual(self) -> int:
        """N, visual tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def drops(self) -> bool:
        """Whether the vision tower hands fewer than N tokens over, with their places."""
        return self.tower is not None and self.tower.form == "dropped"

    @property
    def handed(self) -> int:
        """Visual tokens that the language model gets."""
        return self.tower.kept if self.tower is not None and self.drops else self.visual

    @property
    def stages(self) -> list[int]:
        """The number of each of `cuts` among all stages."""
        return list(range(self.tower is not None, len(self.cuts) + (self.tower is not None)))

    @property
    def weighed(self) -> list[int | None]:
        """Of each group of layers, the stage whose biases count in it; None where none do.

        A stage that weighs does so for all layers after it, up to the next one, unless that keeps all that come.
        """
        by = [0 if self.tower is not None and self.drops and self.tower.weighs else None]
        left = self.handed
        for number, cut in zip(self.stages, self.cuts, strict=True):
            by.append(number if cut.weighs else by[-1] if cut.kept == left else None)
            left = cut.kept
        return by

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
        return [self.prefix + self.handed, *(self.prefix + cut.kept for cut in self.cuts)]

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
        visual = TensorSpec(name="visual", shape=[self.handed, self.visual_width], dtype=dtype)
        caches = [
            TensorSpec(name=f"{kind}_cache_{layer}", shape=shape, dtype=dtype)
            for layer in range(self.layers)
            for kind, shape in self.cached(layer, self.slots(layer)).items()
        ] + self._biases("bias_cache", dtype)
        match method:
            case "vision":
                return [TensorSpec(name="image", shape=[1, 3, self.height, self.width], dtype=dtype)]
            case "prefill":
                return [ids, text_len, visual, *self._places(), *self._biases("bias_cache", dtype, first=True)]
            case "decode":
                return [ids, past, *caches]
            case "extend":
                return [ids, text_len, past, *caches]

    def outputs(self, method: MethodName, dtype: Literal["float32", "float16"]) -> list[TensorSpec]:
        """Outputs of a method in order."""
        if method == "vision":
            visual = TensorSpec(name="visual", shape=[self.handed, self.visual_width], dtype=dtype)
            places = TensorSpec(name="places", shape=[self.tower.kept if self.tower else 0], dtype="int32")
            return [visual, *([places] if self.tower else []), *self._biases("bias", dtype, first=True)]
        logits = TensorSpec(name="logits", shape=[self.vocab], dtype=dtype)
        *earlier, last = self.cuts
        kept = [
            *(
                TensorSpec(name=f"kept_{stage}", shape=[cut.kept], dtype="int32")
                for stage, cut in zip(self.stages[:-1], earlier, strict=True)
            ),
            TensorSpec(name="kept", shape=[last.kept], dtype="int32"),
            TensorSpec(name="order", shape=[last.kept], dtype="int32"),
            TensorSpec(name="filled", shape=[1], dtype="int32"),
        ]
        rows = [
            TensorSpec(name=f"{kind}_{layer}", shape=shape, dtype=dtype)
            for layer in range(self.layers)
            for kind, shape in self.cached(layer, self._rows(method, layer)).items()
        ]
        biases = self._biases("bias", dtype, first=False)
        return [logits, *kept, *rows, *biases] if method == "prefill" else [logits, *rows]

    def cached(self, layer: int, rows: int) -> dict[str, list[int]]:
        """What a layer keeps, by kind, with its shape: keys and values of so many tokens, or a state."""
        kv = self.kv[layer]
        if isinstance(kv, StateLayer):
            return {"state": [kv.rows, kv.width]}
        return {kind: [kv.heads, rows, kv.head_dim] for kind in ("key", "value")}

    def _places(self) -> list[TensorSpec]:
        """Where on the grid the visual tokens stand, where they are not all of it."""
        return [TensorSpec(name="places", shape=[self.handed], dtype="int32")] if self.drops else []

    def _biases(
        self, name: str, dtype: Literal["float32", "float16"], *, first: bool | None = None
    ) -> list[TensorSpec]:
        """What is added to the scores of the tokens that each stage has kept, where it weighs them.

        first: that of the vision tower alone, which `vision` returns, or those of the language model; None is all.
        """
        of_tower = [(0, self.tower.kept)] if self.tower is not None and self.weighed[0] == 0 else []
        of_layers = [(stage, cut.kept) for stage, cut in zip(self.stages, self.cuts, strict=True) if cut.weighs]
        asked = [*(of_tower if first is not False else []), *(of_layers if first is not True else [])]
        return [TensorSpec(name=f"{name}_{stage}", shape=[kept], dtype=dtype) for stage, kept in asked]

    def _rows(self, method: MethodName, layer: int) -> int:
        if method == "prefill":
            return self.base(layer) + self.text
        return 1 if method == "decode" else self.text
