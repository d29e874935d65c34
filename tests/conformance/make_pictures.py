"""Cases of fitting a photo: files, and the array that `vision` gets. Pillow says what is right."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conformance_files import ROOT, write_bytes, write_json
from numpy.typing import NDArray
from PIL import Image
from vlmp.runtimes.bundle.manifest import ImageSpec, SegmentSpec
from vlmp.runtimes.image import open_image, to_pixels

PHOTO = ROOT / "runtimes/assets/photo.jpg"
PAD = (122, 116, 104)
SHAPES = {
    "down": (90, 60), "up": (9, 7), "same": (56, 56), "same aspect": (28, 28), "one pixel": (1, 1), "wide": (200, 1),
    "high": (1, 200), "narrower and higher": (70, 33), "wider and lower": (33, 70), "half up, half down": (120, 20),
    "odd": (57, 55), "half a pixel": (112, 61),
}  # fmt: skip
"""Width and height of photos that are fitted into 56 x 56."""
JPEG_MOST = 5
"""Of 255: decoders round the cosine transform and the colours in their own ways."""
Pixels = NDArray[np.uint8]
Chunk = tuple[bytes, bytes]
ATTRIBUTE, ELEMENT = ' tiff:Orientation="6">', "><tiff:Orientation>8</tiff:Orientation>"
"""How XMP says which way up."""


def image_spec(height: int, width: int, fit: str, resample: str = "bicubic") -> ImageSpec:
    segment = SegmentSpec(rows=1, columns=1, first=0, stride=1, box=(0, 0, width, height))
    return ImageSpec.model_validate(
        {"height": height, "width": width, "fit": fit, "pad_rgb": PAD, "resample": resample, "visual_tokens": 1,
         "segments": [segment]}
    )  # fmt: skip


def make_pictures(folder: Path) -> None:
    """The folder picture."""
    cases: list[dict[str, Any]] = []

    def add(
        name: str, file: str, content: bytes, height: int = 56, width: int = 56, fit: str = "stretch",
        resample: str = "bicubic",
    ) -> None:  # fmt: skip
        path = folder / "picture" / file
        write_bytes(path, content)
        fitted = f"{name.replace(' ', '-').replace(',', '')}.rgb"
        # [1, 3, H, W] as `vision` takes it -> rows of RGB bytes, which a person can look at.
        pixels = (
            to_pixels(open_image(path), image_spec(height, width, fit, resample))[0].transpose(1, 2, 0).astype(np.uint8)
        )
        write_bytes(folder / "picture" / fitted, pixels.tobytes())
        cases.append(
            {"name": name, "file": file, "height": height, "width": width, "fit": fit, "pad_rgb": list(PAD),
             "resample": resample, "fitted": fitted, "most": JPEG_MOST if file.endswith(".jpg") else 0}
        )  # fmt: skip

    for name, size in SHAPES.items():
        for fit in ("pad", "stretch"):
            add(f"{name} {fit}", f"{name.replace(' ', '-').replace(',', '')}.png", png_of(drawing(*size)), fit=fit)
    add("wide shape", "down.png", png_of(drawing(90, 60)), height=28, width=84, fit="pad")
    for resample in ("bilinear", "lanczos"):
        for name, size in SHAPES.items():
            file = f"{name.replace(' ', '-').replace(',', '')}.png"
            add(f"{name} {resample}", file, png_of(drawing(*size)), 24, 36, resample=resample)
        add(f"{resample} pad", "down.png", png_of(drawing(90, 60)), 48, 40, "pad", resample)
    for name, content in pngs().items():
        add(name, f"{name.replace(' ', '-')}.png", content, height=13, width=9)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        add(f"turn {turn}", f"turn-{turn}.png", png_of(drawing(24, 16), exif=exif), height=28, width=28, fit="pad")
        jpeg = jpeg_of(photo(48, 32), exif=exif)
        add(f"jpeg turn {turn}", f"turn-{turn}.jpg", jpeg, height=28, width=28, fit="pad")
    for name, content in turned().items():
        add(name, f"{name.replace(' ', '-').replace(',', '')}.png", content, height=28, width=28, fit="pad")
    add("jpeg xmp", "jpeg-xmp.jpg", jpeg_of(photo(48, 32), xmp=xmp(ATTRIBUTE)), height=28, width=28, fit="pad")
    for name, options in {
        "444": {"subsampling": 0}, "420": {"subsampling": 2}, "422": {"subsampling": 1},
        "progressive": {"progressive": True},
    }.items():  # fmt: skip
        add(f"jpeg {name}", f"{name}.jpg", jpeg_of(photo(90, 60), **options), fit="pad")
    add("jpeg grey", "grey.jpg", jpeg_of(photo(90, 60).convert("L")), fit="pad")
    refused = [{"file": name, "refused": kind} for name, (kind, _) in broken().items()]
    for name, (_, content) in broken().items():
        write_bytes(folder / "picture" / name, content)
    write_json(folder / "picture/cases.json", cases=cases, refused=refused)


def drawing(width: int, height: int) -> Image.Image:
    """Ramps with hard edges and some noise: what a filter gets wrong at a border or in rounding is seen."""
    rng = np.random.default_rng(width * 1000 + height)
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x * 37 + y * 59) % 256], axis=2)
    ramps[(x // 5 + y // 3) % 4 == 0] = (255, 0, 255)
    ramps[rng.random((height, width)) < 0.1] = (0, 255, 0)
    return Image.fromarray(ramps.astype(np.uint8))


def photo(width: int, height: int) -> Image.Image:
    return open_image(PHOTO).resize((width, height), Image.Resampling.BICUBIC)


def png_of(image: Image.Image, **options: Any) -> bytes:
    return _saved(image, "PNG", **options)


def jpeg_of(image: Image.Image, **options: Any) -> bytes:
    return _saved(image, "JPEG", quality=90, **options)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    packed = io.BytesIO()
    image.save(packed, kind, **options)
    return packed.getvalue()


def xmp(orientation: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{orientation}</rdf:Description></rdf:RDF>'
        "</x:xmpmeta>"
    ).encode()


def turned() -> dict[str, bytes]:
    """Pictures that say in other ways how they are turned; 24 x 16 pixels each."""

    def exif(kind: int, value: int, count: int = 1) -> bytes:
        """A block with one entry of 16 bits, in front of which there may be said to be others."""
        return b"II*\0" + struct.pack("<IHHHIHH", 8, count, kind, 3, 1, value, 0) + bytes(4)

    def packed(block: bytes | None = None, words: str | None = None) -> bytes:
        chunks = png_chunks(png_of(drawing(24, 16)))
        more = [] if block is None else [(b"eXIf", block)]
        if words is not None:
            more.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(words)))
        return png_file([chunks[0], *more, *chunks[1:]])

    orientation, maker = 0x0112, 0x0103
    return {
        "exif 0": packed(exif(orientation, 0)),
        "exif 9": packed(exif(orientation, 9)),
        "exif 9, xmp": packed(exif(orientation, 9), ATTRIBUTE),
        "xmp attribute": packed(None, ATTRIBUTE),
        "xmp element": packed(None, ELEMENT),
        "xmp 9": packed(None, ATTRIBUTE.replace("6", "9")),
        "exif and xmp": packed(exif(orientation, 3), ATTRIBUTE),
        "exif of something else, xmp": packed(exif(maker, 6), ATTRIBUTE),
        "damaged exif": packed(b"no block at all"),
        "damaged exif, xmp": packed(b"no block at all", ATTRIBUTE),
        "cut exif": packed(exif(orientation, 6)[:16]),
        "exif that says more than it has": packed(exif(orientation, 6, count=3)[:22]),
    }


def noise(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    values = np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (13, 9, channels), dtype=dtype)
    return values[..., 0] if channels == 1 else values


def pngs() -> dict[str, bytes]:
    """Kinds of PNG, 9 x 13 pixels each; they are fitted without resizing, so that each pixel is seen as it was read."""
    colour, grey = Image.fromarray(noise(3)), Image.fromarray(noise(1))
    alpha = noise(4)
    alpha[0, :4, 3] = (0, 1, 254, 255)
    return {
        "colour": png_of(colour),
        "alpha": png_of(Image.fromarray(alpha)),
        "grey": png_of(grey),
        "grey with alpha": png_of(Image.fromarray(alpha).convert("LA")),
        "black and white": png_of(grey.convert("1")),
        "palette": png_of(colour.quantize(16)),
        "palette of 4": png_of(colour.quantize(4), bits=2),
        "palette with a clear colour": png_of(colour.quantize(16), transparency=3),
        "palette with alphas": png_of(colour.quantize(16), transparency=bytes(range(0, 160, 10))),
        "a clear colour": png_of(colour, transparency=tuple(int(value) for value in noise(3)[2, 3])),
        "grey16 with alpha": wide_png(4, noise(2, np.uint16)),
        "grey16 with a clear colour": wide_png(0, noise(1, np.uint16), clear=noise(1, np.uint16)[2, 3]),
        "colour16 with a clear colour": wide_png(2, noise(3, np.uint16), clear=noise(3, np.uint16)[2, 3]),
        "grey16": png_of(Image.fromarray(noise(1, np.uint16))),
        "colour16": wide_png(2, noise(3, np.uint16)),
        "colour16 with alpha": wide_png(6, noise(4, np.uint16)),
    }


def wide_png(colours: int, samples: NDArray[np.uint16], clear: NDArray[np.uint16] | None = None) -> bytes:
    """16 bits a sample; Pillow cannot write colour so. colours: PNG's type. clear: one colour, which is clear."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)
    told = [] if clear is None else [(b"tRNS", clear.astype(">u2").tobytes())]
    return png(header, b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples), told)


def png(header: bytes, data: bytes, more: Sequence[Chunk] = ()) -> bytes:
    return png_file([(b"IHDR", header), *more, (b"IDAT", zlib.compress(data)), (b"IEND", b"")])


def png_chunks(content: bytes) -> list[Chunk]:
    """Kind and body of each."""
    chunks, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    return chunks


def png_file(chunks: Sequence[Chunk]) -> bytes:
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
              for kind, body in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def broken() -> dict[str, tuple[str, bytes]]:
    """Files that must be refused, and why: shape, size, or no picture that can be read."""
    whole = png_of(drawing(90, 60))
    return {
        "too-wide.png": ("shape", png_of(Image.new("RGB", (201, 1)))),
        "too-high.png": ("shape", png_of(Image.new("L", (2, 402)))),
        "huge.png": ("size", png(struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), b"")),
        "no-picture.png": ("unreadable", b"no image at all"),
        "empty.png": ("unreadable", b""),
        "cut.png": ("unreadable", whole[: len(whole) // 2]),
        "cut.jpg": ("unreadable", jpeg_of(photo(90, 60))[:900]),
    }
