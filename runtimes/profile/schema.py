"""What `vlmp-profile` measures, as JSON: made to be collected from many machines and phones."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import MethodName, PrefillRegion, TowerRegion
from vlmp.runtimes.bundle.writing import write_whole

PROFILE_VERSION = 1

PhaseName = Literal[
    "load_cold", "load_warm", "preprocess", "vision", "vision_before", "vision_pruner", "vision_after", "prefill",
    "prefill_before", "prefill_pruner", "prefill_after", "decode", "first_token", "first_token_cold",
]  # fmt: skip
Arithmetic = Literal["float32", "float16", "int8"]
"""What most multiply-accumulates of a bundle are done in."""
Part = Literal[TowerRegion, PrefillRegion]
"""A region of a method's graph that is a phase of its own."""
InParts = Literal["vision", "prefill"]
"""A method, and a phase, that can have parts: vision where a stage is in the tower."""
PARTS: dict[InParts, dict[Part, PhaseName]] = {
    "vision": {
        "vision_before": "vision_before",
        "vision_pruner": "vision_pruner",
        "vision_after": "vision_after",
    },
    "prefill": {
        "before": "prefill_before",
        "pruner": "prefill_pruner",
        "after": "prefill_after",
    },
}
"""The regions of each in order, and the phase of each region."""

ThermalStatus = Literal[
    "none", "light", "moderate", "severe", "critical", "emergency", "shutdown", "nominal", "fair", "serious"
]
"""In Android's words, from `none` to `shutdown`, or in Apple's, from `nominal` over `fair`, `serious` to `critical`."""
COOL: tuple[ThermalStatus, ...] = ("none", "nominal")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Machine(_Strict):
    """What the figures were measured on. What a device does not tell stays None."""

    kind: Literal["host", "android", "ios", "browser"] = Field(
        description="On Android over adb or by an app: `command` tells which, and apps leave it empty."
    )
    name: str = Field(description="The device's model; of a host, its CPU.")
    os: str
    cpu: str
    cores: int
    flags: list[str] = Field(default=[], description="Those of the CPU's features that kernels choose by.")
    memory_mib: float = Field(description="0 where nothing tells it, as in most browsers.")
    runtimes: dict[str, str] = Field(description="Name and version of each runtime that was used.")
    facts: dict[str, str] = Field(default={}, description="Of a device: chip, battery, temperature, governor.")


class Settings(_Strict):
    """How it was measured."""

    runs: int = Field(description="Timed runs of every phase; the bundles take turns.")
    decode_tokens: int
    threads: int | None = Field(description="None: the runtime's own choice.")
    prompt: str
    photo: str = Field(description="Name of the file, without its folder.")
    photo_size: tuple[int, int] = Field(description="width, height in pixels, before it is fitted.")


class StageFacts(_Strict):
    """One place at which visual tokens are pruned."""

    place: Literal["vision", "layer"] = "layer"
    layer: int = Field(description="Or the block of the vision tower.")
    pruner: str
    kept_tokens: int


class BundleFacts(_Strict):
    """What the manifest says of a bundle."""

    model: str
    checkpoint: str
    target: str
    precision: str
    quantization: str
    image: tuple[int, int] = Field(description="height, width in pixels")
    text_len: int = Field(description="T: token bucket of prefill")
    layers: int
    pruner: str
    prune_layer: int = Field(description="K: pruned before decoder layer K, of several stages by the first.")
    visual_tokens: int
    kept_tokens: int = Field(description="After the last stage.")
    stages: list[StageFacts] = Field(default=[], description="Empty in older profiles.")

    @property
    def places(self) -> str:
        """K of each stage."""
        return ", ".join(f"vision.{at.layer}" if at.place == "vision" else str(at.layer) for at in self.stages) or str(
            self.prune_layer
        )

    @property
    def in_tower(self) -> bool:
        """Whether a stage is in the vision tower."""
        return any(stage.place == "vision" for stage in self.stages)

    @property
    def kept(self) -> str:
        """Visual tokens that each stage leaves."""
        return ", ".join(str(stage.kept_tokens) for stage in self.stages) or str(self.kept_tokens)


class Phase(_Strict):
    """Latency of one phase. Parts of a method are shares of its samples, as `vision_split` and `prefill_split` say."""

    median_ms: float
    low_ms: float = Field(description="Lower quartile.")
    high_ms: float = Field(description="Upper quartile.")
    samples_ms: list[float] = Field(description="One a run; of decode the mean of a run's tokens, per token.")


class Memory(_Strict):
    """Memory of a process of its own, in MiB. Pss counts pages that are mapped twice once; only Linux tells it."""

    libraries_pss_mib: float | None = Field(description="Before loading: interpreter and runtime library.")
    libraries_rss_mib: float
    loaded_pss_mib: float | None = Field(description="Session loaded, nothing run.")
    loaded_rss_mib: float
    ran_pss_mib: float | None = Field(description="After running all methods.")
    ran_rss_mib: float
    peak_rss_mib: float = Field(description="Highest value from the start of loading to the end.")


class Operator(_Strict):
    """All calls of one kind in one method and region of a run under the runtime's profiler: the least of all runs."""

    method: MethodName
    region: Part | None = Field(description="None where the method has no parts, or is not split.")
    op: str = Field(description="Operator type as the runtime calls it; a delegate counts as one.")
    calls: int
    ms: float = Field(description="Without what runs inside it, as a loop's body.")


class Peaks(_Strict):
    """What a machine can do at most. Of a host measured, by numpy: a large matrix product and a large copy."""

    gop_s: dict[Arithmetic, float] = Field(description="10^9 operations a second; a multiply-accumulate is two.")
    gb_s: float = Field(description="10^9 bytes a second, read and written together.")
    how: str = Field(description="Where the figures come from; a sentence.")


class Roofline(_Strict):
    """The least that a phase can take on the machine, from its work and the machine's measured limits."""

    gmac: float
    gib_moved: float
    bound_ms: float
    binds: Literal["compute", "memory"] = Field(description="Which limit the bound comes from.")
    share_of_bound: float = Field(
        description="bound_ms / median_ms: 1 is perfect, and more is possible where the data fit into a cache."
    )


class Condition(_Strict):
    """How hot a device is at a moment, as far as it tells."""

    thermal_status: ThermalStatus | None = None
    temperatures_c: dict[str, float] = Field(default={}, description="By sensor, as the device calls it.")
    battery_c: float | None = None
    clock_limit_share: float | None = Field(
        default=None, description="Least share of its highest clock that a core was allowed."
    )


class RunCondition(_Strict):
    """The device around one timed run of a bundle."""

    round: int = Field(description="From 1; each bundle runs once in a round.")
    bundle: int = Field(description="Its place in `bundles`, from 0.")
    waited_s: float = Field(description="For cooling down before it.")
    before: Condition
    after: Condition


class Estimate(_Strict):
    """What a bundle might take on a phone, from its work and the phone's published figures. Nothing was run there."""

    label: Literal["estimate, not measured"] = "estimate, not measured"
    phone: str
    chip: str
    bundle: str = Field(description="Its name in `bundles`.")
    arithmetic: Arithmetic
    phases_ms: dict[PhaseName, float]
    binds: dict[PhaseName, Literal["compute", "memory"]]
    assumptions: list[str]


class BundleProfile(_Strict):
    """Figures of one bundle."""

    name: str = Field(description="Its folder's; with parents or a number where that would not tell bundles apart.")
    manifest: BundleFacts
    runtime: str
    size_mib: float
    phases: dict[PhaseName, Phase] = Field(description="Those that could be measured.")
    prefill_split: str = Field(description="How prefill was split, or why it is one phase; a sentence.")
    vision_split: str = Field(
        default="",
        description="The same of vision, where a stage is in the tower; empty elsewhere and in older profiles.",
    )
    cold_cached_share: float | None = Field(
        description="Share of the files' pages that stayed in the page cache when they were dropped; None: they cannot "
        "be dropped here, or the system does not tell."
    )
    memory: Memory | None
    operators: list[Operator] = []
    operators_ms: dict[MethodName, float] = Field(
        default={}, description="What the runtime's profiler says each method took as a whole: the least of all runs."
    )
    roofline: dict[PhaseName, Roofline] = {}
    kept_picture: str | None = Field(default=None, description="PNG in base64: the kept tokens over the photo.")

    @property
    def splits(self) -> dict[InParts, str]:
        """How each method was split, or why not, where that is told."""
        told: dict[InParts, str] = {"vision": self.vision_split, "prefill": self.prefill_split}
        return {method: how for method, how in told.items() if how}

    def parts_of(self, name: PhaseName) -> list[PhaseName]:
        """The parts of a phase; none unless all of them were measured."""
        parts = list(PARTS[name].values()) if name in PARTS else []
        return parts if self.phases.keys() >= set(parts) else []


class Profile(_Strict):
    """One call of `vlmp-profile`. The first bundle is what the others are compared with."""

    schema_version: int = PROFILE_VERSION
    created: str = Field(description="UTC, ISO 8601.")
    command: str
    machine: Machine
    settings: Settings
    bundles: list[BundleProfile]
    explanation: list[str] = Field(default=[], description="Why each speed-up is what it is, a line a comparison.")
    warnings: list[str] = Field(default=[], description="What makes the figures doubtful, a sentence each.")
    conditions: list[RunCondition] = Field(default=[], description="Of a phone, around each timed run.")
    peaks: Peaks | None = None
    estimates: list[Estimate] = Field(
        default=[], description="Phones that were not there; apart from all that was run."
    )


def json_schema() -> str:
    """JSON Schema of a profile, as stored in `profile.schema.json`."""
    return json.dumps(Profile.model_json_schema(), indent=2) + "\n"


def write_profile(profile: Profile, path: Path) -> None:
    """Write as JSON; the file appears when it is complete."""
    write_whole(path, profile.model_dump_json(indent=2) + "\n")


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises UserError naming the file and what is wrong with it."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a profile: {error}") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != PROFILE_VERSION:
        raise UserError(f"{path} has schema version {version!r}, this vlmp reads version {PROFILE_VERSION}")
    try:
        return Profile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
