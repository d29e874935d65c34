"""Kept visual tokens over the photo, so that a person can see what the model still sees."""

import colorsys
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import ImageSpec
from vlmp.runtimes.bundle.writing import write_whole
from vlmp.runtimes.image import fit

MIN_CELL_PX = 36
"""Cells are enlarged to at least this, so that numbers are readable."""


def draw_kept(image: Image.Image, spec: ImageSpec, order_S: NDArray[np.generic]) -> Image.Image:
    """The picture as the model gets it; kept cells bright, numbered in the order of selection, the others dimmed.

    image: RGB photo of any size. order_S: visual token indices, row major on `spec.grid`. Returns RGB.
    """
    rows, columns = spec.grid
    enlarge = max(1, -(-MIN_CELL_PX * rows // spec.height))
    cell_width, cell_height = spec.width * enlarge // columns, spec.height * enlarge // rows
    photo = fit(image, spec).resize((cell_width * columns, cell_height * rows), Image.Resampling.BICUBIC)
    canvas = Image.blend(photo.convert("L").convert("RGB"), Image.new("RGB", photo.size), 0.55)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(10, cell_height // 3))
    for place, token in enumerate(int(token) for token in order_S):
        left, top = token % columns * cell_width, token // columns * cell_height
        box = (left, top, left + cell_width, top + cell_height)
        canvas.paste(photo.crop(box), (left, top))
        colour = _colour(place / max(1, len(order_S) - 1))
        pen.rectangle((left, top, left + cell_width - 1, top + cell_height - 1), outline=colour, width=max(1, enlarge))
        pen.text((left + 3, top + 1), str(place + 1), fill=colour, font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    return canvas


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
