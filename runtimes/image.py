"""A photo file becomes the input of `vision`: RGB, upright, fitted to the bundle's size."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from vlmp.export.bundle import ImageSpec
from vlmp.export.errors import UserError, one_line

MAX_PIXELS = 100_000_000


def open_image(source: "Image.Image | Path | str") -> Image.Image:
    """An upright RGB image: rotated by EXIF, alpha over white, CMYK and 16-bit converted.

    Raises UserError when it cannot be read or exceeds 100 megapixels.
    """
    if isinstance(source, Image.Image):
        return to_rgb(source)
    path = Path(source)
    if not path.is_file():
        raise UserError(f"image {path} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UserError(
                        f"image {path} has {width} x {height} pixels: at most {MAX_PIXELS // 10**6} megapixels are read"
                    )
                return to_rgb(image)
    except Image.DecompressionBombError:
        raise UserError(f"image {path} is too large: at most {MAX_PIXELS // 10**6} megapixels are read") from None
    except UnidentifiedImageError:
        raise UserError(f"image {path} is not in a format that Pillow reads (JPEG, PNG, WebP, ...)") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        raise UserError(f"image {path} cannot be read: {one_line(error)}") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture, upright, as 8-bit RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _wide_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


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
    size = (spec.width, spec.height)
    if spec.fit == "stretch" or image.width * spec.height == image.height * spec.width:
        return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    width, height, left, top = placement(image.size, spec)
    canvas = Image.new("RGB", size, spec.pad_rgb)
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC), (left, top))
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
    """float32 [1, 3, height, width], values 0..255."""
    pixels = np.asarray(fit(image, spec), dtype=np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
