"""The drawing of kept tokens shows the photo where the model still sees it, and dims the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_cases import image_spec
from numpy.typing import NDArray
from PIL import Image
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import ImageSpec
from vlmp.runtimes.draw import FRAME, MIN_CELL_PX, draw_kept, save
from vlmp.runtimes.image import fit


def spec(rows: int, columns: int, side: int = 28) -> ImageSpec:
    return image_spec(rows, columns, side, pad_rgb=(9, 9, 9))


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(120, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def cell(picture: Image.Image, grid: tuple[int, int], token: int) -> NDArray[np.int_]:
    """The lower right corner of a token's cell, where neither frame nor number is."""
    width, height = picture.width // grid[1], picture.height // grid[0]
    row, column = divmod(token, grid[1])
    pixels = np.asarray(picture, dtype=int)
    return pixels[row * height + height * 3 // 4 : (row + 1) * height - 4,
                  column * width + width * 3 // 4 : (column + 1) * width - 4]  # fmt: skip


@pytest.mark.parametrize(("grid", "side"), [((12, 12), 28), ((3, 5), 28), ((5, 3), 32), ((2, 2), 100)])
def test_cells_are_whole_and_large_enough_to_read(grid: tuple[int, int], side: int) -> None:
    target = spec(*grid, side)
    picture = draw_kept(photo(300, 200), target, np.array([0], np.int32))
    assert picture.mode == "RGB"
    assert picture.width % target.width == 0
    assert picture.width * target.height == picture.height * target.width
    assert picture.width // grid[1] >= MIN_CELL_PX
    assert picture.width // grid[1] < 2 * max(MIN_CELL_PX, side)


@pytest.mark.parametrize("size", [(140, 112), (900, 300), (31, 64)])
def test_kept_cells_are_the_photo_and_the_others_are_dimmed(size: tuple[int, int]) -> None:
    target, kept = spec(4, 5), [7, 0, 19, 12]
    image = photo(*size)
    picture = draw_kept(image, target, np.array(kept, np.int32))
    wanted = fit(image, target).resize(picture.size, Image.Resampling.BICUBIC)
    for token in range(20):
        found, original = cell(picture, (4, 5), token), cell(wanted, (4, 5), token)
        if token in kept:
            np.testing.assert_array_equal(found, original)
        else:
            assert (found[..., 0] == found[..., 1]).all()
            assert (found[..., 1] == found[..., 2]).all()
            np.testing.assert_allclose(found.mean(), original.mean() * 0.45, rtol=0.1)


def test_kept_cells_are_framed_in_the_colours_of_their_order() -> None:
    target, kept = spec(3, 3), [4, 0, 8]
    picture = draw_kept(Image.new("RGB", (84, 84), (50, 50, 50)), target, np.array(kept, np.int32))
    side = picture.width // 3
    frames = [picture.getpixel((token % 3 * side, (token // 3 + 1) * side - 1)) for token in kept]
    assert len(set(frames)) == 3
    yellow, *_, violet = frames
    assert isinstance(yellow, tuple)
    assert isinstance(violet, tuple)
    assert yellow[0] > 200
    assert yellow[1] > 200
    assert yellow[2] < 100
    assert violet[2] > 200
    assert picture.getpixel((side, 0)) == picture.getpixel((2 * side - 1, side - 1))


def test_numbers_tell_the_order() -> None:
    """A cell's number is drawn at its upper left; the first token's differs from the second's."""
    target = spec(1, 2, 112)
    image = Image.new("RGB", (224, 112), (50, 50, 50))
    one, two = (np.asarray(draw_kept(image, target, np.array(order))) for order in ([0, 1], [1, 0]))
    side = one.shape[0]
    corner = slice(4, side // 2)
    lit = [np.abs(picture[corner, corner].astype(int) - 50).max(-1) > 60 for picture in (one, two)]
    assert lit[0].any()
    assert lit[1].any()
    assert (lit[0] != lit[1]).any()


@pytest.mark.parametrize("kept", [0, 1, 2, 144])
def test_any_number_of_kept_tokens(kept: int) -> None:
    target = spec(12, 12)
    order = np.random.default_rng(0).permutation(144)[:kept]
    picture = draw_kept(photo(50, 80), target, order)
    assert picture.size == draw_kept(photo(50, 80), target, order[:0]).size


def test_the_photo_is_left_alone() -> None:
    image = photo(84, 84)
    before = image.tobytes()
    draw_kept(image, spec(3, 3), np.arange(9))
    assert image.tobytes() == before


# --- Several stages ---------------------------------------------------------------------------------------------------

FIRST, SECOND, LAST = [0, 3, 7, 12, 14, 19], [0, 7, 12, 19], [12, 0]
"""What three stages keep of 20 tokens."""


def staged(image: Image.Image) -> Image.Image:
    earlier = [np.array(kept, np.int32) for kept in (FIRST, SECOND)]
    return draw_kept(image, spec(4, 5), np.array(LAST, np.int32), earlier)


def test_what_is_dropped_later_is_brighter() -> None:
    picture = staged(Image.new("RGB", (140, 112), (220, 180, 140)))
    grey = Image.new("RGB", (1, 1), (220, 180, 140)).convert("L").getpixel((0, 0))
    for token in range(20):
        inner = cell(picture, (4, 5), token)
        assert (inner == inner[0, 0]).all()
        if token in LAST:
            assert inner[0, 0].tolist() == [220, 180, 140]
            continue
        stage = (token in FIRST) + (token in SECOND)
        share = (0.45, 0.45 + 0.55 / 3, 0.45 + 2 * 0.55 / 3)[stage]
        np.testing.assert_allclose(inner[0, 0], [share * float(grey)] * 3, atol=1)


def test_what_a_stage_keeps_and_the_next_drops_has_a_thin_frame() -> None:
    picture = staged(Image.new("RGB", (140, 112), (50, 50, 50)))
    side = picture.width // 5
    for token in range(20):
        row, column = divmod(token, 5)
        left, top, far = column * side, row * side, side - 1
        edges = [picture.getpixel((left + x, top + y)) for x, y in ((0, 0), (far, 0), (0, far), (far, far), (9, far))]
        framed = token in FIRST and token not in LAST
        assert [edge == FRAME for edge in edges] == [framed] * 5, token
        if framed:
            assert FRAME not in (picture.getpixel((left + 1, top + 1)), picture.getpixel((left + 9, top + 1)))


def test_without_earlier_stages_nothing_changes() -> None:
    image, target, order = photo(140, 112), spec(4, 5), np.array(LAST, np.int32)
    alone = draw_kept(image, target, order)
    assert draw_kept(image, target, order, ()).tobytes() == alone.tobytes()
    # A stage that keeps no more than the last one leaves no cell of its own.
    assert draw_kept(image, target, order, [np.sort(order)]).tobytes() == alone.tobytes()
    assert staged(image).tobytes() != alone.tobytes()


def test_tokens_of_no_part_of_the_picture_are_not_drawn() -> None:
    """A token that ends a row on some models, or one after all rows."""
    target = spec(4, 5)
    (whole,) = target.segments
    ended = target.model_copy(
        update={"visual_tokens": 25, "segments": [whole.model_copy(update={"stride": 6})]}
    )  # fmt: skip

    def moved(kept: list[int]) -> list[int]:
        return [token + token // 5 for token in kept]

    image, ends = photo(140, 112), [5, 11, 24]
    earlier = [np.array(moved(kept) + ends, np.int32) for kept in (FIRST, SECOND)]
    found = draw_kept(image, ended, np.array(moved(LAST), np.int32), earlier)
    assert found.tobytes() == staged(image).tobytes()
    only_ends = draw_kept(image, ended, np.array(ends, np.int32), [np.array(ends, np.int32)])
    assert only_ends.tobytes() == draw_kept(image, target, np.zeros(0, np.int32)).tobytes()


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("kept.png", "PNG"), ("kept.JPG", "JPEG"), ("kept.webp", "WEBP")])
def test_the_name_says_the_format(tmp_path: Path, name: str, kind: str) -> None:
    save(Image.new("RGB", (8, 8)), tmp_path / name)
    assert Image.open(tmp_path / name).format == kind
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_full_disk_leaves_the_earlier_picture(disk_of: Callable[[int], Path]) -> None:
    path = disk_of(1) / "kept.png"
    path.write_bytes(b"earlier")
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    with pytest.raises(UserError, match=f"^cannot write {path}: No space left on device$"):
        save(Image.fromarray(noise), path)
    assert path.read_bytes() == b"earlier"
    assert [each.name for each in path.parent.iterdir()] == ["kept.png"]


def test_names_that_are_no_pictures(tmp_path: Path) -> None:
    for name in ("kept", "kept.unknown", "missing/kept.png"):
        with pytest.raises(UserError, match=f"^cannot write {tmp_path / name}: "):
            save(Image.new("RGB", (8, 8)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
