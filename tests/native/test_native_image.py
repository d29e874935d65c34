"""The runner's pictures against Pillow's: PNG and resizing to the bit, JPEG within a stated bound."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_cases import PHOTO, ROOT
from numpy.typing import NDArray
from PIL import Image
from vlmp.export.bundle import ImageSpec
from vlmp.runtimes.image import open_image, to_pixels

# Builds take minutes, and so do runs under emulation.
pytestmark = pytest.mark.slow

SEEDS = ROOT / "runtimes/native/fuzz/seeds"
JPEG_MOST, JPEG_MEAN = 5, 0.5
"""Of 255, at a pixel and on average: stb_image rounds its cosine transform and its colours otherwise than libjpeg."""
Pixels = NDArray[np.uint8]


def picture(host: Path, *arguments: str | Path) -> Pixels:
    done = subprocess.run([host / "probe", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    size, _, pixels = done.stdout.partition(b"\n")
    width, height = (int(number) for number in size.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def noise(height: int, width: int, channels: int, *, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pngs() -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    colour, alpha = Image.fromarray(noise(13, 9, 3)), Image.fromarray(noise(13, 9, 4))
    grey = Image.fromarray(noise(13, 9, 1)[..., 0])
    wide = np.random.default_rng(1).integers(0, 65536, (13, 9), dtype=np.uint16)
    return {
        "colour": (colour, {}),
        "alpha": (alpha, {}),
        "grey": (grey, {}),
        "grey with alpha": (alpha.convert("LA"), {}),
        "black and white": (grey.convert("1"), {}),
        "palette": (colour.quantize(16), {}),
        "palette of 4": (colour.quantize(4), {"bits": 2}),
        "palette with a clear colour": (colour.quantize(16), {"transparency": 3}),
        "palette with alphas": (colour.quantize(16), {"transparency": bytes(range(0, 160, 10))}),
        "a clear colour": (colour, {"transparency": tuple(int(v) for v in np.asarray(colour)[2, 3])}),
        "16-bit grey": (Image.fromarray(wide), {}),
    }


@pytest.mark.parametrize("name", pngs())
def test_png_is_decoded_as_by_pillow(host: Path, tmp_path: Path, name: str) -> None:
    image, options = pngs()[name]
    path = tmp_path / "a.png"
    image.save(path, **options)
    np.testing.assert_array_equal(picture(host, "picture", path), np.asarray(open_image(path)))


@pytest.mark.parametrize("colours", [2, 4, 6], ids=["RGB", "grey with alpha", "RGBA"])
def test_16_bit_colour_is_decoded_as_by_pillow(host: Path, tmp_path: Path, colours: int) -> None:
    """Pillow cannot write them."""
    channels = {2: 3, 4: 2, 6: 4}[colours]
    rows = np.random.default_rng(2).integers(0, 65536, (5, 7 * channels), dtype=np.uint16).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    path = tmp_path / "a.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", 7, 5, 16, colours, 0, 0, 0), data))
    np.testing.assert_array_equal(picture(host, "picture", path), np.asarray(open_image(path)))


def png(header: bytes, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + packed + chunk(b"IEND", b"")


def test_interlaced_png_is_decoded_as_by_pillow(host: Path) -> None:
    path = SEEDS / "image/interlaced.png"
    np.testing.assert_array_equal(picture(host, "picture", path), np.asarray(open_image(path)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_exif_orientation(host: Path, tmp_path: Path, orientation: int, order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112] = "maker", orientation
    image = Image.fromarray(noise(16, 24, 3))
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(picture(host, "picture", tmp_path / "a.png"), open_image(tmp_path / "a.png"))
    image.resize((96, 64)).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    assert_near(picture(host, "picture", tmp_path / "a.jpg"), np.asarray(open_image(tmp_path / "a.jpg")))


def assert_near(found: Pixels, wanted: Pixels) -> None:
    assert found.shape == wanted.shape
    difference = np.abs(found.astype(int) - wanted.astype(int))
    assert difference.max() <= JPEG_MOST
    assert difference.mean() <= JPEG_MEAN


@pytest.mark.parametrize("options", [
    {"quality": 95, "subsampling": 0}, {"quality": 90, "subsampling": 2}, {"quality": 60, "subsampling": 1},
    {"quality": 80, "progressive": True}, {"quality": 75, "restart_marker_blocks": 7},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_decoded_near_to_pillow(host: Path, tmp_path: Path, options: dict[str, Any], mode: str) -> None:
    path = tmp_path / "a.jpg"
    Image.open(PHOTO).convert(mode).save(path, **options)
    assert_near(picture(host, "picture", path), np.asarray(open_image(path)))


@pytest.mark.parametrize("layout", ["4:4:4", "4:2:2", "4:2:0", "4:4:0", "grey"])
@pytest.mark.parametrize("size", [(5, 3), (6, 7), (9, 16), (16, 16), (33, 20), (64, 64), (101, 77)], ids=str)
def test_the_colours_of_a_jpeg_are_spread_as_by_pillow(
    host: Path, tmp_path: Path, layout: str, size: tuple[int, int]
) -> None:
    """Hard edges in colour show every column that is interpolated otherwise, the last ones too."""
    bars = np.zeros((size[1], size[0], 3), np.uint8)
    bars[:, ::2], bars[::3] = (255, 0, 0), (0, 0, 255)
    if layout == "4:4:0":
        size = (size[0] // 16 * 16 or 16, size[0] // 16 * 16 or 16)  # has as many blocks as 4:2:2
    path = tmp_path / "a.jpg"
    for pixels in (bars, noise(size[1], size[0], 3)):
        for quality in (30, 75, 100):
            image = Image.fromarray(pixels).resize(size)
            if layout == "grey":
                image.convert("L").save(path, quality=quality)
            else:
                image.save(path, quality=quality, subsampling=layout.replace("4:4:0", "4:2:2"))
            if layout == "4:4:0":  # Pillow does not write it: the same blocks, in another order
                content = bytearray(path.read_bytes())
                factors = content.index(b"\xff\xc0") + 11
                assert content[factors] == 0x21
                content[factors] = 0x12
                path.write_bytes(content)
            assert_near(picture(host, "picture", path), np.asarray(open_image(path)))


@pytest.mark.parametrize("seed", range(24))
def test_resizing_is_pillows(host: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    size = [(1, 1), (1, 500), (500, 1)][seed] if seed < 3 else (rng.randrange(1, 700), rng.randrange(1, 700))
    width, height = rng.randrange(1, 400), rng.randrange(1, 400)
    path = tmp_path / "a.png"
    image = Image.fromarray(noise(*size, 3, seed=seed) // (1 + seed % 2 * 254) * (1 + seed % 2 * 254))
    image.save(path)
    wanted = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(picture(host, "resize", path, str(width), str(height)), wanted)


@pytest.mark.parametrize("how", ["pad", "stretch"])
@pytest.mark.parametrize("size", [(600, 400), (33, 700), (336, 336), (5, 3), (1000, 999), (1, 2000)], ids=str)
def test_photos_are_fitted_as_in_python(host: Path, tmp_path: Path, how: Any, size: tuple[int, int]) -> None:
    spec = ImageSpec(height=336, width=336, grid=(12, 12), fit=how, pad_rgb=(122, 116, 104), resample="bicubic")
    raw = json.loads((SEEDS / "manifest/two-layers.json").read_text(encoding="utf-8"))
    raw["image"] = spec.model_dump(mode="json")
    manifest, path = tmp_path / "manifest.json", tmp_path / "a.png"
    manifest.write_text(json.dumps(raw), encoding="utf-8")
    Image.fromarray(noise(size[1], size[0], 3)).save(path)
    done = subprocess.run([host / "probe", "pixels", path, manifest], capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(1, 3, 336, 336)
    np.testing.assert_array_equal(found, to_pixels(open_image(path), spec))


def broken(kind: str) -> bytes:
    photo, small = PHOTO.read_bytes(), (SEEDS / "image/rgb.png").read_bytes()
    return {
        "nothing": b"",
        "text": b"no image at all",
        "gif": b"GIF89a" + bytes(40),
        "cut jpeg": photo[: len(photo) // 2],
        "jpeg without its end": photo[:-2],
        "jpeg of a header": photo[:200],
        "cut png": small[:-20],
        "png with a wrong checksum": small[:-20] + bytes([small[-20] ^ 1]) + small[-19:],
        "cmyk": (SEEDS / "image/cmyk.jpg").read_bytes(),
        "huge": png(struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), b""),
    }[kind]


@pytest.mark.parametrize(("kind", "message"), [
    ("nothing", "neither PNG nor JPEG"), ("text", "neither PNG nor JPEG"), ("gif", "neither PNG nor JPEG"),
    ("cut jpeg", "cut off"), ("jpeg without its end", "cut off"), ("jpeg of a header", "cut off"),
    ("cut png", "cut off"), ("png with a wrong checksum", "a checksum in it is wrong"), ("cmyk", "CMYK"),
    ("huge", "at most 100 megapixels are read"),
])  # fmt: skip
def test_other_and_damaged_files_are_refused(host: Path, tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(broken(kind))
    done = subprocess.run([host / "probe", "picture", path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
