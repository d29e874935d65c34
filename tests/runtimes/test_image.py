"""Photos: what phones and programs write is converted to the pixels a person sees, or refused in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_cases import image_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import ImageSpec
from vlmp.runtimes.image import MAX_PIXELS, fit, open_image, placement, to_pixels

PHOTO = Path(__file__).parents[2] / "runtimes/assets/photo.jpg"
BAR = (10, 200, 30)
ORIENTATION = 0x0112


def spec(height: int, width: int, how: str = "pad") -> ImageSpec:
    return image_spec(height // 28, width // 28, fit=how, pad_rgb=BAR, height=height, width=width)


def colours(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


def noise(height: int, width: int, channels: int, *, seed: int = 0) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, path: Path, **options: Any) -> Image.Image:
    image.save(path, **options)
    return open_image(path)


# --- Formats ----------------------------------------------------------------------------------------------------------

UPRIGHT = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]], [[0, 0, 0], [90, 90, 90]]], np.uint8)


def stored(upright: NDArray[np.uint8], orientation: int) -> Image.Image:
    """What a camera writes for an upright picture under a value of EXIF's orientation tag."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    return Image.fromarray(np.ascontiguousarray(turned[orientation]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"tiffinfo": {274: orientation}} if suffix == "tiff" else {"exif": exif}
    lossless = {"lossless": True} if suffix == "webp" else {}
    found = saved(stored(UPRIGHT, orientation), tmp_path / f"a.{suffix}", **options, **lossless)
    np.testing.assert_array_equal(colours(found), UPRIGHT)


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    large = UPRIGHT.repeat(16, 0).repeat(16, 1)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        found = saved(stored(large, orientation), tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
        np.testing.assert_allclose(colours(found)[8::16, 8::16].astype(int), UPRIGHT.astype(int), atol=4)


def exif_block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """One directory of entries: tag, type, count, value."""
    packed = b"".join(struct.pack(">HHI4s", *entry) for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + packed + bytes(4)


TURNED = (ORIENTATION, 3, 1, b"\0\6\0\0")
BLOCKS = {
    "a width of type float": (exif_block((0x0100, 11, 1, bytes(4)), TURNED), 6),
    "a width that is text": (exif_block((0x0100, 2, 4, b"wide"), TURNED), 6),
    "no TIFF": (b"Exif\0\0nothing that is known", 1),
    "cut off": (exif_block(TURNED)[:9], 1),
    "an orientation that is text": (exif_block((ORIENTATION, 2, 4, b"six\0")), 1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("name", BLOCKS)
def test_an_exif_block_that_pillow_cannot_write_or_read(tmp_path: Path, suffix: str, name: str) -> None:
    block, orientation = BLOCKS[name]
    large, path = UPRIGHT.repeat(16, 0).repeat(16, 1), tmp_path / f"a.{suffix}"
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    stored(large, orientation).save(path, exif=block, **options)
    if orientation != 1:
        with Image.open(path) as opened, pytest.raises(struct.error):
            ImageOps.exif_transpose(opened)
    found = colours(open_image(path))[8::16, 8::16].astype(int)
    np.testing.assert_allclose(found, UPRIGHT.astype(int), atol=4)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_do_not_exist_leave_the_picture_as_it_is(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = saved(Image.fromarray(UPRIGHT), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(colours(found), UPRIGHT)


def test_rgb_and_grey(tmp_path: Path) -> None:
    rgb, grey = noise(5, 7, 3), noise(5, 7, 1)
    np.testing.assert_array_equal(colours(saved(Image.fromarray(rgb), tmp_path / "rgb.png")), rgb)
    found = colours(saved(Image.fromarray(grey), tmp_path / "grey.png"))
    np.testing.assert_array_equal(found, grey[..., None].repeat(3, 2))


def test_alpha_lies_over_white(tmp_path: Path) -> None:
    rgba = noise(5, 7, 4)
    rgba[0, 0] = (200, 0, 0, 0)
    rgba[0, 1] = (200, 100, 50, 255)
    rgba[0, 2] = (200, 100, 50, 51)
    wanted = np.round(rgba[..., :3] * (rgba[..., 3:] / 255) + 255 * (1 - rgba[..., 3:] / 255)).astype(int)
    found = colours(saved(Image.fromarray(rgba, "RGBA"), tmp_path / "a.png")).astype(int)
    np.testing.assert_allclose(found, wanted, atol=1)
    assert found[0, :3].tolist() == [[255, 255, 255], [200, 100, 50], [244, 224, 214]]


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[0, 0], [0, 255], [100, 51]]], np.uint8), "LA")
    assert colours(saved(image, tmp_path / "a.png")).tolist() == [[[255] * 3, [0] * 3, [224] * 3]]


def test_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    plain = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    for suffix in ("png", "gif", "bmp"):
        assert colours(saved(image, tmp_path / f"a.{suffix}")).tolist() == [plain]
    assert colours(saved(image, tmp_path / "b.png", transparency=1)).tolist() == [[plain[0], [255] * 3, plain[2]]]
    some = colours(saved(image, tmp_path / "c.png", transparency=bytes([255, 0, 51]))).tolist()
    assert some == [[plain[0], [255] * 3, [204, 204, 255]]]
    assert colours(saved(image, tmp_path / "d.gif", transparency=2)).tolist() == [[*plain[:2], [255] * 3]]


def test_one_colour_of_rgb_or_grey_may_be_transparent(tmp_path: Path) -> None:
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert colours(saved(rgb, tmp_path / "a.png", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]
    grey = Image.fromarray(np.array([[7, 8]], np.uint8))
    assert colours(saved(grey, tmp_path / "b.png", transparency=8)).tolist() == [[[7] * 3, [255] * 3]]


CLEAR = [
    (1, 0, [0]), (1, 0, [1]), (2, 0, [0]), (2, 0, [1]), (2, 0, [3]), (2, 0, [6]), (4, 0, [0]), (4, 0, [7]),
    (4, 0, [15]), (4, 0, [23]), (8, 0, [7]), (8, 0, [263]), (16, 0, [0x0102]), (16, 0, [0xFFFF]), (16, 0, [0]),
    (8, 2, [1, 2, 3]), (8, 2, [257, 2, 3]), (16, 2, [0x0102, 0x0102, 0x0102]), (16, 2, [0x0101, 0x0102, 0x0103]),
    (16, 2, [1, 2, 3]),
]  # fmt: skip


@pytest.mark.parametrize("opened", ["path", "picture"])
@pytest.mark.parametrize(("depth", "kind", "key"), CLEAR, ids=str)
def test_a_clear_colour_is_a_sample_as_the_file_has_it(
    tmp_path: Path, depth: int, kind: int, key: list[int], opened: str
) -> None:
    """As the PNG standard says: of all bits of a sample, and of those alone. Other grey stays what it is."""
    height, width, channels, top = 12, 16, len(key), 2**depth - 1
    rng = np.random.default_rng(depth)
    samples = rng.integers(0, min(top, 2) + 1, (height, width, channels)) + (0x0101 if depth == 16 else 0)
    samples[3:6] = rng.integers(0, top + 1, (3, width, channels))
    samples[0, ::2] = np.array(key) & top
    samples[1, ::2] = (np.array(key) & top) ^ (1 if depth < 16 else 0x0100)  # near by
    samples[2, ::2] = (np.array(key) & top) ^ 1
    bits = (samples.reshape(height, -1)[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    path = tmp_path / "a.png"
    path.write_bytes(
        png(width, height, data=zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)), depth=depth, kind=kind,
            clear=struct.pack(f">{channels}H", *key))
    )  # fmt: skip
    clear = (samples == (np.array(key) & top)).all(axis=2)
    assert 0 < clear.sum() < clear.size
    seen = samples >> 8 if depth == 16 and kind == 2 else np.round(samples * (255 / top)).astype(int)
    wanted = np.where(clear[..., None], 255, seen.repeat(3 // channels, 2))
    source = path if opened == "path" else Image.open(path)
    for _ in range(2):  # a picture is loaded by then
        np.testing.assert_array_equal(colours(open_image(source)), wanted)
    if opened == "picture":
        with path.open("rb") as file:
            picture = Image.open(file)
            for _ in range(2):
                np.testing.assert_array_equal(colours(open_image(picture)), wanted)


def test_a_url_is_refused_as_it_was_typed() -> None:
    with pytest.raises(UserError, match=r"^image https://example\.com/a\.jpg is a URL: download it first"):
        open_image("https://example.com/a.jpg")


def test_a_clear_colour_in_a_turned_picture(tmp_path: Path) -> None:
    values = np.array([[100, 200, 300], [400, 500, 600]], np.uint16)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path, exif=exif)
    content = path.read_bytes()
    chunk = b"tRNS" + struct.pack(">H", 300)
    at = content.index(b"IDAT") - 4
    packed = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:at] + packed + content[at:])
    assert colours(open_image(path))[..., 0].tolist() == [[2, 0], [2, 1], [2, 255]]


def test_one_bit(tmp_path: Path) -> None:
    bits = Image.fromarray(np.array([[0, 255, 255, 0]], np.uint8)).convert("1")
    for suffix in ("png", "bmp", "tiff"):
        assert colours(saved(bits, tmp_path / f"a.{suffix}")).tolist() == [[[0] * 3, [255] * 3, [255] * 3, [0] * 3]]


def test_cmyk(tmp_path: Path) -> None:
    cmyk = np.zeros((16, 64, 4), np.uint8)
    cmyk[:, 16:32, 0] = cmyk[:, 32:48, 3] = cmyk[:, 48:, 1] = 255
    wanted = np.array([[255, 255, 255], [0, 255, 255], [0, 0, 0], [255, 0, 255]])
    for suffix in ("jpg", "tiff"):
        options = {"quality": 100} if suffix == "jpg" else {}
        found = colours(saved(Image.fromarray(cmyk, "CMYK"), tmp_path / f"a.{suffix}", **options))
        np.testing.assert_allclose(found[8, 8::16].astype(int), wanted, atol=3)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256, 257, 32768, 65278, 65535]], np.uint16)
    found = colours(saved(Image.fromarray(values), tmp_path / f"a.{suffix}"))
    assert found[..., 0].tolist() == [[0, 1, 1, 1, 128, 254, 255]]
    assert (found == found[..., :1]).all()


def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path: Path) -> None:
    found = saved(Image.fromarray(np.array([[0, 200, 255]], np.uint16)), tmp_path / "a.png")
    assert colours(found)[0, :, 0].tolist() == [0, 1, 1]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_numbers_of_unknown_range(tmp_path: Path) -> None:
    def grey(values: list[float], kind: type) -> list[int]:
        return colours(saved(Image.fromarray(np.array([values], kind)), tmp_path / "a.tiff"))[0, :, 0].tolist()

    assert grey([0, 0.5, 1], np.float32) == [0, 128, 255]
    assert grey([-3, 128, 255], np.float32) == [0, 128, 255]
    assert grey([0, np.nan, np.inf, -np.inf, 65535], np.float32) == [0, 0, 255, 0, 255]
    assert grey([0, 128, 255], np.int32) == [0, 128, 255]
    assert grey([-9, 32768, 65535, 70000], np.int32) == [0, 128, 255, 255]
    assert grey([0, 0, 0], np.float32) == [0, 0, 0]


def test_the_first_frame_of_many(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (3, 2), (255, 0, 0)), Image.new("RGB", (3, 2), (0, 0, 255))
    for suffix in ("gif", "webp", "png", "tiff"):
        lossless = {"lossless": True} if suffix == "webp" else {}
        found = saved(first, tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **lossless)
        assert colours(found).tolist() == [[[255, 0, 0]] * 3] * 2, suffix


def test_a_picture_in_memory_is_treated_like_a_file() -> None:
    assert colours(open_image(Image.new("RGBA", (1, 1), (0, 0, 0, 0)))).tolist() == [[[255, 255, 255]]]
    image = Image.new("RGB", (2, 3))
    image.getexif()[ORIENTATION] = 6
    assert open_image(image).size == (3, 2)
    assert open_image(str(PHOTO)).size == open_image(PHOTO).size
    assert open_image(PHOTO).mode == "RGB"


def test_the_pictures_own_object_is_left_alone() -> None:
    image = Image.fromarray(noise(6, 8, 4), "RGBA")
    before = image.tobytes()
    to_pixels(open_image(image), spec(28, 56))
    assert image.mode == "RGBA"
    assert image.tobytes() == before


# --- What cannot be read ----------------------------------------------------------------------------------------------


def png(width: int, height: int, *, data: bytes = b"", depth: int = 8, kind: int = 2, clear: bytes = b"") -> bytes:
    """A PNG of any size, by default without its pixels. kind: of colour, as the header has it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    header += chunk(b"tRNS", clear) if clear else b""
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 40, 3)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jpg", b"just text", "is not in a format that Pillow reads"),
        ("a.jpg", b"", "is not in a format that Pillow reads"),
        ("a.jpg", PHOTO.read_bytes()[:5000], "cannot be read: image file is truncated"),
        ("a.jpg", PHOTO.read_bytes()[:100], "cannot be read|is not in a format"),
        ("a.png", encoded("PNG")[:500], "cannot be read: "),
        ("a.png", png(8, 8, data=b"no zlib"), "cannot be read: "),
        ("a.png", png(8, 8), "cannot be read: "),
        ("a.webp", encoded("WEBP")[:200], "cannot be read: |is not in a format"),
        ("a.gif", encoded("GIF")[:40], "cannot be read: |is not in a format"),
        ("a.png", png(10_001, 10_000), "has 10001 x 10000 pixels: at most 100 megapixels"),
        ("a.png", png(100_000, 100_000), "is too large: at most 100 megapixels"),
        ("a.png", png(2**31 - 1, 2**31 - 1), "is too large: at most 100 megapixels"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"image {path} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, struct.error, KeyError, MemoryError])
def test_whatever_a_reader_of_pillow_raises(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """Seen on damaged AVIF and DDS files, which raise none of the kinds that one would expect."""

    def load(_self: ImageFile.ImageFile) -> None:
        raise error("decoding of\ncolour planes failed")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(UserError, match=r"cannot be read: .*decoding of.*colour planes failed"):
        open_image(PHOTO)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_image(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="is not a file"):
        open_image(tmp_path)


def test_the_limit_itself_is_read() -> None:
    assert MAX_PIXELS == 100_000_000
    assert Image.MAX_IMAGE_PIXELS is not None
    assert 2 * Image.MAX_IMAGE_PIXELS > MAX_PIXELS, "Pillow's own limit would come first"


@settings(deadline=None)
@given(data=st.data())
def test_damaged_files_never_end_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(
        encoded(data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP", "DDS"])))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert open_image(path).mode == "RGB"
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017


# --- Fitting ----------------------------------------------------------------------------------------------------------


def test_the_exact_size_is_taken_as_it_is() -> None:
    pixels = noise(56, 84, 3)
    for how in ("pad", "stretch"):
        found = to_pixels(Image.fromarray(pixels), spec(56, 84, how))
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1)[None])


@pytest.mark.parametrize(
    ("photo", "wanted"),
    [
        ((400, 200), (112, 56, 0, 28)),
        ((200, 400), (56, 112, 28, 0)),
        ((10, 10), (112, 112, 0, 0)),
        ((112, 111), (112, 111, 0, 0)),
        ((100_000, 1), (112, 1, 0, 55)),
        ((1, 100_000), (1, 112, 55, 0)),
    ],
)
def test_placement(photo: tuple[int, int], wanted: tuple[int, int, int, int]) -> None:
    assert placement(photo, spec(112, 112)) == wanted
    assert placement(photo, spec(112, 112, "stretch")) == (112, 112, 0, 0)


@settings(deadline=None)
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_a_padded_photo_touches_two_borders_and_keeps_its_shape(
    width: int, height: int, rows: int, columns: int
) -> None:
    target = spec(28 * rows, 28 * columns)
    wide, high, left, top = placement((width, height), target)
    assert 1 <= wide <= target.width
    assert 1 <= high <= target.height
    assert wide == target.width or high == target.height
    assert left == (target.width - wide) // 2
    assert top == (target.height - high) // 2
    scale = min(target.width / width, target.height / height)
    assert abs(wide - width * scale) <= 1
    assert abs(high - height * scale) <= 1


def test_bars_have_the_colour_of_the_bundle() -> None:
    found = colours(fit(Image.new("RGB", (200, 100), (90, 80, 70)), spec(112, 112)))
    assert found.shape == (112, 112, 3)
    assert (found[:28] == BAR).all()
    assert (found[84:] == BAR).all()
    assert (found[28:84] == (90, 80, 70)).all()
    found = colours(fit(Image.new("RGB", (100, 200), (90, 80, 70)), spec(112, 112)))
    assert (found[:, :28] == BAR).all()
    assert (found[:, 84:] == BAR).all()
    assert (found[:, 28:84] == (90, 80, 70)).all()


def test_stretching_leaves_no_bars() -> None:
    found = colours(fit(Image.new("RGB", (200, 100), (90, 80, 70)), spec(112, 140, "stretch")))
    assert found.shape == (112, 140, 3)
    assert (found == (90, 80, 70)).all()


def test_the_same_shape_is_resized_without_bars() -> None:
    photo = Image.fromarray(noise(56, 112, 3))
    wanted = photo.resize((56, 28), Image.Resampling.BICUBIC)
    for how in ("pad", "stretch"):
        np.testing.assert_array_equal(colours(fit(photo, spec(28, 56, how))), colours(wanted))


def test_resizing_is_the_filter_of_the_bundle_and_not_a_neighbour_of_it() -> None:
    photo = Image.fromarray(noise(50, 40, 3))
    filters = {name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}
    wanted = {name: colours(photo.resize((22, 28), number)) for name, number in filters.items()}
    for name, pixels in wanted.items():
        own = spec(28, 28).model_copy(update={"resample": name})
        np.testing.assert_array_equal(colours(fit(photo, own))[:, 3:25], pixels)
        assert all((pixels != other).any() for kind, other in wanted.items() if kind != name)
    assert spec(28, 28).resample == "bicubic"


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (2, 1), (27, 3)])
@pytest.mark.parametrize("how", ["pad", "stretch"])
def test_pictures_that_are_hardly_there(tmp_path: Path, size: tuple[int, int], how: str) -> None:
    photo = saved(Image.new("RGB", size, (90, 80, 70)), tmp_path / "a.png")
    found = to_pixels(photo, spec(56, 84, how))
    assert found.shape == (1, 3, 56, 84)
    seen = {tuple(pixel) for pixel in found[0].reshape(3, -1).T.astype(int).tolist()}
    assert (90, 80, 70) in seen
    assert seen <= {(90, 80, 70), BAR}
    assert how == "pad" or seen == {(90, 80, 70)}


@pytest.mark.parametrize("size", [(1, 201), (201, 1), (3000, 14), (2, 401)])
def test_shapes_that_transformers_refuses(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="absolute aspect ratio must be smaller than 200"):
        smart_resize(size[1], size[0])
    photo, path = Image.new("RGB", size), tmp_path / "a.png"
    photo.save(path)
    says = f"has {size[0]} x {size[1]} pixels: one side may be at most 200 times as long as the other"
    for refused, name in (
        (lambda: open_image(path), f"image {path}"),
        (lambda: open_image(photo), "the image"),
        (lambda: to_pixels(photo, spec(56, 84)), "the image"),
    ):
        with pytest.raises(UserError) as caught:
            refused()
        assert str(caught.value) == f"{name} {says}"


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (400, 2), (27, 5), (20, 3000)])
def test_small_and_narrow_pictures_are_answered_as_by_transformers(size: tuple[int, int]) -> None:
    assert min(smart_resize(size[1], size[0])) >= 28
    assert to_pixels(open_image(Image.new("RGB", size)), spec(56, 84)).shape == (1, 3, 56, 84)


def test_pixels_are_channels_first() -> None:
    found = to_pixels(Image.new("RGB", (28, 28), (1, 2, 3)), spec(28, 28))
    assert [float(found[0, channel, 5, 5]) for channel in range(3)] == [1, 2, 3]


def test_a_colour_profile_is_no_obstacle(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = saved(Image.new("RGB", (2, 2), (9, 8, 7)), tmp_path / "a.png", icc_profile=profile)
    assert (colours(found) == (9, 8, 7)).all()
