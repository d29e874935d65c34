"""A stage inside the vision tower: what it keeps, what comes of the others, and what the language model makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints
import torch
from cut_tower import CutTower
from PIL import Image
from reference import Original, write_other
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from vlmp.export.config import ExportConfig
from vlmp.export.eager import open_eager
from vlmp.export.pipeline import export
from vlmp.export.schedule import parse_schedule
from vlmp.pruner import build_pruner
from vlmp.runtimes import Chat
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.draw import shown
from vlmp.runtimes.image import to_pixels
from vlmp.runtimes.session import Seen, Session

ROOT = tiny_checkpoints.ROOT
TINY = ROOT / "export/assets/vlmp-tiny"
WRITERS = {
    "qwen2_vl": lambda folder: write_other(folder, TINY, seed=8, layers=4, blocks=3),
    **{name: lambda folder, write=tiny_checkpoints.WRITERS[name]: write(folder, 1) for name in
       ("qwen2_5_vl", "qwen3_vl", "llava")},
}  # fmt: skip
"""Without windows; with them; with features that branch off; with a class token."""
PLACE = {"qwen2_vl": 1, "qwen2_5_vl": 2, "qwen3_vl": 1, "llava": 1}
METHODS = ["local", "divprune", "random", "uniform", "dart,pivots=2", "fastv", "vlm-pruner"]


class Tried:
    """A tiny checkpoint, a photo, and both as transformers sees them."""

    def __init__(self, name: str, folder: Path) -> None:
        WRITERS[name](folder)
        self.name, self.original, self.block = name, Original.open(folder), PLACE[name]
        photo = Image.open(ROOT / "runtimes/assets/photo.jpg").convert("RGB")
        self.photo = photo.crop((100, 0, 100 + photo.height, photo.height)) if name == "llava" else photo
        self.inputs = self.original.inputs(self.photo, "What is it?")
        self.tower = CutTower(self.original, self.block, self.inputs)

    def chat(self, schedule: str, **settings: Any) -> Chat:
        return open_eager(self.config(schedule, **settings))

    def config(self, schedule: str, **settings: Any) -> ExportConfig:
        values: dict[str, Any] = dict(
            model=str(self.original.folder), targets=(), output=Path("unused"), image_fit="stretch", text_len=40,
            image_size=self.original.image_size(self.inputs), max_new_tokens=24, stages=parse_schedule(schedule),
        )  # fmt: skip
        return ExportConfig(**values | settings)

    def see(self, session: Session) -> Seen:
        return session.see(to_pixels(self.photo, session.manifest.shape.image))


@pytest.fixture(scope="module", params=WRITERS)
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    return Tried(request.param, tmp_path_factory.mktemp(request.param))


def close(found: Any, wanted: Any, limit: float = 2e-5) -> None:
    a, b = (np.asarray(each, np.float64) for each in (found, wanted))
    assert a.shape == b.shape
    assert np.abs(a - b).max() < limit * np.abs(b).max()


# --- The tower --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["rebuilt", "dropped"])
@pytest.mark.parametrize("weigh", [0, 1])
def test_a_cut_tower_equals_transformers_own(tried: Tried, form: str, weigh: int) -> None:
    seen = tried.see(tried.chat(f"vision.{tried.block}:0.4:local,weigh={weigh},form={form}").session)
    assert seen.places is not None
    places = torch.from_numpy(seen.places).long()
    assert places.tolist() == least_alike(tried.tower.looked_at()[0], tried.original.grid(tried.inputs), len(places))
    visual, log_S = tried.tower.seen(places, form, weigh=bool(weigh))
    close(seen.visual, visual)
    if weigh and form == "dropped":
        close(seen.bias, log_S)
    else:
        assert seen.bias is None


def least_alike(hidden_NE: Tensor, grid: tuple[int, int], count: int) -> list[int]:
    """The groups least like the mean of the up to eight around them."""
    likeness = [
        float(torch.cosine_similarity(hidden_NE[group], hidden_NE[around].mean(0), 0))
        for group, around in enumerate(neighbours(grid))
    ]
    return sorted(sorted(range(len(likeness)), key=likeness.__getitem__)[:count])


def neighbours(grid: tuple[int, int]) -> list[list[int]]:
    """Of each group the up to eight around it."""
    rows, columns = grid
    return [
        [
            y * columns + x
            for y in range(max(row - 1, 0), min(row + 2, rows))
            for x in range(max(column - 1, 0), min(column + 2, columns))
            if (y, x) != (row, column)
        ]
        for row in range(rows)
        for column in range(columns)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_chooses_by_what_the_block_before_left(tried: Tried, method: str) -> None:
    chat = tried.chat(f"vision.{tried.block}:0.5:{method},form=dropped")
    (stage, _), (own, *_) = chat.session.manifest.shape.stages, chat.session.methods["vision"].stage.children()  # type: ignore[attr-defined]
    found = tried.see(chat.session).places
    hidden_NE, keys_NE, attention_N = tried.tower.looked_at()
    grid = tried.original.grid(tried.inputs)
    wanted = build_pruner(stage.pruner, grid, own.config)(hidden_NE, keys_NE, attention_N).kept_S
    assert found is not None
    assert found.tolist() == wanted.tolist()


def test_contrast_looks_at_the_patches_of_each_group(tried: Tried) -> None:
    found = tried.see(tried.chat(f"vision.{tried.block}:0.5:contrast,form=dropped").session).places
    assert found is not None
    assert found.tolist() == standing_out(tried.tower.patches_at(), tried.original.grid(tried.inputs), len(found))


def standing_out(patches_NmE: Tensor, grid: tuple[int, int], count: int) -> list[int]:
    """The groups whose patches are farthest from the mean of the up to eight groups around them."""
    mean_NE = patches_NmE.double().mean(1)
    apart = [
        float((patches_NmE[group].double() - mean_NE[around].mean(0)).square().mean())
        for group, around in enumerate(neighbours(grid))
    ]
    return sorted(sorted(range(len(apart)), key=apart.__getitem__, reverse=True)[:count])


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "llava"])
def test_before_the_first_block(tmp_path: Path, name: str) -> None:
    tried = Tried(name, tmp_path)
    session = tried.chat("vision.0:0.5:contrast,form=dropped").session
    seen = tried.see(session)
    assert seen.places is not None
    assert len(seen.visual) == session.manifest.shape.handed < session.manifest.shape.image.visual_tokens
    patches_NmE = CutTower(tried.original, 0, tried.inputs).patches_at()
    assert seen.places.tolist() == standing_out(patches_NmE, tried.original.grid(tried.inputs), len(seen.visual))


def test_windows_are_cut_after_a_block_that_sees_the_whole_picture(tmp_path: Path) -> None:
    tried = Tried("qwen2_5_vl", tmp_path)
    for block in (0, 1):
        with pytest.raises(UserError, match=r"only after a block that sees all of it: vision\.2$"):
            tried.chat(f"vision.{block}:0.5:local")
    (stage, *_) = tried.chat("vision.10%:0.5:local").session.manifest.shape.stages
    assert stage.where == "vision.2"
    with pytest.raises(UserError, match=r"vision tower has 3 blocks, so vision\.0 to vision\.2$"):
        tried.chat("vision.3:0.5:local")


def test_work_is_told_before_in_and_after_the_stage(tried: Tried) -> None:
    chat = open_eager(tried.config(f"vision.{tried.block}:0.4:local,weigh=1"), counted=True)
    work = chat.session.manifest.method("vision").work
    assert list(work) == ["vision", "vision_before", "vision_pruner", "vision_after"]
    whole, *parts = work.values()
    assert all(part.macs > 0 for part in parts)
    with FlopCounterMode(display=False) as really:
        tried.see(chat.session)
    assert 2 * whole.macs == 2 * sum(part.macs for part in parts) == really.get_total_flops()
    unpruned = open_eager(tried.config("2:0.5:uniform"), counted=True).session.manifest.method("vision").work
    assert list(unpruned) == ["vision"]
    assert whole.macs < unpruned["vision"].macs


# --- The language model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", ["", "+2:0.2:vlm-pruner,pivots=2,weigh=1", "+1:0.3:fastv+2:0.2:dart,pivots=2"])
def test_dropped_tokens_are_as_those_that_a_stage_before_the_language_model_drops(tried: Tried, later: str) -> None:
    """Which has been compared with transformers' layers."""
    whole = tried.chat(f"0:0.5:uniform,weigh=1{later}").session
    cut = tried.chat(f"vision.{tried.block}:0.5:local,weigh=1,form=dropped{later}").session
    ids, more = [40, 41, 42], [50, 51]
    visual = np.random.default_rng(0).standard_normal(
        (whole.manifest.shape.image.visual_tokens, whole.manifest.method("vision").outputs[0].shape[1])
    ).astype(np.float32)  # fmt: skip
    wanted = whole.prefill(ids, visual)
    first = wanted.stages[0]
    bias = whole._caches["bias_cache_0"].copy()
    found = cut.prefill(ids, Seen(visual[first], first, bias))
    close(found.logits, wanted.logits, 1e-5)
    assert found.order.tolist() == (wanted.order if later else first).tolist()
    assert [each.tolist() for each in found.stages[: len(wanted.stages)]] == [each.tolist() for each in wanted.stages]
    order, earlier = shown(cut.manifest.shape, found.order, found.stages)
    assert (order.tolist(), len(earlier)) == (found.order.tolist(), later.count("+"))
    close(cut.decode(7), whole.decode(7), 1e-5)
    close(cut.extend(more), whole.extend(more), 1e-5)


def test_prefill_must_be_told_the_places(tmp_path: Path) -> None:
    tried = Tried("qwen2_vl", tmp_path)
    session = tried.chat("vision.1:0.5:local").session
    with pytest.raises(UserError, match=r"prefill takes all that see\(\) tells, with the places"):
        session.prefill([40], tried.see(session).visual)


# --- Bundles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("qwen2_5_vl", "vision.2:0.5:vlm-pruner,weigh=1"),
        ("qwen2_vl", "vision.0:0.5:contrast,weigh=1+first:0.25:vlm-pruner,weigh=1"),
        ("qwen3_vl", "vision.1:0.5:fastv,weigh=1,form=dropped+1:0.25:dart,pivots=2"),
    ],
)
def test_a_bundle_is_verified(name: str, schedule: str, tmp_path: Path) -> None:
    tried = Tried(name, tmp_path / "checkpoint")
    (result,) = export(tried.config(schedule, targets=("onnx",), output=tmp_path / "bundle"))
    figures = {check.name: check.value for check in result.manifest.parity.checks}
    assert result.manifest.parity.status == "passed"
    assert figures["visual tokens in common"] == 1
