"""What a checkpoint's image processor does to pixels; it is baked into the vision graph."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmp.export.checkpoint import read_json
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Resample

Channels = tuple[float, float, float]
RESAMPLES: dict[int, Resample] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that a photo may be resized with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """Pixels 0..255 become (pixel * rescale - mean) / std, by channel."""

    mean: Channels
    std: Channels
    rescale: float

    @property
    def pad_rgb(self) -> tuple[int, int, int]:
        """The colour of about 0 after it: that of the bars beside a padded photo."""
        red, green, blue = (min(255, max(0, int(mean / self.rescale))) for mean in self.mean)
        return red, green, blue


def read_normalisation(folder: Path, default: Normalisation, sizes: dict[str, int]) -> Normalisation:
    """From the file that transformers reads: processor_config.json if it has an image processor, or its own file.

    default: what the model's image processor does where the file is silent. sizes: settings that must agree with
    config.json. Raises UserError on settings that the graph does not compute.
    """
    path, settings = _settings(folder)
    wanted = {"do_normalize": True, "do_rescale": True, **sizes}
    for name, right in wanted.items():
        if settings.get(name, right) != right:
            raise UserError(f"{path}: {name} is {settings[name]!r}, only {right!r} is supported")
    rescale = settings.get("rescale_factor", default.rescale)
    if not _is_number(rescale) or not 0 < rescale < math.inf:
        raise UserError(f"{path}: rescale_factor is {rescale!r}, it must be a number greater than 0")
    return Normalisation(
        mean=_channels(path, settings, "image_mean", default.mean),
        std=_channels(path, settings, "image_std", default.std, above=0),
        rescale=float(rescale),
    )


def read_resample(folder: Path, default: Resample) -> Resample:
    """The filter that a photo is resized with, from the same file; default: what it is where the file is silent.

    Raises UserError on one that readers do not compute.
    """
    path, settings = _settings(folder)
    number = settings.get("resample", next(key for key, name in RESAMPLES.items() if name == default))
    if not isinstance(number, int) or isinstance(number, bool) or number not in RESAMPLES:
        known = ", ".join(f"{key} ({name})" for key, name in RESAMPLES.items())
        raise UserError(f"{path}: resample is {number!r}, only {known} are supported")
    return RESAMPLES[number]


def _settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    shared, own = folder / "processor_config.json", folder / "preprocessor_config.json"
    if shared.is_file():
        nested = read_json(shared).get("image_processor")
        if isinstance(nested, dict):
            return shared, nested
    return own, read_json(own) if own.is_file() else {}


def _channels(path: Path, settings: dict[str, Any], name: str, default: Channels, above: float = -math.inf) -> Channels:
    if name not in settings:
        return default
    value = settings[name]
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3 or not all(_is_number(each) and above < each < math.inf for each in values):
        limit = "finite numbers" if above == -math.inf else f"numbers greater than {above:g}"
        raise UserError(f"{path}: {name} is {value!r}, it must be three {limit}")
    red, green, blue = (float(each) for each in values)
    return red, green, blue


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
