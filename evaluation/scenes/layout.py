"""Where things stand in a scene, and a scene drawn."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from PIL import Image
from vlmp.evaluation.scenes.drawing import (
    COLOURS,
    SHAPES,
    Box,
    Split,
    draw_background,
    draw_clutter,
    draw_digit,
    draw_shape,
    draw_sticker,
)

SIDE = 336
"""Pixels of a scene's edge."""
MARGIN = 6
"""Pixels that stay free around an item, and between a digit and the edge of its sticker."""
LEVEL = 40
"""Two items are on one level when their centres differ by at most this many pixels."""
TRIES = 20
"""Places tried for an item before it is left out."""
SPLITS: dict[Split, int] = {"train": 1, "validation": 2, "test": 3}
"""The first number of every seed: no two splits draw from one stream."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a scene: a shape with its colour, or a sticker with the digits of `text` on it."""

    text: str
    colour: str | None
    box: Box
    cells: tuple[Box, ...]
    """Where each digit stands; for a shape its box."""

    def moved(self, x: float, y: float) -> "Item":
        """The same item, x to the right and y further down."""
        box, *cells = ((a + x, b + y, c + x, d + y) for a, b, c, d in (self.box, *self.cells))
        return Item(self.text, self.colour, box, tuple(cells))

    @property
    def is_shape(self) -> bool:
        """Whether it is a coloured shape."""
        return self.colour is not None

    @property
    def is_code(self) -> bool:
        """Whether it is a sticker with several digits."""
        return not self.is_shape and len(self.text) > 1

    @property
    def centre(self) -> tuple[float, float]:
        """x and y in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is in it."""

    image: Image.Image
    items: tuple[Item, ...]


def make_scene(split: Split, seed: int, index: int, *, side: int = SIDE, crowd: bool = False) -> Scene:
    """Scene `index` of the stream `seed` of a split. crowd: rows of digits and shapes instead of free places."""
    rng = np.random.default_rng([SPLITS[split], seed, index, side, crowd])
    image = draw_background(split, side, rng)
    draw_clutter(image, rng)
    items = place_crowd(side, rng) if crowd else place_items(side, rng)
    for item in items:
        if item.colour is not None:
            draw_shape(image, item.text, item.colour, item.box, rng)
            continue
        draw_sticker(image, item.box, rng)
        for value, cell in zip(item.text, item.cells, strict=True):
            draw_digit(image, split, int(value), cell, rng)
    return Scene(image, tuple(items))


def place_items(side: int, rng: Generator) -> list[Item]:
    """Three to seven items at free places; often two of a kind, and often one beside or above another."""
    items: list[Item] = []
    if rng.random() < 0.6:
        _place(items, _code(rng), side, rng)
    for _ in range(rng.integers(0, 4)):
        _place(items, _digit(rng), side, rng)
    for _ in range(rng.integers(2, 6)):
        shapes = [item.text for item in items if item.is_shape]
        repeat = shapes and rng.random() < 0.45
        _place(items, _shape(rng, str(rng.choice(shapes)) if repeat else None), side, rng)
    return items


def place_crowd(side: int, rng: Generator) -> list[Item]:
    """Rows of items, packed tightly and mostly digits: many labels a picture, to learn to see from."""
    items: list[Item] = []
    top = float(rng.integers(0, 2 * MARGIN))
    while top < side:
        row, left = [], float(rng.integers(0, 4 * MARGIN))
        while left < side:
            kind = rng.random()
            item = _code(rng) if kind < 0.2 else _digit(rng) if kind < 0.75 else _shape(rng)
            row.append(item.moved(left, top + float(rng.integers(0, 2 * MARGIN))))
            left = row[-1].box[2] + float(rng.integers(1, 2 * MARGIN))
        row = [item for item in row if item.box[2] <= side and item.box[3] <= side]
        items += row
        top = max((item.box[3] for item in row), default=side) + 1
    return items


def neighbour(items: tuple[Item, ...], item: Item, side: Literal["left", "above"]) -> Item | None:
    """The nearest item on the left of or above `item`, None where there is none or where one could argue."""
    along = 0 if side == "left" else 1
    near = _on_side(items, item, side)
    level = sorted((gap, other.box, other) for gap, offset, other in near if offset <= LEVEL)
    if not level or level[0][2].box[2 + along] > item.box[along]:
        return None
    gap, _, nearest = level[0]
    slanted = any(LEVEL < offset <= 2 * LEVEL and other_gap < gap + LEVEL for other_gap, offset, other in near)
    return None if slanted else nearest


def is_alone(items: tuple[Item, ...], item: Item, side: Literal["left", "above"]) -> bool:
    """Whether beyond doubt nothing is on the left of or above `item`."""
    return all(offset > 2 * LEVEL for _, offset, _ in _on_side(items, item, side))


def _on_side(items: tuple[Item, ...], item: Item, side: Literal["left", "above"]) -> list[tuple[float, float, Item]]:
    """What is further left (above): distance, how far it is off the level, and the item."""
    along, across = (0, 1) if side == "left" else (1, 0)
    return [
        (item.centre[along] - other.centre[along], abs(item.centre[across] - other.centre[across]), other)
        for other in items
        if other is not item and other.centre[along] < item.centre[along] - MARGIN
    ]


def _shape(rng: Generator, shape: str | None = None) -> Item:
    size = float(rng.integers(48, 85))
    box = (0.0, 0.0, size, size)
    return Item(shape or str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS))), box, (box,))


def _digit(rng: Generator) -> Item:
    return _sticker(str(rng.integers(10)), float(rng.integers(44, 63)), rng)


def _code(rng: Generator) -> Item:
    return _sticker("".join(map(str, rng.integers(0, 10, rng.integers(2, 5)))), float(rng.integers(40, 53)), rng)


def _sticker(text: str, height: float, rng: Generator) -> Item:
    width = float(round(height * rng.uniform(0.78, 0.95)))
    cells = tuple(
        (MARGIN + i * width, float(MARGIN), MARGIN + (i + 1) * width, MARGIN + height) for i in range(len(text))
    )
    return Item(text, None, (0.0, 0.0, 2 * MARGIN + len(text) * width, 2 * MARGIN + height), cells)


def _place(items: list[Item], item: Item, side: int, rng: Generator) -> None:
    """Add `item` at a free place; after some tries in vain it is left out."""
    width, height = item.box[2:]
    if width >= side or height >= side:
        return
    for attempt in range(TRIES):
        x, y = (int(rng.integers(0, int(side - length) + 1)) for length in (width, height))
        if items and attempt < 6 and rng.random() < 0.4:  # on a level with an item that is there
            other = items[rng.integers(len(items))].centre
            shift = float(rng.uniform(-LEVEL / 2, LEVEL / 2))
            if rng.random() < 0.5:
                y = int(np.clip(other[1] - height / 2 + shift, 0, side - height))
            else:
                x = int(np.clip(other[0] - width / 2 + shift, 0, side - width))
        moved = item.moved(x, y)
        if not any(_overlap(moved.box, other.box) for other in items):
            items.append(moved)
            return


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] + MARGIN and b[0] < a[2] + MARGIN and a[1] < b[3] + MARGIN and b[1] < a[3] + MARGIN
