"""The manifest: everything that an app needs to know about a bundle, and the contract between exporter and apps.

Nothing is guessed from file names. Readers in C++, Kotlin, Swift and JavaScript follow the same file; `json_schema()`
is stored beside this one.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

SCHEMA_VERSION = 2
MethodName = Literal["vision", "prefill", "decode", "extend"]
METHODS: tuple[MethodName, ...] = ("vision", "prefill", "decode", "extend")
Resample = Literal["bilinear", "bicubic", "lanczos"]
PrefillRegion = Literal["before", "pruner", "after"]
"""Parts of prefill: layers < K with the embedding, the pruner, layers >= K with the head."""
TowerRegion = Literal["vision_before", "vision_pruner", "vision_after"]
"""Parts of vision where a stage is in the tower: what comes before, the stage, the rest."""
Region = Literal["vision", TowerRegion, PrefillRegion, "decode", "extend"]
"""Parts of the graphs that do different work."""
MOST = 1 << 24
"""Of any count. What is larger is no bundle but damage, and sums and products of counts stay exact in every reader."""
Count = Annotated[int, Field(ge=1, le=MOST)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Template = Annotated[str, Field(pattern=r"\{prompt\}")]
Colour = Annotated[int, Field(ge=0, le=255)]


class _Record(BaseModel):
    """Fields that a later version adds are ignored, as every reader does."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class TensorSpec(_Record):
    """A named input or output of a method."""

    name: str
    shape: list[Annotated[int, Field(ge=0, le=MOST)]]
    dtype: Literal["float32", "float16", "int32"]


class WorkSpec(_Record):
    """Arithmetic and memory traffic of a region of a graph, as the graph stands before a runtime fuses anything."""

    macs: int = Field(description="Multiply-accumulates of matrix products and convolutions.")
    weight_bytes: int = Field(description="Weights read, each once; of a looked-up table only the rows.")
    cache_bytes: int = Field(description="KV rows taken and returned, all slots: at most.")
    activation_bytes: int = Field(description="Into and out of matrix products beside weights and caches.")


class MethodSpec(_Record):
    """Where a method's graph is, and what it takes and returns, in this order."""

    file: str = Field(description="Path of the graph inside the bundle.")
    entry: str = Field(description="Method or function name inside the file; empty when the file is one graph.")
    data_file: str = Field(default="", description="File with the graph's weights, where a runtime must be told of it.")
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    work: dict[Region, WorkSpec] = Field(
        default={},
        description="With a full bucket of text. prefill: before, pruner, after; other methods: their own name, vision "
        "with a stage in it also vision_before, vision_pruner, vision_after. Empty in older bundles.",
    )
    work_per_token: dict[Region, WorkSpec] = Field(
        default={},
        description="What each text token less than the bucket takes off; empty where the graph computes the bucket "
        "whatever the text, and in older bundles.",
    )


class SegmentSpec(_Record):
    """Visual tokens on one grid over a part of the picture. Number `first + r * stride + c` is in row r, column c."""

    rows: Count
    columns: Count
    first: int = Field(ge=0, description="Number of the token in the upper left corner.")
    stride: Count = Field(description="Tokens from row to row; more than `columns` where others end each row.")
    box: tuple[int, int, int, int] = Field(description="Left, top, right, bottom in pixels of the fitted picture.")

    def cell(self, token: int) -> tuple[int, int] | None:
        """Row and column of a token, None when it is not on this grid."""
        row, column = divmod(token - self.first, self.stride)
        return (row, column) if 0 <= row < self.rows and column < self.columns else None


class ImageSpec(_Record):
    """How a photo becomes the input of `vision`: RGB, fitted to height x width, values 0..255 as float, NCHW."""

    height: Count
    width: Count
    frames: Literal[1] = Field(default=1, description="Pictures that `vision` takes at once.")
    fit: Literal["pad", "stretch"] = Field(description="pad: keep the aspect ratio, centre, fill with `pad_rgb`.")
    pad_rgb: tuple[Colour, Colour, Colour]
    resample: Resample = Field(description="As Pillow does it, with antialiasing.")
    visual_tokens: Count = Field(description="N: the model's tokens of one picture, before any is pruned.")
    segments: list[SegmentSpec] = Field(description="Where in the picture the N tokens are.", min_length=1)


class StageSpec(_Record):
    """One place at which visual tokens are pruned. An unpruned bundle has one whose pruner is `none`."""

    place: Literal["vision", "layer"] = Field(
        description="layer: before decoder layer `index` (0-based), 0 is before the language model. vision: before "
        "block `index` of the vision tower."
    )
    index: int
    pruner: str = Field(description="Its name, as --pruner takes it.")
    tokens: int = Field(description="Visual tokens that come in.")
    num_kept: int = Field(description="Visual tokens that it keeps.")
    form: Literal["dropped", "rebuilt"] = Field(
        default="dropped",
        description="What becomes of the others. rebuilt, of a stage in the vision tower: they come back after its "
        "last block, so that all go on.",
    )
    settings: dict[str, float | int] = Field(description="Those that the pruner reads.")
    loop: Literal["while", "unroll", "scan"]
    by_prompt: bool = Field(default=False, description="Whether the text of the first turn has a say in the choice.")
    weighs: bool = Field(
        default=False,
        description="Whether attention counts each kept token as those that it stands for: prefill returns bias_i of "
        "stage i, which decode and extend take as bias_cache_i.",
    )
    exact: bool = Field(description="False when an unrolled graph may fill the last tokens by lowest score.")

    @property
    def where(self) -> int | str:
        """As --stage takes it."""
        return self.index if self.place == "layer" else f"vision.{self.index}"

    @property
    def left(self) -> int:
        """Visual tokens that go on."""
        return self.tokens if self.form == "rebuilt" else self.num_kept

    @property
    def depth(self) -> tuple[bool, int]:
        """What is later in the model is greater."""
        return self.place == "layer", self.index


class KvLayerSpec(_Record):
    """Cache of one decoder layer: key_cache_i and value_cache_i of `decode` and `extend`."""

    kv_heads: Count
    head_dim: Count
    base: Count = Field(description="Slot of the first text token after the image; the prefix and it come before.")
    slots: Count = Field(description="base + text_len + max_new_tokens")


class StateLayerSpec(_Record):
    """State of a decoder layer without keys: state_cache_i of `decode` and `extend`, replaced by each call."""

    state: tuple[Count, Count] = Field(description="Its shape: rows, and the width of each.")


def _kind_of_layer(value: Any) -> str:
    has_state = "state" in value if isinstance(value, dict) else isinstance(value, StateLayerSpec)
    return "state" if has_state else "keys"


LayerSpec = Annotated[
    Annotated[KvLayerSpec, Tag("keys")] | Annotated[StateLayerSpec, Tag("state")], Discriminator(_kind_of_layer)
]


class KvSpec(_Record):
    """KV caches. The rows of text token i, from the end of the image, are in slot `base + i` of each layer's."""

    update: Literal["rows", "in_place"] = Field(
        description="rows: a step reads caches [kv_heads, slots, head_dim] and returns new rows; the host stores them. "
        "in_place: all methods but vision take the caches [1, kv_heads, slots, head_dim] and write into them: the host "
        "binds the buffer of key_cache_0 to the output key_0 too. With both a call returns new states, which replace "
        "the old ones.",
    )
    dtype: Literal["float32", "float16"]
    layers: list[LayerSpec] = Field(
        min_length=1, max_length=1024, description="Of each decoder layer: one with `state` has no keys."
    )

    @property
    def keyed(self) -> dict[int, KvLayerSpec]:
        """The layers with keys and values, by number."""
        return {number: layer for number, layer in enumerate(self.layers) if isinstance(layer, KvLayerSpec)}

    @property
    def states(self) -> dict[int, StateLayerSpec]:
        """The layers with a state, by number."""
        return {number: layer for number, layer in enumerate(self.layers) if isinstance(layer, StateLayerSpec)}


class ShapeSpec(_Record):
    """One picture size of a bundle: all that depends on it. A reader that has no use for several takes the first."""

    image: ImageSpec
    stages: list[StageSpec] = Field(description="In the order in which they come; each takes what the one before left.")
    kv: KvSpec
    methods: dict[MethodName, str] = Field(description="What a step is called among the manifest's `methods`.")

    @field_validator("methods")
    @classmethod
    def _complete(cls, methods: dict[MethodName, str]) -> dict[MethodName, str]:
        missing = [name for name in METHODS if name not in methods]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return methods

    @model_validator(mode="after")
    def _chained(self) -> Self:
        left, layers = self.image.visual_tokens, len(self.kv.layers)
        for number, stage in enumerate(self.stages):
            if stage.place == "layer" and not 0 <= stage.index < layers:
                raise ValueError(f"stages.{number}: index {stage.index} must be from 0 to {layers - 1}")
            if stage.place == "layer" and stage.form != "dropped":
                raise ValueError(f"stages.{number}: form {stage.form} is of the vision tower")
            if number and stage.depth <= self.stages[number - 1].depth:
                raise ValueError(f"stages.{number}: index {stage.index} is not after the stage before")
            if stage.place == "vision" and (number or stage.index < 0):
                raise ValueError(f"stages.{number}: one stage in the vision tower is possible, from index 0 on")
            if stage.tokens != left or not 0 < stage.num_kept <= left:
                raise ValueError(f"stages.{number}: takes {stage.tokens} and keeps {stage.num_kept} of {left} tokens")
            left = stage.left
        if self.tower is not None and len(self.stages) == 1:
            raise ValueError("stages: one in the language model must follow that of the vision tower")
        return self

    @property
    def num_kept(self) -> int:
        """S: visual tokens after the last stage."""
        return self.stages[-1].num_kept if self.stages else self.image.visual_tokens

    @property
    def tower(self) -> StageSpec | None:
        """The stage in the vision tower."""
        return self.stages[0] if self.stages and self.stages[0].place == "vision" else None

    @property
    def handed(self) -> int:
        """Visual tokens that `vision` returns."""
        return self.image.visual_tokens if self.tower is None else self.tower.left

    @property
    def weighed(self) -> list[int]:
        """Numbers of the stages whose biases count in the language model."""
        return [number for number, stage in enumerate(self.stages) if stage.weighs and stage.form == "dropped"]

    @property
    def pruner(self) -> str:
        """The pruner's name, of several stages with a plus between them."""
        return "+".join(stage.pruner for stage in self.stages if stage.pruner != "none") or "none"

    @property
    def prune_layer(self) -> int:
        """K: the decoder layer that the first stage in the language model stands before, 0 without one."""
        return next((stage.index for stage in self.stages if stage.place == "layer"), 0)


class PromptSpec(_Record):
    """The chat template around the image and the user's text. `{prompt}` marks the user's text."""

    prefix_ids: list[TokenId] = Field(
        description="Token ids up to the image, with BOS and what the model's processor puts before it; baked into "
        "`prefill`."
    )
    first: Template = Field(description="Text from the end of the image to the start of the answer.")
    following: Template = Field(description="Text of a later turn, from the answer's end token on.")
    text_len: Count = Field(description="T: token bucket of `prefill` and `extend`.")
    max_new_tokens: Count = Field(description="G: cache room after the first prompt, for answers and later turns.")
    end_ids: list[TokenId] = Field(description="Token ids that end an answer.")
    end_text_id: TokenId = Field(description="The token that closes a turn in the template; fed before `following`.")
    pad_id: TokenId
    template_file: str = Field(
        default="", description="The checkpoint's file that the template is from, where it is known."
    )
    control_tokens: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Added tokens that are special or stand in the chat template. What a user types is cut at them, "
        "longest first, and they are encoded as plain text. Empty in older bundles: then all special tokens of the "
        "tokenizer are meant.",
    )
    tokenizer_file: str


class FileSpec(_Record):
    """One file of the bundle."""

    path: str
    sha256: str
    size_bytes: int


class Check(_Record):
    """One figure of the verification with its limit."""

    name: str
    value: float
    limit: float
    better: Literal["lower", "higher"]

    @property
    def passed(self) -> bool:
        """Whether the value keeps the limit."""
        return self.value <= self.limit if self.better == "lower" else self.value >= self.limit


class ParitySpec(_Record):
    """Verification on the target's own runtime against PyTorch."""

    status: Literal["passed", "failed", "skipped"]
    runtime: str = Field(description="What ran the bundle, for instance 'onnxruntime 1.31.0'.")
    checks: list[Check] = []


class CostStep(_Record):
    """What one step of the export took. The memory is the whole process's, what earlier steps hold included."""

    name: str
    seconds: float
    peak_memory_mib: float


class CostSpec(_Record):
    """What the export took."""

    seconds: float
    peak_memory_mib: float
    steps: list[CostStep] = []


class Manifest(_Record):
    """Everything that an app needs to know about a bundle."""

    schema_version: int = SCHEMA_VERSION
    model: str
    checkpoint: str = Field(
        description="Hugging Face id, '@' and revision where known; or 'local' with the sha256 of its config."
    )
    target: str
    precision: Literal["float32", "float16"]
    quantization: str
    vocab_size: Count
    prompt: PromptSpec
    shapes: list[ShapeSpec] = Field(description="Picture sizes over one set of weights.", min_length=1)
    methods: dict[str, MethodSpec]
    parity: ParitySpec
    cost: CostSpec | None = None
    notes: list[str] = Field(
        default=[], description="What a person should know of how the checkpoint was read, a sentence each."
    )
    tools: dict[str, str]
    files: list[FileSpec] = []

    @model_validator(mode="after")
    def _named(self) -> Self:
        for shape in self.shapes:
            missing = [name for name in shape.methods.values() if name not in self.methods]
            if missing:
                raise ValueError(f"methods: {missing[0]} is missing")
            told = {spec.name for spec in self.methods[shape.methods["prefill"]].outputs}
            for number, stage in enumerate(shape.stages[:-1]):
                if stage.place == "layer" and f"kept_{number}" not in told:
                    raise ValueError(f"methods: prefill has no output kept_{number} of stage {number}")
        return self

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        for name, token in (("end_text_id", self.prompt.end_text_id), ("pad_id", self.prompt.pad_id)):
            if token >= self.vocab_size:
                raise ValueError(f"prompt.{name} is {token}, which is not in the vocabulary of {self.vocab_size}")
        text_room = self.prompt.text_len + self.prompt.max_new_tokens
        for number, layer in self.shape.kv.keyed.items():
            if layer.slots != layer.base + text_room:
                raise ValueError(f"kv.layers.{number}: slots must be base, text_len and max_new_tokens together")
        return self

    @property
    def shape(self) -> ShapeSpec:
        """The picture size that is run."""
        return self.shapes[0]

    def method(self, name: MethodName) -> MethodSpec:
        """What a step of `shape` is."""
        return self.methods[self.shape.methods[name]]


def from_json(raw: Any) -> Manifest:
    """The manifest of a JSON value, in which a number in quotes is no number. Raises pydantic's ValidationError."""
    return Manifest.model_validate_json(json.dumps(raw), strict=True)


def json_schema() -> str:
    """JSON Schema of the manifest, as stored in `manifest.schema.json`."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"
