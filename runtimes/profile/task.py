"""What one call of `vlmp-profile` is to measure, wherever that happens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.profile.roofline import with_less_text
from vlmp.runtimes.profile.schema import BundleFacts, BundleProfile, Machine, Peaks, RunCondition, Settings, StageFacts
from vlmp.runtimes.prompt import control_tokens, encode_turn, load_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Bundles with their manifests, the first one being what the others are compared with, and how to run them.

    manifests: with the work that `prompt` is. photo_size: width, height in pixels. threads: None is the runtime's own
    choice. debug: show what libraries print.
    """

    folders: Sequence[Path]
    manifests: Sequence[Manifest]
    photo: Path
    photo_size: tuple[int, int]
    prompt: str
    runs: int
    decode_tokens: int
    threads: int | None
    debug: bool = False

    @property
    def names(self) -> list[str]:
        """The folders' own names, behind those of as many parents as it takes to tell them apart."""
        paths = [folder.resolve() for folder in self.folders]
        depth = 1
        while len({path.parts[-depth:] for path in paths}) < len(set(paths)):
            depth += 1
        return numbered([Path(*path.parts[-depth:]).as_posix() for path in paths])

    def settings(self, runs: int) -> Settings:
        """For the profile. runs: those that were done."""
        return Settings(
            runs=runs,
            decode_tokens=self.decode_tokens,
            threads=self.threads,
            prompt=self.prompt,
            photo=self.photo.name,
            photo_size=self.photo_size,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What came of it: the fields of a profile. fault: why there are fewer runs than asked for."""

    machine: Machine
    bundles: list[BundleProfile]
    runs: int
    peaks: Peaks | None = None
    warnings: Sequence[str] = ()
    conditions: Sequence[RunCondition] = ()
    fault: UserError | None = None


def for_prompt(folder: Path, manifest: Manifest, prompt: str) -> Manifest:
    """The manifest with the work that this prompt is to the bundle's graphs. Raises UserError without a tokenizer."""
    if not any(method.work_per_token for method in manifest.methods.values()):
        return manifest  # whose work does not depend on the prompt
    spec, tokenizer = manifest.prompt, load_tokenizer(folder, manifest)
    tokens = len(encode_turn(tokenizer, spec.first, prompt, control_tokens(tokenizer, spec.control_tokens)))
    return with_less_text(manifest, max(0, spec.text_len - tokens))


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before: `a`, `b`, `a (2)`."""
    found: list[str] = []
    for name in names:
        number, one = 1, name
        while one in found or (number > 1 and one in names):
            number += 1
            one = f"{name} ({number})"
        found.append(one)
    return found


def bundle_facts(manifest: Manifest) -> BundleFacts:
    """What a profile tells of a bundle."""
    shape = manifest.shape
    return BundleFacts(
        model=manifest.model,
        checkpoint=manifest.checkpoint,
        target=manifest.target,
        precision=manifest.precision,
        quantization=manifest.quantization,
        image=(shape.image.height, shape.image.width),
        text_len=manifest.prompt.text_len,
        layers=len(shape.kv.layers),
        pruner=shape.pruner,
        prune_layer=shape.prune_layer,
        visual_tokens=shape.image.visual_tokens,
        kept_tokens=shape.num_kept,
        stages=[
            StageFacts(place=stage.place, layer=stage.index, pruner=stage.pruner, kept_tokens=stage.num_kept)
            for stage in shape.stages
        ],
    )
