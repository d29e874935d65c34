"""What a bundle might take on phones that are not here: estimates, never measured, and never mixed with measurements.

time = max(operations / (peak operations a second * efficiency), bytes / (memory bandwidth * efficiency)), both
efficiencies being assumptions, that of arithmetic one for each runtime. The figures of the phones with their sources
are in `phones.json`; docs/estimates.md says what this leaves out.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.profile.roofline import PRUNERS, arithmetic, regions_of, sides_ms, work_of
from vlmp.runtimes.profile.schema import PARTS, Arithmetic, Estimate, PhaseName

LANES: dict[Arithmetic, int] = {"float32": 4, "float16": 8, "int8": 16}
"""Multiply-accumulates that a 128-bit pipe does in a cycle: FMLA on 4 or 8 numbers, SDOT on 16."""
EFFICIENCY: dict[str, dict[str, float]] = {
    "onnx": {"none": 0.5, "int8": 0.45, "int4": 0.15},
    "executorch": {"none": 0.45, "int8": 0.3, "int4": 0.25, "int4-fp16": 0.25},
    "coreml": {"none": 0.5, "int8": 0.5, "int4": 0.5, "palette4": 0.5},
}
"""Target -> quantization -> assumed share of the peak in arithmetic: what x86-64 kernels reach of theirs, rounded.

Of those with 4 bits that of the language model: vision is int8 in all presets. Attention in float16 is not counted.
"""
MEMORY_EFFICIENCY = 0.6
"""Assumed share of the bandwidth that a CPU's cores reach."""
PRUNER_EFFICIENCY = 0.04
"""Of one core's float32 peak: short steps on one thread, products being the smaller part; measured on x86-64."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where a figure comes from: as somebody published it, or derived from that by a formula."""

    kind: Literal["published", "derived"]
    source: str
    formula: str = ""


class Core(Source):
    """A kind of core. pipes: its 128-bit vector units, each with one multiply-accumulate instruction a cycle."""

    pipes: int


class Memory(Source):
    """Peak bandwidth, shared by all parts of the chip."""

    gb_s: float


class Cluster(_Strict):
    """Equal cores."""

    core: str
    count: int
    clock_ghz: float


class Phone(_Strict):
    """A phone's CPU: its large and middle cores, fastest first. The small ones are left out."""

    name: str
    chip: str
    clusters: list[Cluster]
    clocks: Source
    memory: Memory

    def gop_s(self, kind: Arithmetic, cores: dict[str, Core]) -> float:
        """Peak of all cores: cores x pipes x lanes x 2 x clock, in 10^9 operations a second."""
        return sum(cluster.count * _core_gop_s(cluster, kind, cores) for cluster in self.clusters)


class Catalogue(_Strict):
    """`phones.json`."""

    cores: dict[str, Core]
    phones: dict[str, Phone]


@cache
def catalogue() -> Catalogue:
    """The phones by the names that the command line takes."""
    text = files(__package__).joinpath("phones.json").read_text(encoding="utf-8")
    return Catalogue.model_validate_json(text)


def find_phone(name: str) -> Phone:
    """The phone `name`. Raises UserError listing the choices."""
    phones = catalogue().phones
    if name not in phones:
        raise UserError(f"unknown phone {name!r}: choose one of {', '.join(phones)}")
    return phones[name]


def listing() -> str:
    """The phones, a line each."""
    phones = catalogue().phones.items()
    width = max(len(name) for name, _ in phones)
    return "\n".join(f"{name:{width}}  {phone.name}, {phone.chip}" for name, phone in phones)


def estimates(phones: Sequence[str], names: Sequence[str], manifests: Sequence[Manifest]) -> list[Estimate]:
    """Every bundle on every phone. Raises UserError on an unknown phone or a bundle that cannot be estimated."""
    found = [find_phone(phone) for phone in phones]
    return [estimate(name, manifest, phone) for phone in found for name, manifest in zip(names, manifests, strict=True)]


def estimate(bundle: str, manifest: Manifest, phone: Phone) -> Estimate:
    """Estimate the phases of a bundle on a phone's CPU. bundle: its name in the profile.

    Raises UserError on a bundle from before its work was counted, or for a runtime of which nothing is assumed.
    """
    regions, kind, cores = work_of(manifest), arithmetic(manifest), catalogue().cores
    if not regions:
        raise UserError(f"{bundle} does not say how much work it is: export it again to estimate phones")
    shares = EFFICIENCY.get(manifest.target, {})
    share = shares.get(manifest.quantization)
    if share is None:
        raise UserError(
            f"{bundle}: nothing is assumed of {manifest.target} with quantization {manifest.quantization!r}, so that "
            "phones cannot be estimated"
        )
    vision_share = shares["none" if manifest.quantization == "none" else "int8"]
    peak_gop_s = phone.gop_s(kind, cores)
    one_core_gop_s = _core_gop_s(phone.clusters[0], "float32", cores)
    other_gop_s = dict.fromkeys(["vision", *PARTS["vision"]], peak_gop_s * vision_share)
    other_gop_s |= dict.fromkeys(PRUNERS, one_core_gop_s * PRUNER_EFFICIENCY)
    phases: dict[PhaseName, float] = {}
    binds: dict[PhaseName, Literal["compute", "memory"]] = {}
    for phase, names in regions_of(regions).items():
        sides = [
            sides_ms(regions[name], other_gop_s.get(name, peak_gop_s * share), phone.memory.gb_s * MEMORY_EFFICIENCY)
            for name in names
        ]
        phases[phase] = sum(max(pair) for pair in sides)
        compute_ms, memory_ms = max(sides, key=max)
        binds[phase] = "compute" if compute_ms >= memory_ms else "memory"
    return Estimate(
        phone=phone.name,
        chip=phone.chip,
        bundle=bundle,
        arithmetic=kind,
        phases_ms=phases,
        binds=binds,
        assumptions=[
            f"{share:.0%} of {peak_gop_s:.0f} GOP/s ({kind}, {_cores_text(phone)})"
            + (f", {vision_share:.0%} in vision, whose weights are 8-bit" if vision_share != share else ""),
            f"{MEMORY_EFFICIENCY:.0%} of {phone.memory.gb_s:g} GB/s",
            f"the pruner at {PRUNER_EFFICIENCY:.0%} of one core's {one_core_gop_s:.0f} GOP/s in float32",
            "CPU only, at its highest clock: no neural engine, no GPU, no heat",
        ],
    )


def _core_gop_s(cluster: Cluster, kind: Arithmetic, cores: dict[str, Core]) -> float:
    return cores[cluster.core].pipes * LANES[kind] * 2 * cluster.clock_ghz


def _cores_text(phone: Phone) -> str:
    return " + ".join(f"{cluster.count} {cluster.core} at {cluster.clock_ghz:g} GHz" for cluster in phone.clusters)
