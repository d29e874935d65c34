"""The manifest: everything that an app needs to know about a bundle, and the contract between exporter and apps.

Nothing is guessed from file names. Readers in C++, Kotlin, Swift and JavaScript follow the same file; `json_schema()`
is stored beside this one.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

SCHEMA_VERSION = 1
MethodName = Literal["vision", "prefill", "decode", "extend"]
METHODS: tuple[MethodName, ...] = ("vision", "prefill", "decode", "extend")
PrefillRegion = Literal["before", "pruner", "after"]
"""Parts of prefill: layers < K with the embedding, the pruner, layers >= K with the head."""
Region = Literal["vision", PrefillRegion, "decode", "extend"]
"""Parts of the graphs that do different work."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Strict):
    """A named input or output of a method."""

    name: str
    shape: list[int]
    dtype: Literal["float32", "float16", "int32"]


class WorkSpec(_Strict):
    """Arithmetic and memory traffic of a region of a graph, as the graph stands before a runtime fuses anything."""

    macs: int = Field(description="Multiply-accumulates of matrix products and convolutions.")
    weight_bytes: int = Field(description="Weights read, each once; of a looked-up table only the rows.")
    cache_bytes: int = Field(description="KV rows taken and returned, all slots: at most.")
    activation_bytes: int = Field(description="Into and out of matrix products beside weights and caches.")


class MethodSpec(_Strict):
    """Where a method's graph is, and what it takes and returns, in this order."""

    file: str = Field(description="Path of the graph inside the bundle.")
    entry: str = Field(description="Method or function name inside the file; empty when the file is one graph.")
    data_file: str = Field(default="", description="File with the graph's weights, where a runtime must be told of it.")
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    work: dict[Region, WorkSpec] = Field(
        default={},
        description="With a full bucket of text. prefill: before, pruner, after; other methods: their own name. "
        "Empty in older bundles.",
    )
    work_per_token: dict[Region, WorkSpec] = Field(
        default={},
        description="What each text token less than the bucket takes off; empty where the graph computes the bucket "
        "whatever the text, and in older bundles.",
    )


class ImageSpec(_Strict):
    """How a photo becomes the input of `vision`: RGB, fitted to height x width, values 0..255 as float, NCHW."""

    height: int
    width: int
    grid: tuple[int, int] = Field(description="Merged visual tokens (rows, columns); their product is N.")
    fit: Literal["pad", "stretch"] = Field(description="pad: keep the aspect ratio, centre, fill with `pad_rgb`.")
    pad_rgb: tuple[int, int, int]
    resample: Literal["bicubic"]


class PrunerSpec(_Strict):
    """The pruning method inside `prefill`."""

    name: str
    layer: int = Field(description="K: pruned before decoder layer K (0-based); 0 is before the language model.")
    visual_tokens: int = Field(description="N")
    kept_tokens: int = Field(description="S")
    settings: dict[str, float | int] = Field(description="Those that the method reads.")
    loop: Literal["while", "unroll", "scan"]
    by_prompt: bool = Field(default=False, description="Whether the text of the first turn has a say in the choice.")
    exact: bool = Field(description="False when an unrolled graph may fill the last tokens by lowest score.")


class KvSpec(_Strict):
    """KV cache geometry. The rows of text token i, from the end of the image, are in slot `base + i` of the caches."""

    update: Literal["rows", "in_place"] = Field(
        default="rows",
        description="rows: a step reads caches [kv_heads, slots, head_dim] and returns new rows; the host stores them. "
        "in_place: all methods but vision take the caches [1, kv_heads, slots, head_dim] and write into them: the host "
        "binds the buffer of key_cache_0 to the output key_0 too.",
    )

    layers: int
    kv_heads: int
    head_dim: int
    dtype: Literal["float32", "float16"]
    early_layers: int = Field(description="Layers before the pruner, 0 to K-1; their caches hold all N visual tokens.")
    early_base: int = Field(description="P + N")
    early_slots: int
    late_base: int = Field(description="P + S")
    late_slots: int


class PromptSpec(_Strict):
    """The chat template around the image and the user's text. `{prompt}` marks the user's text."""

    prefix_ids: list[int] = Field(description="Token ids up to the image; baked into `prefill`.")
    first: str = Field(description="Text from the end of the image to the start of the answer.")
    following: str = Field(description="Text of a later turn, from the answer's end token on.")
    text_len: int = Field(description="T: token bucket of `prefill` and `extend`.")
    max_new_tokens: int = Field(description="G: cache room behind the first prompt, for answers and later turns.")
    end_ids: list[int] = Field(description="Token ids that end an answer.")
    end_text_id: int = Field(description="The token that closes a turn in the template; fed before `following`.")
    pad_id: int
    special_tokens: dict[str, int]
    template_file: str = Field(
        default="", description="The checkpoint's file that the template is from; empty in older bundles."
    )
    control_tokens: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Added tokens that are special or stand in the chat template. What a user types is cut at them, "
        "longest first, and they are encoded as plain text. Empty in older bundles: then all special tokens of the "
        "tokenizer are meant.",
    )
    tokenizer_file: str


class RopeSpec(_Strict):
    """Positions after the prompt; the graphs hold the tables, an app computes none."""

    theta: float
    mrope_section: list[int]
    text_start: int = Field(description="Position id of the first text token behind the image: P + max(grid).")


class FileSpec(_Strict):
    """One file of the bundle."""

    path: str
    sha256: str
    size_bytes: int


class Check(_Strict):
    """One figure of the verification with its limit."""

    name: str
    value: float
    limit: float
    better: Literal["lower", "higher"]

    @property
    def passed(self) -> bool:
        """Whether the value keeps the limit."""
        return self.value <= self.limit if self.better == "lower" else self.value >= self.limit


class ParitySpec(_Strict):
    """Verification on the target's own runtime against PyTorch."""

    status: Literal["passed", "failed", "skipped"]
    runtime: str = Field(description="What ran the bundle, for instance 'onnxruntime 1.31.0'.")
    checks: list[Check] = []


class StageSpec(_Strict):
    """What one stage of the export took. The memory is the whole process's, what earlier stages hold included."""

    name: str
    seconds: float
    peak_memory_mib: float


class CostSpec(_Strict):
    """What the export took."""

    seconds: float
    peak_memory_mib: float
    stages: list[StageSpec] = []


class Manifest(_Strict):
    """Everything that an app needs to know about a bundle."""

    schema_version: int = SCHEMA_VERSION
    model: str
    family: str
    checkpoint: str = Field(
        description="Hugging Face id, '@' and revision where known; or 'local' with the sha256 of its config."
    )
    target: str
    precision: Literal["float32", "float16"]
    quantization: str
    vocab_size: int
    image: ImageSpec
    pruner: PrunerSpec
    kv: KvSpec
    prompt: PromptSpec
    rope: RopeSpec
    methods: dict[MethodName, MethodSpec]
    parity: ParitySpec
    cost: CostSpec | None = None
    notes: list[str] = Field(
        default=[], description="What a person should know of how the checkpoint was read, a sentence each."
    )
    tools: dict[str, str]
    files: list[FileSpec] = []

    @field_validator("methods")
    @classmethod
    def _complete(cls, methods: dict[MethodName, MethodSpec]) -> dict[MethodName, MethodSpec]:
        missing = [name for name in METHODS if name not in methods]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return methods


def json_schema() -> str:
    """JSON Schema of the manifest, as stored in `manifest.schema.json`."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"
