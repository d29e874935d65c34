"""Pictures to learn from, with the labels of their visual tokens and questions about them."""

import hashlib
import json
import os
from functools import cache, partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
import vlmp.evaluation.scenes
from numpy.typing import NDArray
from torch import Tensor
from vlmp.evaluation.scenes import KINDS, SIDE, Scene, ask, make_scene
from vlmp.evaluation.scenes.drawing import Split
from vlmp.evaluation.scenes.labels import NOTHING, SIZES, TOKEN, token_labels

CROWD_SIDE = 224
Asked = tuple[str, str, str]
"""Kind, question, answer."""


class Pictures:
    """Pictures of a split, drawn once with all cores and kept in files: drawing beside training slows both down."""

    def __init__(self, work: Path, split: Split, seed: int, count: int, *, crowd: bool) -> None:
        name = f"{split}-{seed}-{count}-{'crowd' if crowd else 'scene'}-{drawing_code()}"
        side = CROWD_SIDE if crowd else SIDE
        tokens = (side // TOKEN) ** 2
        files = work / f"{name}.pixels", work / f"{name}.labels", work / f"{name}.json"
        if not files[-1].exists():
            pixels = np.memmap(files[0], np.uint8, "w+", shape=(count, 3, side, side))
            labels = np.memmap(files[1], np.int8, "w+", shape=(count, len(SIZES), tokens))
            asked = []
            with Pool(os.cpu_count()) as pool:
                draw = partial(draw_picture, split=split, seed=seed, crowd=crowd)
                for index, drawn in enumerate(pool.imap(draw, range(count), chunksize=16)):
                    pixels[index], labels[index] = drawn[:2]
                    asked.append(drawn[2])
            files[-1].write_text(json.dumps(asked))
        self.pixels = np.memmap(files[0], np.uint8, "r", shape=(count, 3, side, side))
        self.labels = np.memmap(files[1], np.int8, "r", shape=(count, len(SIZES), tokens))
        self.asked: list[list[Asked]] = json.loads(files[-1].read_text())

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, index_B: NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
        """uint8 [B, 3, H, W] and labels by name, int64 [B, N]."""
        labels_BLN = torch.from_numpy(self.labels[index_B].astype(np.int64))
        labels_BLN[labels_BLN < 0] = NOTHING
        return torch.from_numpy(self.pixels[index_B]), dict(zip(SIZES, labels_BLN.unbind(1), strict=True))


@cache
def drawing_code() -> str:
    """A digest of what draws pictures and asks about them: files drawn by other code are not taken for these."""
    folder = Path(vlmp.evaluation.scenes.__file__).parent
    files = sorted([*folder.glob("*.py"), *folder.glob("photos/*.jpg"), Path(__file__)])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def draw_picture(
    index: int, split: Split, seed: int, crowd: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int8], list[Asked]]:
    """Pixels [3, H, W], labels [kinds, N] with -1 for none, and questions of one picture."""
    scene = make_scene(split, seed, index, side=CROWD_SIDE if crowd else SIDE, crowd=crowd)
    labels = token_labels(scene)
    if crowd:  # a crowd says nothing about places, and its rows touch
        for name in ("row", "column", "left", "above", "centre"):
            labels[name].fill(-1)
    pixels = np.asarray(scene.image).transpose(2, 0, 1)
    asked = [] if crowd else questions(scene, np.random.default_rng([seed, index]))
    return pixels, np.clip(np.stack(list(labels.values())), -1, None).astype(np.int8), asked


def questions(scene: Scene, rng: np.random.Generator) -> list[Asked]:
    """Distinct questions of all kinds, (kind, question, answer), and at the end one for all that is there."""
    drawn = [ask(scene, kind, rng) for kind in KINDS for _ in range(4)]
    names = {item: f"{item.colour} {item.text}" if item.is_shape else item.text for item in scene.items}
    names |= {item: f"code {item.text}" for item in scene.items if item.is_code}
    in_order = sorted(scene.items, key=lambda item: (item.centre[1] * 3 // SIDE, item.centre[0]))
    everything = ", ".join(names[item] for item in in_order)
    asked = sorted({(question.kind, question.text, question.answer) for question in drawn if question})
    return [*asked, ("list", "List the objects.", everything)]
