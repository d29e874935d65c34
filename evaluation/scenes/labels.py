"""What each visual token of a scene shows: targets to learn to see from."""

import numpy as np
from numpy.typing import NDArray
from vlmp.evaluation.scenes.drawing import COLOURS, SHAPES, Box
from vlmp.evaluation.scenes.layout import SIDE, Item, Scene, is_alone, neighbour
from vlmp.evaluation.scenes.questions import place

TOKEN = 28
"""Pixels of a visual token's edge (14-pixel patches, merged 2 x 2)."""
NOTHING = -100
"""Where a token has no target; the value that cross entropy ignores."""
OBJECTS = (*(str(value) for value in range(10)), *SHAPES, "background")
COLOUR_NAMES = tuple(COLOURS)
CODE_PLACES = 5
"""A digit that stands alone, or the first to fourth of a code."""
NEIGHBOURS = (*OBJECTS[:-1], "none")
SIZES: dict[str, int] = {
    "object": len(OBJECTS), "colour": len(COLOUR_NAMES), "code": CODE_PLACES, "row": 3, "column": 3,
    "left": len(NEIGHBOURS), "above": len(NEIGHBOURS), "centre": 2,
}  # fmt: skip
"""Target -> number of classes."""
COVERED, FREE = 0.3, 0.06
"""A token shows a thing from this share of its area on, and background up to that one."""


def token_labels(scene: Scene) -> dict[str, NDArray[np.int64]]:
    """Target -> int64 [h * w], row major, `NOTHING` where there is no clear one."""
    rows, columns = scene.image.height // TOKEN, scene.image.width // TOKEN
    labels = {name: np.full((rows, columns), NOTHING) for name in SIZES}
    best, taken = np.zeros((rows, columns)), np.zeros((rows, columns))
    for item in scene.items:
        facts = _facts(scene, item)
        for number, (left, top, right, bottom) in enumerate(item.cells):
            share = np.outer(_shares(top, bottom, rows), _shares(left, right, columns))
            taken += share
            here = (share >= COVERED) & (share > best)
            best = np.maximum(best, share)
            for name, value in {**facts, **_of_cell(item, number)}.items():
                labels[name][here] = value
    labels["object"][taken <= FREE] = OBJECTS.index("background")
    labels["centre"][:] = 0
    for item in scene.items:
        column, row = (int(place // TOKEN) for place in item.centre)
        labels["centre"][row, column] = 1
    return {name: values.ravel() for name, values in labels.items()}


def covered(cell: Box, side: int = SIDE) -> NDArray[np.bool_]:
    """Which visual tokens of a square scene show what stands in `cell`. bool [h * w]."""
    left, top, right, bottom = cell
    tokens = side // TOKEN
    return np.outer(_shares(top, bottom, tokens), _shares(left, right, tokens)).ravel() >= COVERED


def _shares(low: float, high: float, tokens: int) -> NDArray[np.float64]:
    """How much of each token's extent along one axis lies between low and high."""
    edge = np.arange(tokens) * TOKEN
    return np.clip(np.minimum(high, edge + TOKEN) - np.maximum(low, edge), 0, None) / TOKEN


def _of_cell(item: Item, number: int) -> dict[str, int]:
    """Targets of one digit of a sticker, or of a shape."""
    if item.colour is not None:
        return {"object": OBJECTS.index(item.text), "colour": COLOUR_NAMES.index(item.colour)}
    return {"object": int(item.text[number]), "code": number + 1 if item.is_code else 0}


def _facts(scene: Scene, item: Item) -> dict[str, int]:
    """Targets that all tokens of an item share: where it is, and what is beside it."""
    at = place(item, scene.image.width)
    facts = {"row": at[0], "column": at[1]} if at else {"row": NOTHING, "column": NOTHING}
    for side in ("left", "above"):
        other = neighbour(scene.items, item, side)
        if other and not other.is_code:
            facts[side] = NEIGHBOURS.index(other.text)
        else:
            facts[side] = NEIGHBOURS.index("none") if is_alone(scene.items, item, side) else NOTHING
    return facts
