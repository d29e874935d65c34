"""A photo file becomes the input of `vision`: RGB, upright, fitted to the bundle's size."""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.manifest import ImageSpec
from vlmp.runtimes.console.streams import is_url

MAX_PIXELS = 100_000_000
MOST_ASPECT = 200
"""The longer side of a picture to the shorter one."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what makes it upright."""


def open_image(source: "Image.Image | Path | str") -> Image.Image:
    """An upright RGB image: rotated by EXIF, alpha over white, CMYK and 16-bit converted.

    Raises UserError when it cannot be read, exceeds 100 megapixels, or has a side more than 200 times the other.
    """
    if isinstance(source, Image.Image):
        check_shape(source.size, "the image")
        # Loading a picture forgets how its samples are stored, and the caller may ask about it again.
        if isinstance(source, PngImageFile) and source.tile and "transparency" in source.info:
            source = _once_more(source)
        return to_rgb(source)
    if is_url(str(source)):
        raise UserError(f"image {source} is a URL: download it first")
    path = Path(source)
    if not path.is_file():
        raise UserError(f"image {path} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of damaged EXIF blocks
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UserError(
                        f"image {path} has {width} x {height} pixels: at most {MAX_PIXELS // 10**6} megapixels are read"
                    )
                check_shape(image.size, f"image {path}")
                return to_rgb(image)
    except Image.DecompressionBombError:
        raise UserError(f"image {path} is too large: at most {MAX_PIXELS // 10**6} megapixels are read") from None
    except UnidentifiedImageError:
        raise UserError(f"image {path} is not in a format that Pillow reads (JPEG, PNG, WebP, ...)") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        raise UserError(f"image {path} cannot be read: {one_line(error)}") from None


def check_shape(size: tuple[int, int], name: str) -> None:
    """Raises UserError for a picture (width, height) of which hardly anything would be seen, as transformers does."""
    width, height = size
    if max(size) > MOST_ASPECT * min(size):
        raise UserError(
            f"{name} has {width} x {height} pixels: one side may be at most {MOST_ASPECT} times as long as the other"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture, upright, as 8-bit RGB."""
    clear = _clear_pixels(image)
    image.load()
    turn = TURNS.get(_orientation(image))
    if _is_wide_grey(image):
        rgb = _wide_grey(image)
    elif clear is None and (image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info):
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        rgb = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    else:
        rgb = image.convert("RGB")
    if clear is not None:
        rgb.paste((255, 255, 255), mask=Image.fromarray(clear))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Which way up, from 1 to 8, as EXIF or XMP has it.

    Pillow's own `exif_transpose` also writes the EXIF block anew, and fails on some that it can read.
    """
    try:
        told = image.getexif().get(0x0112, 1)
        return next((known for known in TURNS if known == told), 1)
    except Exception:  # of many kinds; a damaged EXIF block says nothing, and the picture is there
        return 1


def _clear_pixels(image: Image.Image) -> NDArray[np.bool_] | None:
    """Where a PNG's clear colour (tRNS) stands, [height, width], in files of which Pillow takes it for another colour.

    It is written in samples as the file has them, and Pillow compares it with samples that have become 8 bits. None for
    all others. A picture tells how it was stored until it is loaded; then its file is opened once more, if it is there.
    """
    colour = image.info.get("transparency")
    if colour is None:
        return None
    if isinstance(image, PngImageFile) and not image.tile:
        return _clear_pixels_of_file(image)
    stored = str(image.tile[0].args) if isinstance(image, PngImageFile) else image.mode
    if stored.startswith("I;16"):
        return np.asarray(np.asarray(image) == colour)
    if stored in ("L;2", "L;4"):
        top = 2 ** int(stored[-1]) - 1
        return np.asarray(np.asarray(image) == (colour & top) * (255 // top))
    if stored == "RGB;16B" and isinstance(image, PngImageFile):
        return np.asarray((_wide_colour(image) == colour).all(axis=2))
    return None


def _clear_pixels_of_file(loaded: PngImageFile) -> NDArray[np.bool_] | None:
    """The same of a picture that has been loaded. None where it has no file, or none that can be read again."""
    if not loaded.filename:
        return None
    try:
        with Image.open(loaded.filename) as again:
            same = isinstance(again, PngImageFile) and (again.size, again.info.get("transparency")) == (
                loaded.size, loaded.info.get("transparency")
            )  # fmt: skip
            return _clear_pixels(again) if same else None
    except (OSError, ValueError):
        return None


def _wide_colour(image: PngImageFile) -> NDArray[np.uint16]:
    """Samples of a PNG of 16-bit RGB, [height, width, 3].

    Pillow drops the low bytes. They are to be had in a second reading, as the high ones of the other byte order.
    """
    twin = _once_more(image)
    twin.tile = [twin.tile[0]._replace(args="RGB;16L")]
    return np.asarray(image, np.uint16) * np.uint16(256) + np.asarray(twin, np.uint16)


def _once_more(image: PngImageFile) -> PngImageFile:
    """The file of a picture that is not loaded yet, opened from its first byte; `image` stays as it is."""
    assert image.fp is not None
    place = image.fp.tell()
    image.fp.seek(0)
    twin = Image.open(io.BytesIO(image.fp.read()))
    image.fp.seek(place)
    assert isinstance(twin, PngImageFile)
    return twin


def _is_wide_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _wide_grey(image: Image.Image) -> Image.Image:
    """16-bit and float grey: Pillow's own conversion would clip at 255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    brightest = values.max()
    top = 65535.0
    if not image.mode.startswith("I;16"):  # The other modes do not tell which number is white.
        top = 1.0 if image.mode == "F" and brightest <= 1 else 255.0 if brightest <= 255 else top
    return Image.fromarray(np.clip(values * (255 / top), 0, 255).round().astype(np.uint8)).convert("RGB")


def fit(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Resize to the bundle's size, with bars of `pad_rgb` where the aspect ratio differs and fit is `pad`."""
    size, resample = (spec.width, spec.height), Image.Resampling[spec.resample.upper()]
    if spec.fit == "stretch" or image.width * spec.height == image.height * spec.width:
        return image if image.size == size else image.resize(size, resample)
    width, height, left, top = placement(image.size, spec)
    canvas = Image.new("RGB", size, spec.pad_rgb)
    canvas.paste(image.resize((width, height), resample), (left, top))
    return canvas


def placement(photo: tuple[int, int], spec: ImageSpec) -> tuple[int, int, int, int]:
    """Where a photo (width, height) lies in the model's picture: width, height, left, top in pixels."""
    if spec.fit == "stretch":
        return spec.width, spec.height, 0, 0
    scale = min(spec.width / photo[0], spec.height / photo[1])
    width = max(1, min(spec.width, round(photo[0] * scale)))
    height = max(1, min(spec.height, round(photo[1] * scale)))
    return width, height, (spec.width - width) // 2, (spec.height - height) // 2


def to_pixels(image: Image.Image, spec: ImageSpec) -> NDArray[np.float32]:
    """float32 [1, 3, height, width], values 0..255. Raises UserError as `check_shape`."""
    check_shape(image.size, "the image")
    pixels = np.asarray(fit(image, spec), dtype=np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
