"""What makes two bundles unlike, and why one is so much faster than the other."""

from collections.abc import Callable, Iterable, Sequence

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.profile.schema import BundleFacts, BundleProfile, InParts, PhaseName
from vlmp.runtimes.profile.task import bundle_facts
from vlmp.runtimes.versions import release

FACTS: dict[str, Callable[[BundleFacts], object]] = {
    "model": lambda facts: facts.model,
    "checkpoint": lambda facts: facts.checkpoint,
    "target": lambda facts: facts.target,
    "precision": lambda facts: facts.precision,
    "quantization": lambda facts: facts.quantization,
    "image size": lambda facts: "x".join(map(str, facts.image)),
    "prompt bucket": lambda facts: facts.text_len,
}
"""All that costs time and is not pruning: what has to be equal for a ratio to say something about pruning."""
ONLY_IN_THE_MANIFEST: dict[str, Callable[[Manifest], object]] = {
    "image fit": lambda manifest: manifest.shape.image.fit,
    "prefix tokens": lambda manifest: len(manifest.prompt.prefix_ids),
    "room for new tokens": lambda manifest: manifest.prompt.max_new_tokens,
    "cache update": lambda manifest: manifest.shape.kv.update,
}
"""The same, as far as a profile does not tell it."""
IN_WORDS: dict[InParts, str] = {
    "vision": "blocks before the stage, which see all patches, take {} of it, the stage {}, what comes after it {}",
    "prefill": "layers before the pruner, which see all tokens, take {} of it, the pruner {}, layers after it {}",
}
"""What the parts of a method take of it."""


def unlike_facts(one: BundleFacts, other: BundleFacts) -> list[str]:
    """What is unlike of what profiles tell, in words: `precision float32 against float16`."""
    return _unlike((what, get(one), get(other)) for what, get in FACTS.items())


def differences(one: Manifest, other: Manifest) -> list[str]:
    """What is unlike, in words; also the tools that both were exported with, since others write other graphs."""
    pairs = [(what, get(one), get(other)) for what, get in ONLY_IN_THE_MANIFEST.items()]
    pairs += [(tool, release(one.tools[tool]), release(other.tools[tool])) for tool in one.tools if tool in other.tools]
    return unlike_facts(bundle_facts(one), bundle_facts(other)) + _unlike(pairs)


def _unlike(pairs: Iterable[tuple[str, object, object]]) -> list[str]:
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
    whole = median(slow, "first_token")
    # With a stage in its tower pruning changes vision, too.
    in_tower = one.manifest.in_tower or other.manifest.in_tower
    pruned: list[InParts] = ["vision", "prefill"] if in_tower else ["prefill"]
    fixed = median(slow, "preprocess") + (0 if in_tower else median(slow, "vision"))
    rest = "the picture" if in_tower else "picture and vision"
    limit = "" if in_tower else f": a prefill without cost would make it {ratio(whole, fixed)} times as fast"
    return (
        f"{fast.name} reaches the first token {ratio(whole, median(fast, 'first_token'))} times as fast as "
        f"{slow.name}. "
        f"Of {slow.name}'s {whole:.1f} ms, {fixed:.1f} ms ({share(fixed, whole)}) are {rest}, which "
        f"pruning does not touch{limit}." + "".join(_explain_method(slow, fast, name) for name in pruned)
    )


def _explain_method(slow: BundleProfile, fast: BundleProfile, name: InParts) -> str:
    """How much faster a method is, and where the faster one's time goes."""
    text = f" Its {name} is {ratio(median(slow, name), median(fast, name))} times as fast"
    parts = [median(fast, part) for part in fast.parts_of(name)]
    if fast.manifest.pruner == "none" or not parts:
        return text + "."
    return f"{text}; {IN_WORDS[name].format(*(share(part, sum(parts)) for part in parts))}."


def share(part: float, whole: float) -> str:
    """In percent; a dash of what takes no time."""
    return f"{part / whole:.0%}" if whole > 0 else "-"


def median(bundle: BundleProfile, phase: PhaseName) -> float:
    """Milliseconds."""
    return bundle.phases[phase].median_ms


def ratio(one: float, other: float) -> str:
    """How many times as long `one` takes; a dash where either takes no time, as the pruner of an unpruned bundle."""
    return f"{one / other:.2f}" if min(one, other) > 0 else "-"
