"""The runner's pictures against Pillow's: PNG and resizing to the bit, JPEG within a stated bound."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_cases import image_spec
from native_cases import PHOTO, ROOT
from numpy.typing import NDArray
from PIL import Image
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.image import open_image, to_pixels

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


Chunk = tuple[bytes, bytes]


def png(header: bytes, data: bytes, *others: Chunk, behind: Chunk | None = None) -> bytes:
    """Other chunks go in front of the data, or behind."""
    chunks = [(b"IHDR", header), *others, (b"IDAT", zlib.compress(data)), *([behind] if behind else []), (b"IEND", b"")]
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
              for kind, body in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


CLEAR = [
    (depth, colours, key)
    for depth, colours, keys in [
        (1, 0, ([0], [1], [2], [256])), (2, 0, ([0], [1], [3], [6], [85])), (4, 0, ([0], [1], [15], [17], [272])),
        (8, 0, ([0], [7], [263])), (16, 0, ([7], [1799], [1798])),
        (8, 2, ([1, 2, 3], [257, 2, 3])), (16, 2, ([1, 2, 3], [257, 514, 771], [256, 512, 768])),
    ]
    for key in keys
]  # fmt: skip


@pytest.mark.parametrize(("depth", "colours", "key"), CLEAR)
def test_a_clear_colour_is_clear_where_it_is_for_python(
    host: Path, tmp_path: Path, depth: int, colours: int, key: list[int]
) -> None:
    channels, width = (3, 4) if colours == 2 else (1, 32)
    samples = noise(8, width * channels * depth // 8, 1, seed=depth)[..., 0]
    if colours == 2:
        samples[::2] = np.tile(np.repeat([1, 2, 3], depth // 8).astype(np.uint8), width)
    if colours == 0 and depth >= 8:
        samples[::2] = 7
    data = b"".join(b"\0" + row.tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, 8, depth, colours, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(png(header, data, (b"tRNS", struct.pack(f">{channels}H", *key))))
    np.testing.assert_array_equal(picture(host, "picture", path), np.asarray(open_image(path)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (8, 8), (9, 33), (200, 1), (1, 200)], ids=str)
@pytest.mark.parametrize(("depth", "colours", "channels"), [(1, 0, 1), (8, 2, 3), (16, 6, 4)], ids=str)
def test_all_rows_of_an_interlaced_png_fit(
    host: Path, tmp_path: Path, shape: tuple[int, int], depth: int, colours: int, channels: int
) -> None:
    """They are more than those of a plain file, and the runner bounds them by its header."""
    height, width = shape
    rng = np.random.default_rng(3)
    data = b""
    for left, top, across, down in [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ]:  # fmt: skip
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        row = (columns * channels * depth + 7) // 8
        data += b"".join(b"\0" + rng.bytes(row) for _ in range(rows if columns else 0))
    path = tmp_path / "a.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 1), data))
    np.testing.assert_array_equal(picture(host, "picture", path), np.asarray(open_image(path)))


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


Entry = tuple[int, int, int, bytes]
"""Tag, TIFF type, count, and the four bytes of the value or its place."""


def tiff(*entries: Entry, order: str = "<", behind: bytes = b"", head: bytes | None = None) -> bytes:
    """An EXIF block of one directory. behind: from byte 10 + 12 * entries on."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order] if head is None else head
    packed = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + packed + behind


def turn(value: int = 6, kind: int = 3, order: str = "<", count: int = 1) -> bytes:
    return tiff((0x0112, kind, count, struct.pack(f"{order}{CODES[kind]}", value).ljust(4, b"\0")), order=order)


CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 13: "I", 99: "I"}
MAKER: Entry = (0x010F, 2, 3, b"abc\0")
FAR = struct.pack("<I", 22)
BLOCKS = {
    **{f"type {kind} {order}": turn(kind=kind, order=order) for kind in CODES for order in "<>"},
    "out of range": turn(9),
    "nothing": turn(0),
    "no value": turn(count=0),
    "two values": turn(count=2),
    "four values elsewhere": tiff((0x0112, 3, 4, FAR), behind=struct.pack("<4H", 8, 1, 1, 1)),
    "rational": tiff((0x0112, 5, 1, FAR), behind=struct.pack("<II", 12, 2)),
    "broken rational": tiff((0x0112, 5, 1, FAR), behind=struct.pack("<II", 7, 2)),
    "rational by zero": tiff((0x0112, 5, 1, FAR), behind=struct.pack("<II", 6, 0)),
    "signed rational": tiff((0x0112, 10, 1, FAR), behind=struct.pack("<ii", -12, -2)),
    "double": tiff((0x0112, 12, 1, FAR), behind=struct.pack("<d", 8.0)),
    "long long": tiff((0x0112, 16, 1, FAR), behind=struct.pack("<Q", 5)),
    "cut off elsewhere": tiff((0x0112, 12, 1, FAR), behind=b"1234"),
    "first of two": tiff(MAKER, (0x0112, 3, 1, b"\3\0\0\0"), (0x0112, 3, 1, b"\6\0\0\0")),
    "second, where the first is of no type": tiff((0x0112, 99, 1, b"\3\0\0\0"), (0x0112, 3, 1, b"\6\0\0\0")),
    "behind one that is cut off": tiff((0x010F, 2, 30, FAR), (0x0112, 3, 1, b"\6\0\0\0")),
    "behind one that is too large": tiff((0x010F, 2, 999, FAR), (0x0112, 3, 1, b"\6\0\0\0")),
    "fewer entries than told": tiff(MAKER, (0x0112, 3, 1, b"\6\0\0\0"))[:-3],
    "marked twice": b"Exif\0\0" + turn(),
    "marked thrice": b"Exif\0\0" * 2 + turn(),
    "no TIFF": turn().replace(b"II*", b"II?"),
    "a header that Pillow forgives": tiff((0x0112, 3, 1, b"\6\0\0\0"), head=b"II\0*"),
    "short": b"II*\0\7",
    "empty": b"",
    "without": tiff(MAKER),
}
XMP = b'<x:xmpmeta><rdf:Description tiff:Make="a" tiff:Orientation="8"/><tiff:Orientation>3</tiff:Orientation>'
ELEMENT = b"<tiff:Orientation>rotated</tiff:Orientation><tiff:Orientation>5</tiff:Orientation>"


def segment(mark: bytes, content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(mark + content) + 2) + mark + content


def exif_segment(content: bytes) -> bytes:
    return segment(b"Exif\0\0", content)


def xmp_segment(content: bytes) -> bytes:
    return segment(b"http://ns.adobe.com/xap/1.0/\0", content)


SEGMENTS = {
    **{name: exif_segment(block) for name, block in BLOCKS.items()},
    **{f"{name}, with XMP": xmp_segment(XMP) + exif_segment(block) for name, block in BLOCKS.items()},
    "two segments": exif_segment(turn(6)) + exif_segment(turn(3)),
    "one block in two segments": exif_segment(turn(6)[:14]) + exif_segment(turn(6)[14:]),
    "an empty segment in front": exif_segment(b"") + exif_segment(turn(6)),
    "XMP": xmp_segment(XMP),
    "XMP's element": xmp_segment(ELEMENT),
    "XMP without a number": xmp_segment(b'tiff:Orientation=""'),
    "XMP out of range": xmp_segment(b'tiff:Orientation="9" tiff:Orientation="6"'),
    "two of XMP": xmp_segment(XMP) + xmp_segment(ELEMENT),
    "the second of XMP is empty": xmp_segment(XMP) + xmp_segment(b""),
}


def assert_as_pillow(host: Path, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found, wanted = picture(host, "picture", path), np.asarray(open_image(path))
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= JPEG_MOST


def small_jpeg() -> bytes:
    """Without JFIF's resolution: Pillow then forgives an EXIF block that is no TIFF file."""
    buffer = io.BytesIO()
    pixels = np.linspace(0, 255, 16 * 8 * 3).reshape(8, 16, 3).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    content = buffer.getvalue()
    assert content[2:4] == b"\xff\xe0"
    return content[:2] + content[4 + struct.unpack_from(">H", content, 4)[0] :]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SEGMENTS)
def test_a_jpeg_is_turned_as_by_pillow(host: Path, tmp_path: Path, name: str) -> None:
    content = small_jpeg()
    assert_as_pillow(host, tmp_path / "a.jpg", content[:2] + SEGMENTS[name] + content[2:])


def test_what_stands_behind_the_scan_of_a_jpeg_turns_nothing(host: Path, tmp_path: Path) -> None:
    assert_as_pillow(host, tmp_path / "a.jpg", small_jpeg()[:-2] + exif_segment(turn()) + b"\xff\xd9")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_turns_a_jpeg_as_by_pillow(host: Path, tmp_path: Path) -> None:
    rng, content = random.Random(5), small_jpeg()
    whole = tiff(MAKER, (0x011A, 5, 1, FAR), (0x0112, 4, 1, b"\6\0\0\0"), (0x0131, 2, 9, FAR), behind=bytes(60))
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 3, 4, 5, 9, 12, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        about = exif_segment(bytes(damaged)) + rng.choice((b"", xmp_segment(XMP)))
        assert_as_pillow(host, tmp_path / "a.jpg", content[:2] + about + content[2:])


def profile(block: bytes) -> bytes:
    lines = "\n".join(block.hex()[at : at + 72] for at in range(0, 2 * len(block), 72))
    return b"Raw profile type exif\0" + f"\nexif\n{len(block):8}\n{lines}\n".encode()


def packed_text(text: bytes) -> bytes:
    key, _, value = text.partition(b"\0")
    return key + b"\0\0" + zlib.compress(value)


XMP_KEY = b"XML:com.adobe.xmp\0"
CHUNKS: dict[str, list[Chunk]] = {
    **{name: [(b"eXIf", block)] for name, block in BLOCKS.items()},
    "profile": [(b"tEXt", profile(b"Exif\0\0" + turn()))],
    "profile without a mark": [(b"tEXt", profile(turn()))],
    "packed profile": [(b"zTXt", packed_text(profile(b"Exif\0\0" + turn(8))))],
    "long profile": [(b"tEXt", profile(tiff(*[(tag, 3, 1, b"\1\0\0\0") for tag in range(200)], order="<") + turn()))],
    "profile of nothing": [(b"tEXt", b"Raw profile type exif\0\nexif")],
    "eXIf rather than a profile": [(b"tEXt", profile(turn(3))), (b"eXIf", turn(6))],
    "EXIF as it is in a text": [(b"eXIf", turn(3)), (b"tEXt", b"exif\0" + turn(6))],
    "last eXIf": [(b"tEXt", b"exif\0" + turn(6)), (b"eXIf", turn(3)), (b"eXIf", turn(8))],
    "XMP": [(b"iTXt", XMP_KEY + b"\0\0\0\0" + XMP)],
    "XMP with a language": [(b"iTXt", XMP_KEY + b"\0\0de\0\xc3\xa4\0" + XMP)],
    "packed XMP": [(b"iTXt", XMP_KEY + b"\1\0\0\0" + zlib.compress(XMP))],
    "XMP packed in another way": [(b"iTXt", XMP_KEY + b"\1\7\0\0" + zlib.compress(XMP))],
    "XMP that is cut off": [(b"iTXt", XMP_KEY + b"\0\0" + XMP)],
    "XMP in a plain text": [(b"tEXt", XMP_KEY + XMP)],
    "EXIF before XMP": [(b"iTXt", XMP_KEY + b"\0\0\0\0" + XMP), (b"eXIf", turn(6))],
    "XMP behind EXIF that tells nothing": [(b"eXIf", tiff(MAKER)), (b"iTXt", XMP_KEY + b"\0\0\0\0" + XMP)],
    "damaged text": [(b"zTXt", b"Raw profile type exif\0\0no zlib")],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("name", CHUNKS)
def test_a_png_is_turned_as_by_pillow(host: Path, tmp_path: Path, name: str, place: str) -> None:
    data = b"".join(b"\0" + row.tobytes() for row in noise(3, 5, 3))
    chunks, header = CHUNKS[name], struct.pack(">IIBBBBB", 5, 3, 8, 2, 0, 0, 0)
    whole = png(header, data, *chunks) if place == "before" else png(header, data, *chunks[:-1], behind=chunks[-1])
    assert_as_pillow(host, tmp_path / "a.png", whole)


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
    size = [(1, 1), (1, 200), (200, 1)][seed] if seed < 3 else (rng.randrange(1, 700), rng.randrange(1, 700))
    width, height = rng.randrange(1, 400), rng.randrange(1, 400)
    path = tmp_path / "a.png"
    image = Image.fromarray(noise(*size, 3, seed=seed) // (1 + seed % 2 * 254) * (1 + seed % 2 * 254))
    image.save(path)
    for resample in ("bilinear", "bicubic", "lanczos"):
        wanted = np.asarray(image.resize((width, height), Image.Resampling[resample.upper()]))
        np.testing.assert_array_equal(picture(host, "resize", path, str(width), str(height), resample), wanted)


@pytest.mark.parametrize("how", ["pad", "stretch"])
@pytest.mark.parametrize("size", [(600, 400), (33, 700), (336, 336), (5, 3), (1000, 999), (1, 200)], ids=str)
def test_photos_are_fitted_as_in_python(host: Path, tmp_path: Path, how: Any, size: tuple[int, int]) -> None:
    spec = image_spec(12, 12, fit=how, pad_rgb=(122, 116, 104))
    raw = json.loads((SEEDS / "manifest/two-layers.json").read_text(encoding="utf-8"))
    raw["shapes"][0]["image"] = spec.model_dump(mode="json")
    manifest, path = tmp_path / "manifest.json", tmp_path / "a.png"
    manifest.write_text(json.dumps(raw), encoding="utf-8")
    Image.fromarray(noise(size[1], size[0], 3)).save(path)
    done = subprocess.run([host / "probe", "pixels", path, manifest], capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(1, 3, 336, 336)
    np.testing.assert_array_equal(found, to_pixels(open_image(path), spec))


@pytest.mark.parametrize("size", [(1, 201), (3000, 14)])
def test_shapes_are_refused_in_pythons_words(host: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    for path in (tmp_path / "a.png", tmp_path / "a.jpg"):
        Image.new("RGB", size).save(path)
        with pytest.raises(UserError, match="one side may be at most 200 times as long as the other") as caught:
            open_image(path)
        done = subprocess.run([host / "probe", "picture", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, f"probe: {caught.value}\n")


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
        "bomb": png(struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0), bytes(300_000_000)),
        "huge": png(struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), b""),
    }[kind]


@pytest.mark.parametrize(("kind", "message"), [
    ("nothing", "neither PNG nor JPEG"), ("text", "neither PNG nor JPEG"), ("gif", "neither PNG nor JPEG"),
    ("cut jpeg", "cut off"), ("jpeg without its end", "cut off"), ("jpeg of a header", "cut off"),
    ("cut png", "cut off"), ("png with a wrong checksum", "a checksum in it is wrong"), ("cmyk", "CMYK"),
    ("huge", "at most 100 megapixels are read"), ("bomb", "it holds more than a picture of its size"),
])  # fmt: skip
def test_other_and_damaged_files_are_refused(host: Path, tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(broken(kind))
    done = subprocess.run([host / "probe", "picture", path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
