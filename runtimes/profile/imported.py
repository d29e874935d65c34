"""Profiles that a phone wrote itself, as the iOS demo's benchmark does: the schema of `schema.py`, `machine.kind` ios.

The files may come from several runs of the app on one phone, a bundle each; they are put side by side.
"""

from collections.abc import Sequence
from pathlib import Path

from vlmp.export.errors import UserError

from .compare import explain
from .schema import BundleFacts, BundleProfile, PhaseName, Profile, RunCondition, read_profile

ALIKE = ("model", "checkpoint", "target", "precision", "quantization", "image", "text_len")
"""Facts of a bundle that cost time and are not pruning."""
EXPLAINED: tuple[PhaseName, ...] = ("first_token", "prefill")


def read_imported(paths: Sequence[Path]) -> Profile:
    """All bundles of the files, the first one being what the others are compared with.

    Raises UserError on files that are no profiles of an iPhone, hold no bundle, or do not belong together.
    """
    profiles = [read_profile(path) for path in paths]
    for path, profile in zip(paths, profiles, strict=True):
        _check(path, profile, paths[0], profiles[0])
    bundles: list[BundleProfile] = []
    conditions: list[RunCondition] = []
    for profile in profiles:
        conditions += [one.model_copy(update={"bundle": one.bundle + len(bundles)}) for one in profile.conditions]
        bundles += profile.bundles
    return profiles[0].model_copy(
        update={
            "bundles": bundles,
            "conditions": conditions,
            "warnings": list(dict.fromkeys(line for profile in profiles for line in profile.warnings)),
            "explanation": [
                explain(bundles[0], other, unlike(bundles[0].manifest, other.manifest))
                for other in bundles[1:]
                if all(phase in bundle.phases for bundle in (bundles[0], other) for phase in EXPLAINED)
            ],
        }
    )


def unlike(one: BundleFacts, other: BundleFacts) -> list[str]:
    """What is unlike beside pruning, in words."""
    pairs = ((what, getattr(one, what), getattr(other, what)) for what in ALIKE)
    return [f"{what.replace('_', ' ')} {mine} against {its}" for what, mine, its in pairs if mine != its]


def _check(path: Path, profile: Profile, first_path: Path, first: Profile) -> None:
    if profile.machine.kind != "ios":
        raise UserError(f"{path} was measured on a machine of kind {profile.machine.kind!r}, not on ios")
    if not profile.bundles:
        raise UserError(f"{path} holds no bundle")
    for what, mine, its in (
        ("phones", first.machine.name, profile.machine.name),
        ("systems", first.machine.os, profile.machine.os),
        ("settings", first.settings, profile.settings),
    ):
        if mine != its:
            raise UserError(f"{first_path} and {path} are of different {what}: {mine} against {its}")
