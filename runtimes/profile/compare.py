"""What makes two bundles unlike, and why one is so much faster than the other."""

from collections.abc import Callable, Sequence

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.profile.schema import PARTS, BundleProfile, PhaseName
from vlmp.runtimes.versions import release

ALIKE: dict[str, Callable[[Manifest], object]] = {
    "model": lambda manifest: manifest.model,
    "checkpoint": lambda manifest: manifest.checkpoint,
    "target": lambda manifest: manifest.target,
    "precision": lambda manifest: manifest.precision,
    "quantization": lambda manifest: manifest.quantization,
    "image size": lambda manifest: f"{manifest.shape.image.height}x{manifest.shape.image.width}",
    "image fit": lambda manifest: manifest.shape.image.fit,
    "prompt bucket": lambda manifest: manifest.prompt.text_len,
    "prefix tokens": lambda manifest: len(manifest.prompt.prefix_ids),
    "room for new tokens": lambda manifest: manifest.prompt.max_new_tokens,
    "cache update": lambda manifest: manifest.shape.kv.update,
}
"""All that costs time and is not pruning: what has to be equal for a ratio to say something about pruning.

So have the versions of the tools that both were exported with: others write other graphs.
"""


def differences(one: Manifest, other: Manifest) -> list[str]:
    """What is unlike, in words: `precision float32 against float16`."""
    pairs = [(what, get(one), get(other)) for what, get in ALIKE.items()]
    pairs += [(tool, release(one.tools[tool]), release(other.tools[tool])) for tool in one.tools if tool in other.tools]
    return [f"{what} {mine} against {its}" for what, mine, its in pairs if mine != its]


def check_alike(names: Sequence[str], unlike: Sequence[Sequence[str]]) -> None:
    """Raises UserError when a bundle differs from the first one. unlike: in what, in words, for each but the first."""
    for name, found in zip(names[1:], unlike, strict=True):
        if found:
            raise UserError(
                f"{names[0]} and {name} differ in more than pruning: {', '.join(found)}; "
                "--different compares them all the same"
            )


def explain(one: BundleProfile, other: BundleProfile, unlike: Sequence[str]) -> str:
    """Why the faster one's first token comes so much sooner and no sooner (Amdahl's law). unlike: see `differences`."""
    if unlike:
        return f"{one.name} and {other.name} differ in {', '.join(unlike)}: their ratio has more than one cause."
    fast, slow = sorted((one, other), key=lambda bundle: median(bundle, "first_token"))
    whole, prefill = median(slow, "first_token"), median(slow, "prefill")
    fixed = whole - prefill
    text = (
        f"{fast.name} reaches the first token {ratio(whole, median(fast, 'first_token'))} times as fast as "
        f"{slow.name}. "
        f"Of {slow.name}'s {whole:.1f} ms, {fixed:.1f} ms ({share(fixed, whole)}) are picture and vision, which "
        f"pruning does not touch: a prefill without cost would make it {ratio(whole, fixed)} times as fast. "
        f"Its prefill is {ratio(prefill, median(fast, 'prefill'))} times as fast"
    )
    if fast.manifest.pruner == "none" or not fast.phases.keys() >= set(PARTS.values()):
        return text + "."
    parts = [median(fast, name) for name in PARTS.values()]
    before, pruner, after = (share(part, sum(parts)) for part in parts)
    return text + (
        f"; layers before the pruner, which see all tokens, take {before} of it, "
        f"the pruner {pruner}, layers behind it {after}."
    )


def share(part: float, whole: float) -> str:
    """In percent; a dash of what takes no time."""
    return f"{part / whole:.0%}" if whole > 0 else "-"


def median(bundle: BundleProfile, phase: PhaseName) -> float:
    """Milliseconds."""
    return bundle.phases[phase].median_ms


def ratio(one: float, other: float) -> str:
    """How many times as long `one` takes; a dash where either takes no time, as the pruner of an unpruned bundle."""
    return f"{one / other:.2f}" if min(one, other) > 0 else "-"
