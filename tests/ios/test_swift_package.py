"""The Swift package: its own tests, on bundles that are exported here, and its command line tool against Python."""

from __future__ import annotations

import json
import re
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any

import jsonschema
import pytest
import swift
from family_cases import CASES, family_bundles
from PIL import Image
from step_bundles import shared_folder, step_bundle
from vlmp.runtimes import Chat, load
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.schema import json_schema, read_profile

pytestmark = pytest.mark.ios

BUNDLES = ("onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4")
PHOTO = swift.ROOT / "tests/conformance/files/steps/photo-1.png"
PROMPTS = ("What is in this picture?", "What colour is it?")


@dataclass
class Tested:
    """What a run of the package's tests has left. outcomes: test -> passed, failed or skipped."""

    bundles: Path
    families: Path
    outcomes: dict[str, str]
    profile: Path
    log: str


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Tested:
    """Tool and tests, built once, and the tests run once with real bundles."""
    bundles = shared_folder(tmp_path_factory)
    profile = tmp_path_factory.mktemp("swift") / "profile.json"
    try:
        built = swift.run("build", "--build-tests", capture=True, seen=(bundles, profile.parent))
    except swift.Missing as missing:
        pytest.skip(str(missing))
    assert built.returncode == 0, (built.stdout + built.stderr)[-4000:]
    for name in BUNDLES:
        step_bundle(bundles, name)
    variables = {"VLMP_BUNDLES": str(bundles), "VLMP_PROFILE": str(profile)}
    done = swift.run("test", "--skip-build", capture=True, environment=variables, seen=(bundles, profile.parent))
    log = done.stdout + done.stderr
    outcomes = dict(re.findall(r"^Test Case '(\S+)' (passed|failed|skipped)", log, re.MULTILINE))
    return Tested(bundles, family_bundles(tmp_path_factory), outcomes, profile, log)


def tool(tested: Tested, *arguments: object, image: Path = PHOTO) -> subprocess.CompletedProcess[str]:
    """vlmp-swift, asked about an image unless the arguments have their own."""
    given = [str(argument) for argument in arguments]
    shown = [] if "--image" in given else ["--image", str(image)]
    return swift.tool(*shown, *given, capture=True, seen=(tested.bundles, tested.families, image.parent))


def answers(tested: Tested, bundle: Path, image: Path = PHOTO) -> list[dict[str, Any]]:
    first, second = PROMPTS
    done = tool(tested, bundle, "--prompt", first, "--reply", second, "--threads", 1, "--json", image=image)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["answers"]
    return found


# --- The package's own tests ------------------------------------------------------------------------------------------


def test_all_pass(tested: Tested) -> None:
    assert len(tested.outcomes) > 40, tested.log[-4000:]
    assert {name: outcome for name, outcome in tested.outcomes.items() if outcome != "passed"} == {}, tested.log[-4000:]
    assert "Executed 0 tests" not in tested.log


def test_its_benchmark_is_imported(tested: Tested, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.validate(json.loads(tested.profile.read_bytes()), json.loads(json_schema()))
    out = tmp_path / "out.json"
    main(["--device", "ios", "--import", str(tested.profile), "--json", str(out)])
    profile = read_profile(out)
    assert [bundle.name for bundle in profile.bundles] == ["onnx-unpruned", "onnx-pruned"]
    assert [bundle.manifest.kept_tokens for bundle in profile.bundles] == [36, 9]
    assert "onnx-pruned" in capsys.readouterr().out


# --- vlmp-swift -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*BUNDLES, *CASES])
def test_it_answers_as_python_does(tested: Tested, name: str) -> None:
    bundle = (tested.families if name in CASES else tested.bundles) / name
    chat = Chat(load(bundle, threads=1))
    expected = [chat.ask(PHOTO, PROMPTS[0]), chat.reply(PROMPTS[1])]
    for found, answer in zip(answers(tested, bundle), expected, strict=True):
        assert found["text"] == answer.text
        assert found["token_ids"] == answer.token_ids
        assert found["kept"] == answer.kept.tolist()
        assert found["order"] == answer.order.tolist()
        assert found["stages"] == [stage.tolist() for stage in answer.stages]
        assert len(found["decode_ms"]) == len(answer.token_ids) - 1


def test_an_answer_streams_to_standard_output(tested: Tested) -> None:
    first, second = PROMPTS
    done = tool(tested, tested.bundles / "onnx-pruned", "--prompt", first, "--reply", second, "--threads", 1)
    assert done.stdout.splitlines() == [answer["text"] for answer in answers(tested, tested.bundles / "onnx-pruned")]
    assert "vlmp-swift: kept 9 of 36 visual tokens\n" in done.stderr


def test_an_interlaced_photo_is_the_same_photo(tested: Tested, tmp_path: Path) -> None:
    path = tmp_path / "interlaced.png"
    with Image.open(PHOTO) as photo:
        path.write_bytes(interlaced(photo.convert("RGB")))
    with Image.open(path) as again, Image.open(PHOTO) as photo:
        assert again.convert("RGB").tobytes() == photo.convert("RGB").tobytes()
    keys = ("token_ids", "order")
    found, expected = (answers(tested, tested.bundles / "onnx-pruned", image) for image in (path, PHOTO))
    assert [[answer[key] for key in keys] for answer in found] == [[answer[key] for key in keys] for answer in expected]


def interlaced(photo: Image.Image) -> bytes:
    """A PNG in seven passes, which Pillow reads but does not write."""
    lines = b""
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        for row in range(top, photo.height, down):
            pixels = [bytes(photo.getpixel((column, row))) for column in range(left, photo.width, across)]  # type: ignore[arg-type]
            lines += b"\0" + b"".join(pixels)
    header = pack(">IIBBBBB", photo.width, photo.height, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("", "--prompt is missing; --help tells more"),
        ("--prompt", "--prompt needs a value"),
        ("--prompt Why? --frobnicate", "--frobnicate is unknown; --help tells more"),
        ("--prompt Why? --prompt Why?", "--prompt is there twice: further questions are given by --reply"),
        ("--prompt Why? --max-new-tokens 0", "--max-new-tokens '0': must be a whole number from 1"),
        ("--prompt Why? --temperature nan", "--temperature 'nan': must be a number from 0 to 100"),
        ("--prompt Why? --max-new-tokens 33", "An answer of 33 tokens: this bundle allows 1 to 32."),
        ("--prompt _", "The question is empty: ask something about the picture."),
        (f"--prompt {'Why?_' * 40}", "The question has 120 tokens, this bundle takes up to 26: shorten it."),
        ("--prompt Why? another", "'another': there is a bundle already, "),
        ("--prompt Why? --image nothing.png", "image nothing.png cannot be read"),
        ("--prompt Why? --image 444.jpg", "The photo is no PNG: other formats are read on Apple's systems only."),
        ("--prompt Why? --image too-wide.png", "The photo has 201 x 1 pixels: one side may be at most 200 times"),
    ],
)
def test_bad_input_is_one_line(tested: Tested, options: str, line: str) -> None:
    photos = swift.ROOT / "tests/conformance/files/picture"
    arguments = [option.replace("_", " ") for option in options.split()]
    paths = [photos / option if (photos / option).is_file() else option for option in arguments]
    refused(tool(tested, tested.bundles / "onnx-pruned", *paths), line)


def test_what_is_no_bundle_is_one_line(tested: Tested) -> None:
    refused(tool(tested, "--prompt", "Why?"), "the bundle is missing; --help tells more")
    refused(tool(tested, "nowhere", "--prompt", "Why?"), "nowhere/manifest.json does not exist: is this the folder of")


def refused(done: subprocess.CompletedProcess[str], line: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"vlmp-swift: {line}")


# --- The toolchain ----------------------------------------------------------------------------------------------------


def test_no_mounts_are_left(tested: Tested) -> None:
    assert str(swift.SYSTEM) not in Path("/proc/mounts").read_text(encoding="utf-8")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift, "CACHE", tmp_path)
    monkeypatch.setattr(swift, "SYSTEM", tmp_path / "swift-trixie")
    monkeypatch.setattr(swift.shutil, "which", lambda name: None if name == "debootstrap" else f"/usr/bin/{name}")
    monkeypatch.setattr(swift.os, "geteuid", lambda: 0)
    with pytest.raises(swift.Missing, match="apt-get install debootstrap"):
        swift.debian()
    monkeypatch.setattr(swift.os, "geteuid", lambda: 1000)
    with pytest.raises(swift.Missing, match="be root"):
        swift.debian()
