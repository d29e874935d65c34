"""Kept visual tokens over the photo, so that a person can see what the model still sees."""

import colorsys
from collections.abc import Sequence
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import ImageSpec, ShapeSpec
from vlmp.runtimes.bundle.writing import write_whole
from vlmp.runtimes.image import fit

MIN_CELL_PX = 36
"""Cells are enlarged to at least this, so that numbers are readable."""
DIMMED = 0.55
"""How dark what is dropped first is; what later stages drop is brighter, stage by stage."""
FRAME = (150, 150, 150)
"""Around what a stage has kept and the next one drops."""


def draw_kept(
    image: Image.Image, spec: ImageSpec, order_S: NDArray[np.generic], earlier: Sequence[NDArray[np.generic]] = ()
) -> Image.Image:
    """The picture as the model gets it; kept cells bright, numbered in the order of selection, the others dimmed.

    image: RGB photo of any size. order_S: visual token indices, as `spec.segments` places them. earlier: the indices
    that each stage before the last has kept; what one keeps and the next drops is grey, dimmed the less the later it
    is dropped, and has a thin frame. Returns RGB.
    """
    lowest = min((bottom - top) / rows for rows, (_, top, _, bottom) in ((s.rows, s.box) for s in spec.segments))
    enlarge = max(1, ceil(MIN_CELL_PX / lowest))
    photo = fit(image, spec).resize((spec.width * enlarge, spec.height * enlarge), Image.Resampling.BICUBIC)
    grey, black = photo.convert("L").convert("RGB"), Image.new("RGB", photo.size)
    canvas = Image.blend(grey, black, DIMMED)
    for stage, kept in enumerate(earlier, 1):
        seen = Image.blend(grey, black, DIMMED * (1 - stage / (len(earlier) + 1)))
        frame = ImageDraw.Draw(seen)
        for token in kept:
            if (box := _enlarged(token_box(spec, int(token)), enlarge)) is not None:
                left, top, right, bottom = box
                frame.rectangle((left, top, right - 1, bottom - 1), outline=FRAME)
                canvas.paste(seen.crop(box), (left, top))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(10, int(lowest * enlarge) // 3))
    for place, token in enumerate(int(token) for token in order_S):
        box = _enlarged(token_box(spec, token), enlarge)
        if box is None:  # it stands for no part of the picture
            continue
        left, top, right, bottom = box
        canvas.paste(photo.crop(box), (left, top))
        colour = _colour(place / max(1, len(order_S) - 1))
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=max(1, enlarge))
        pen.text((left + 3, top + 1), str(place + 1), fill=colour, font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    return canvas


def shown(
    shape: ShapeSpec, order_S: NDArray[np.generic], stages: Sequence[NDArray[np.generic]]
) -> tuple[NDArray[np.generic], Sequence[NDArray[np.generic]]]:
    """What `draw_kept` takes of what prefill tells: of stages that choose, where others keep all that come.

    After a stage in the vision tower alone, that is what went through all of it, ascending.
    """
    chosen = [kept for stage, kept in zip(shape.stages, stages, strict=True) if stage.pruner != "none"]
    if not chosen or len(chosen) == len(stages):
        return order_S, stages[:-1]
    return chosen[-1], chosen[:-1]


def token_box(spec: ImageSpec, token: int) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom of a visual token in pixels of the fitted picture, None where it has no place in it."""
    for segment in spec.segments:
        cell = segment.cell(token)
        if cell is not None:
            left, top, right, bottom = segment.box
            width, height = (right - left) / segment.columns, (bottom - top) / segment.rows
            row, column = cell
            return left + column * width, top + row * height, left + (column + 1) * width, top + (row + 1) * height
    return None


def _enlarged(box: tuple[float, float, float, float] | None, times: int) -> tuple[int, int, int, int] | None:
    if box is None:
        return None
    left, top, right, bottom = (round(side * times) for side in box)
    return left, top, right, bottom


def check_can_save(path: Path) -> str:
    """Pillow's name of the format that a file's name ends with. Raises UserError when no picture can be saved there."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"cannot write {path}: unknown file extension {path.suffix!r}, choose .png or .jpg")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")
    return kind


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format that its name ends with; an earlier file stays until the new one is complete.

    Raises UserError when it cannot be written.
    """
    kind, content = check_can_save(path), BytesIO()
    picture.save(content, kind)
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _colour(share: float) -> tuple[int, int, int]:
    """From yellow (selected first) over red to violet (last)."""
    red, green, blue = colorsys.hsv_to_rgb((0.16 - 0.4 * share) % 1.0, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
