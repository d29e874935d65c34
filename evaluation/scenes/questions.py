"""Questions that a scene answers without doubt."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from vlmp.evaluation.scenes.drawing import COLOURS, SHAPES, Split
from vlmp.evaluation.scenes.layout import SIDE, SPLITS, Item, Scene, make_scene, neighbour

Kind = Literal["digit", "colour", "exists", "count", "spatial", "code"]
KINDS: tuple[Kind, ...] = ("digit", "colour", "exists", "count", "spatial", "code")
PLACES = (("top left", "top", "top right"), ("left", "centre", "right"), ("bottom left", "bottom", "bottom right"))
"""Names of the ninths of a picture, [row][column]."""
CLEAR = 10
"""Pixels that a centre stays away from the borders between the ninths for its place to be beyond doubt."""
MOST = 4
"""The highest count that is asked for."""
ASKING = 1
"""Sets the stream that draws questions apart from the one that draws scenes."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its right answer."""

    kind: Kind
    text: str
    answer: str


def sample(split: Split, seed: int, count: int) -> Iterator[tuple[int, Scene, list[Question]]]:
    """Scenes by index with questions, `count` questions in all and as many of each kind, to within one."""
    quota = {kind: count // len(KINDS) + (index < count % len(KINDS)) for index, kind in enumerate(KINDS)}
    index = 0
    while any(quota.values()):
        scene = make_scene(split, seed, index)
        rng = np.random.default_rng([SPLITS[split], seed, index, ASKING])
        asked = [question for kind in KINDS if quota[kind] and (question := ask(scene, kind, rng))]
        for question in asked:
            quota[question.kind] -= 1
        if asked:
            yield index, scene, asked
        index += 1


def ask(scene: Scene, kind: Kind, rng: Generator) -> Question | None:
    """A question of this kind about the scene, None where it allows none without doubt."""
    drawn = {"digit": _digit, "colour": _colour, "exists": _exists, "count": _count, "spatial": _spatial, "code": _code}
    pair = drawn[kind](scene, rng)
    return Question(kind, *pair) if pair else None


def place(item: Item, side: int = SIDE) -> tuple[int, int] | None:
    """Row and column of the ninth that an item stands in, None where it is too close to a border to say."""
    cells = []
    for centre in reversed(item.centre):
        if min(abs(centre - side * border / 3) for border in (1, 2)) < CLEAR:
            return None
        cells.append(int(centre * 3 // side))
    return cells[0], cells[1]


def _digit(scene: Scene, rng: Generator) -> tuple[str, str] | None:
    singles = [item for item in scene.items if not item.is_shape and not item.is_code]
    places = [place(item) for item in singles]
    clear = [(item, at) for item, at in zip(singles, places, strict=True) if at and places.count(at) == 1]
    if not clear or None in places:
        return None
    item, (row, column) = clear[rng.integers(len(clear))]
    return f"{_pick(rng, 'Which digit', 'What number')} is at the {PLACES[row][column]}?", item.text


def _colour(scene: Scene, rng: Generator) -> tuple[str, str] | None:
    unique = _unique(scene)
    if not unique:
        return None
    item = unique[rng.integers(len(unique))]
    return f"What {_pick(rng, 'colour', 'color')} is the {item.text}?", str(item.colour)


def _exists(scene: Scene, rng: Generator) -> tuple[str, str] | None:
    pairs = {(item.colour, item.text) for item in scene.items if item.colour}
    if not pairs:
        return None
    if rng.random() < 0.5:
        colour, shape = sorted(pairs)[rng.integers(len(pairs))]
        return f"Is there {_a(colour)} {shape}?", "yes"
    # Both words are there, but not on one thing: the absence that is hardest to see.
    crossed = {(colour, shape) for colour, _ in pairs for _, shape in pairs} - pairs
    every = {(colour, shape) for colour in COLOURS for shape in SHAPES} - pairs
    choices = sorted(crossed if crossed and rng.random() < 0.7 else every)
    colour, shape = choices[rng.integers(len(choices))]
    return f"Is there {_a(colour)} {shape}?", "no"


def _count(scene: Scene, rng: Generator) -> tuple[str, str] | None:
    shapes = Counter(item.text for item in scene.items if item.is_shape)
    colours = Counter(item.colour for item in scene.items if item.is_shape)
    counts = {f"{shape}es" if shape == "cross" else f"{shape}s": shapes[shape] for shape in SHAPES}
    counts |= {f"{colour} shapes": colours[colour] for colour in COLOURS}
    counts["shapes"] = shapes.total()
    # Every count equally often, as far as the scene has it.
    answers = sorted({count for count in counts.values() if count <= MOST})
    answer = answers[rng.integers(len(answers))]
    names = [name for name, count in counts.items() if count == answer]
    return f"How many {names[rng.integers(len(names))]} are there?", str(answer)


def _spatial(scene: Scene, rng: Generator) -> tuple[str, str] | None:
    sides: tuple[tuple[Literal["left", "above"], str], ...] = (("left", "left of"), ("above", "above"))
    pairs = [
        (f"What is {name} the {item.text}?", other.text)
        for item in _unique(scene)
        for side, name in sides
        if (other := neighbour(scene.items, item, side)) and not other.is_code
    ]
    return pairs[rng.integers(len(pairs))] if pairs else None


def _code(scene: Scene, rng: Generator) -> tuple[str, str] | None:
    codes = [item.text for item in scene.items if item.is_code]
    return (_pick(rng, "What is the code?", "Read the code."), codes[0]) if len(codes) == 1 else None


def _unique(scene: Scene) -> list[Item]:
    """Shapes that are the only ones of their name."""
    names = Counter(item.text for item in scene.items if item.is_shape)
    return [item for item in scene.items if item.is_shape and names[item.text] == 1]


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _pick(rng: Generator, *texts: str) -> str:
    return texts[rng.integers(len(texts))]
