"""What a scene is drawn from: photographs, handwritten digits, shapes, clutter."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Split = Literal["train", "validation", "test"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 30, 36), "orange": (245, 135, 20), "yellow": (245, 222, 40), "green": (36, 160, 60),
    "blue": (36, 80, 214), "purple": (140, 50, 170), "white": (246, 246, 246), "black": (16, 16, 16),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
# Contiguous, because neighbouring digits of the data set come from the same writer.
DIGIT_RANGES: dict[Split, slice] = {"train": slice(0, 1200), "validation": slice(1200, 1397), "test": slice(1397, 1797)}
OVERSAMPLING = 3
EDGE = 5
"""Diameter in pixels of the filter that cuts a shape's edge off it: the edge is half as wide."""


@cache
def photos(split: Split) -> list[Image.Image]:
    """The background photographs of a split, RGB."""
    files = sorted((Path(__file__).parent / "photos").glob(f"{split}-*.jpg"))
    return [Image.open(file).convert("RGB") for file in files]


@cache
def digits(split: Split) -> list[NDArray[np.uint8]]:
    """For each value 0..9 the ink of that split's samples, uint8 [samples, 8, 8] in 0..255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    ink = (data.images[DIGIT_RANGES[split]] * (255 / 16)).astype(np.uint8)
    return [ink[data.target[DIGIT_RANGES[split]] == value] for value in range(10)]


def draw_background(split: Split, side: int, rng: Generator) -> Image.Image:
    """A random crop of a photograph, flipped, turned, brightened and blurred at random; RGB, side x side.

    The split `train` has few photographs for a model to learn from: its strange colours, and pieces of one photograph
    in another, keep the model from taking every unknown outline for a shape.
    """
    image = _crop(split, side, rng)
    if split == "train":
        if rng.random() < 0.6:
            image = Image.merge("RGB", [image.getchannel(int(channel)) for channel in rng.permutation(3)])
            image = ImageOps.invert(image) if rng.random() < 0.3 else image
        if rng.random() < 0.6:
            image.paste(_crop(split, side, rng), mask=_pieces(side, rng))
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.6, 1.3)))
    return ImageEnhance.Color(image).enhance(float(rng.uniform(0.2, 1.3)))


def _crop(split: Split, side: int, rng: Generator) -> Image.Image:
    """A random square of a photograph of the split, flipped, turned and perhaps blurred."""
    photo = photos(split)[rng.integers(len(photos(split)))]
    crop = int(min(photo.size) * rng.uniform(0.4, 1.0) * min(1.0, side / 250))
    left, top = (int(rng.integers(0, length - crop + 1)) for length in photo.size)
    image = photo.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + crop, top + crop))
    if turn := rng.integers(8):
        image = image.transpose(Image.Transpose(int(turn) - 1))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.5, 3))))
    return image


def _pieces(side: int, rng: Generator) -> Image.Image:
    """A mask of one to six ellipses and polygons of any size and form, more or less opaque."""
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for _ in range(rng.integers(1, 7)):
        opaque, x, y = int(rng.integers(100, 256)), *rng.uniform(0, side, 2)
        width, height = rng.uniform(15, 90, 2)
        if rng.random() < 0.4:
            pen.ellipse((x - width, y - height, x + width, y + height), opaque)
        else:
            angle_n = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            pen.polygon([(x + width * np.cos(angle), y + height * np.sin(angle)) for angle in angle_n], opaque)
    return mask


def draw_clutter(image: Image.Image, rng: Generator) -> None:
    """A few thin strokes and small dots: too thin and too small for a shape."""
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 9)):
        ink = tuple(int(value) for value in rng.integers(0, 256, 3))
        x, y = rng.uniform(0, image.width, 2)
        if rng.random() < 0.5:
            dx, dy = rng.uniform(-60, 60, 2)
            pen.line((x, y, x + dx, y + dy), ink, int(rng.integers(1, 4)))
        else:
            radius = rng.uniform(2, 6)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), ink)


def draw_shape(image: Image.Image, shape: str, colour: str, box: Box, rng: Generator) -> None:
    """Paint one shape that fills `box`, in a shade of `colour`, with a thin darker or lighter edge."""
    left, top, right, _ = box
    size = round(right - left)
    canvas = size * OVERSAMPLING
    mask = Image.new("L", (canvas, canvas))
    pen = ImageDraw.Draw(mask)
    middle, radius = canvas / 2, canvas / 2 - 1
    match shape:
        case "circle":
            pen.ellipse((1, 1, canvas - 2, canvas - 2), 255)
        case "ring":
            pen.ellipse((1, 1, canvas - 2, canvas - 2), 255)
            inner = radius * rng.uniform(0.5, 0.62)
            pen.ellipse((middle - inner, middle - inner, middle + inner, middle + inner), 0)
        case "square":
            edge = canvas * 0.06
            pen.rectangle((edge, edge, canvas - edge, canvas - edge), 255)
        case "cross":
            arm = canvas * rng.uniform(0.13, 0.17)
            pen.rectangle((middle - arm, 1, middle + arm, canvas - 2), 255)
            pen.rectangle((1, middle - arm, canvas - 2, middle + arm), 255)
        case "triangle":
            pen.polygon(_points([1.0] * 3, middle, radius * 1.08), 255)
        case "star":
            pen.polygon(_points([1.0, 0.42] * 5, middle, radius), 255)
        case _:
            raise ValueError(f"unknown shape {shape!r}: choose one of {', '.join(SHAPES)}")
    mask = mask.rotate(float(rng.uniform(-9, 9)), Image.Resampling.BILINEAR).resize((size, size), Image.Resampling.BOX)
    shade = rng.normal(0, 9, 3) + np.array(COLOURS[colour])
    # Black on black could not be seen: dark shapes have a lighter edge, the others a darker one.
    edge = shade + 110 if shade.mean() < 70 else shade * 0.55
    for ink, part in ((edge, mask), (shade, mask.filter(ImageFilter.MinFilter(EDGE)))):
        image.paste(tuple(int(value) for value in np.clip(ink, 0, 255)), (round(left), round(top)), part)


def _points(radii: Sequence[float], middle: float, radius: float) -> list[tuple[float, float]]:
    """Corners of a polygon around `middle`, the first one on top."""
    angle_n = np.arange(len(radii)) * 2 * np.pi / len(radii) - np.pi / 2
    return [
        (middle + radius * share * np.cos(angle), middle + radius * share * np.sin(angle))
        for share, angle in zip(radii, angle_n, strict=True)
    ]


def draw_sticker(image: Image.Image, box: Box, rng: Generator) -> None:
    """A light piece of paper that digits are written on."""
    paper = tuple(int(value) for value in rng.integers(205, 256) - rng.integers(0, 26, 3))
    ImageDraw.Draw(image).rounded_rectangle(box, 5, paper)


def draw_digit(image: Image.Image, split: Split, value: int, box: Box, rng: Generator) -> None:
    """Write one handwritten digit into `box` with dark ink."""
    samples = digits(split)[value]
    ink = Image.fromarray(samples[rng.integers(len(samples))])
    left, top, right, bottom = (round(edge) for edge in box)
    mask = ink.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    mask = mask.rotate(float(rng.uniform(-8, 8)), Image.Resampling.BILINEAR)
    colour = tuple(int(value) for value in rng.integers(0, 80, 3))
    image.paste(colour, (left, top), mask.point([min(255, round(level * 1.25)) for level in range(256)]))
