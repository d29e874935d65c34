"""Named quantization presets."""

from vlmp.export.errors import UserError

PRESETS: dict[str, str] = {"none": "weights in the precision of the export"}
"""Preset name -> what it does."""


def check_preset(name: str) -> None:
    """Raises UserError listing the choices when there is no such preset."""
    if name not in PRESETS:
        raise UserError(f"unknown quantization {name!r}: choose one of {', '.join(PRESETS)}")
