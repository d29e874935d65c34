"""libvlmp as apps use it: its answers are the runner's and Python's, and nothing that an app does brings it down.

calls.cpp asks through vlmp.h alone; docs/ask.c is the program of docs/libvlmp.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_cases import PHOTO, ROOT, answer, build_script
from PIL import Image
from vlmp.runtimes import Answer, Chat, load
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.image import open_image

Tiny = Callable[[str], Path]
PROMPT, REPLY = "What is in this picture?", "How many are there?"
HEADER = ROOT / "runtimes/native/include/vlmp.h"
SOURCE = ROOT / "docs/ask.c"
C99 = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
CHECKS = [
    "stop_from_the_callback", "stop_from_another_thread", "stop_before_the_first_token", "stop_when_nothing_runs",
    "two_threads_with_one_handle", "two_handles_in_two_threads", "numbers_of_threads", "callbacks_that_call",
    "callbacks_that_throw", "handles_that_are_closed", "close_while_answering", "handles_that_stay_open", "resetting",
    "wrong_arguments", "memory_that_runs_out", "the_process_is_left_alone",
]  # fmt: skip
OUTSIDE = {"memory_that_runs_out"}
"""Not for the sanitizers, which take an address space of terabytes."""


def run(*command: str | Path) -> str:
    """What it prints on stdout. Nothing may be on stderr: the library writes nowhere."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def told(build: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = json.loads(run(build / "calls", *arguments))
    return answers


def python_answers(bundle: Path, photo: Path) -> tuple[Answer, Answer]:
    chat = Chat(load(bundle, threads=1))
    return chat.ask(photo, PROMPT), chat.reply(REPLY)


@pytest.fixture
def other(request: pytest.FixtureRequest, tiny: Tiny, photo: Path, tmp_path: Path) -> Path:
    """What a check of calls.cpp needs beside a bundle and a photo."""
    check = request.node.callspec.params["check"]
    if check == "wrong_arguments":
        (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:5000])
        return tmp_path / "cut.png"
    if check == "the_process_is_left_alone":
        broken = Path(shutil.copytree(tiny("pruned"), tmp_path / "broken"))
        (broken / "model.pte").write_bytes(bytes((broken / "model.pte").stat().st_size))
        return broken
    return tiny("unpruned")


# --- The same answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pruned", "unpruned", "int4", "staged"])
def test_answers_are_the_runners_and_pythons(host: Path, tiny: Tiny, photo: Path, tmp_path: Path, name: str) -> None:
    first, second = told(host, "tell", tiny(name), photo, PROMPT, REPLY)
    runner = answer([host / "vlmp_runner"], tiny(name), photo, tmp_path, "--prompt", PROMPT, "--reply", REPLY)
    assert [first["tokens"], second["tokens"]] == runner.tokens
    assert f"{first['text']}\n{second['text']}\n" == runner.text
    assert (first["kept"], first["stages"], first["order"]) == (runner.kept, runner.stages, runner.order)
    python = python_answers(tiny(name), photo)
    for ours, wanted in zip((first, second), python, strict=True):
        assert (ours["text"], ours["tokens"], ours["stopped"]) == (wanted.text, wanted.token_ids, 0)
        assert (ours["kept"], ours["order"]) == (wanted.kept.tolist(), wanted.order.tolist())
        assert ours["stages"] == [kept.tolist() for kept in wanted.stages]
        assert ours["decoded_tokens"] == wanted.timings.decoded_tokens
        load_ms, *phases, first_token_ms = ours["ms"]
        assert load_ms > 0
        assert first_token_ms == sum(phases[:3])
        assert [ms > 0 for ms in phases] == [ours is first, ours is first, True, ours["decoded_tokens"] > 0]
    image = read_manifest(tiny(name)).shape.image
    assert (first["visual_tokens"], first["grid"]) == (image.visual_tokens, [6, 6])
    assert (first["image"], first["photo"]) == ([168, 168], [0, 28, 168, 112])  # of 600 x 400, with bars
    assert (second["visual_tokens"], second["grid"], second["photo"]) == (0, [0, 0], [0, 0, 0, 0])


@pytest.mark.parametrize("padding", [0, 1, 37])
def test_pixels_with_a_stride(host: Path, tiny: Tiny, photo: Path, tmp_path: Path, padding: int) -> None:
    """What is between the rows is noise; after the last one there is nothing."""
    pixels = np.asarray(open_image(photo))
    height, width, _ = pixels.shape
    rows = np.random.default_rng(0).integers(0, 256, (height, 3 * width + padding), np.uint8)
    rows[:, : 3 * width] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    (tmp_path / "rgb").write_bytes(raw[: len(raw) - padding])
    stride = str(3 * width + padding if padding else 0)
    (found,) = told(host, "pixels", tiny("pruned"), tmp_path / "rgb", str(width), str(height), stride, PROMPT)
    wanted, _ = told(host, "tell", tiny("pruned"), photo, PROMPT, REPLY)
    assert {**found, "ms": None} == {**wanted, "ms": None}


@pytest.mark.parametrize("name", ["pruned", "unpruned", "int4", "staged"])
def test_facts_of_a_bundle(host: Path, tiny: Tiny, name: str) -> None:
    before, after = told(host, "facts", tiny(name))
    assert before == after
    manifest = read_manifest(tiny(name))
    image, prompt = manifest.shape.image, manifest.prompt
    assert before == {
        "model": "vlmp-tiny", "checkpoint": manifest.checkpoint, "target": "executorch", "precision": "float32",
        "quantization": manifest.quantization, "num_stages": len(manifest.shape.stages),
        "pruner": "+".join(stage.pruner for stage in manifest.shape.stages), "visual_tokens": image.visual_tokens,
        "kept_tokens": manifest.shape.num_kept, "image": [168, 168], "grid": [6, 6],
        "max_prompt_tokens": prompt.text_len, "max_new_tokens": prompt.max_new_tokens,
        "bundle_bytes": sum(entry.size_bytes for entry in manifest.files),
    }  # fmt: skip


def test_facts_of_a_bundle_of_schema_1(host: Path) -> None:
    (before, _) = told(host, "facts", ROOT / "tests/runtimes/bundle/schema_1/executorch")
    assert (before["grid"], before["visual_tokens"], before["kept_tokens"]) == ([4, 4], 16, 8)
    assert before["pruner"] == "vlm-pruner"


# --- Stops, threads, callbacks, handles, arguments --------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_calls(host: Path, tiny: Tiny, photo: Path, other: Path, check: str) -> None:
    assert run(host / "calls", check, tiny("pruned"), photo, other) == "good\n"


@pytest.mark.parametrize("check", [check for check in CHECKS if check not in OUTSIDE])
def test_calls_under_the_sanitizers(sanitizers: Path, tiny: Tiny, photo: Path, other: Path, check: str) -> None:
    assert run(sanitizers / "calls", check, tiny("pruned"), photo, other) == "good\n"


def test_every_check_is_made() -> None:
    source = Path(__file__).with_name("calls.cpp").read_text(encoding="utf-8")
    assert re.findall(r'^    \{"(\w+)", \1\},$', source, re.M) == CHECKS


# --- Header, libraries, package ---------------------------------------------------------------------------------------


def test_the_shared_library_shows_the_header_and_nothing_else(host: Path) -> None:
    listed = run("nm", "-D", "--defined-only", host / "libvlmp.so")
    names = sorted(line.split()[-1] for line in listed.splitlines())
    declared = re.findall(r"^VLMP_API [^(]*?(\w+)\(", HEADER.read_text(encoding="utf-8"), re.M)
    assert names == sorted(declared)
    assert len(names) == 14


def test_the_library_does_not_touch_the_process() -> None:
    """No words of ours for the terminal, no handlers, no end of the process: these are the runner's."""
    words = re.compile(r"\b(std::cout|std::cerr|printf|fputs|std::signal|sigaction|set_terminate|_?_?[eE]xit|abort)\b")
    found = [
        (path.name, match[0])
        for path in (ROOT / "runtimes/native/lib").glob("*.cpp")
        for match in words.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_alone(tmp_path: Path, language: str) -> None:
    options = C99 if language == "c" else ("-std=c++98", *C99[1:])
    (tmp_path / "alone").write_text("#include <vlmp.h>\nint f(void) { return (int)vlmp_default_turn().size; }\n")
    compiler = ("gcc" if language == "c" else "g++", "-x", language)
    told_nothing = run(*compiler, *options, "-I", HEADER.parent, "-c", tmp_path / "alone", "-o", tmp_path / "alone.o")
    assert told_nothing == ""
    assert (tmp_path / "alone.o").is_file()


PROJECT = """
cmake_minimum_required(VERSION 3.28)
project(app LANGUAGES C {more})
set(CMAKE_C_STANDARD 99)
set(CMAKE_C_EXTENSIONS OFF)
find_package(vlmp 0.1 REQUIRED)
add_executable(ask {source})
target_compile_options(ask PRIVATE -Wall -Wextra -Werror -pedantic)
target_link_libraries(ask PRIVATE vlmp::{target})
"""


@pytest.mark.parametrize("target", ["vlmp", "static"])
def test_an_app_finds_the_package(host: Path, tiny: Tiny, photo: Path, tmp_path: Path, target: str) -> None:
    """The installed folder was moved, and knows nothing of where it was built."""
    moved = Path(shutil.copytree(host / "dist", tmp_path / "moved"))
    project = PROJECT.format(source=SOURCE, target=target, more="CXX" if target == "static" else "")
    (tmp_path / "CMakeLists.txt").write_text(project, encoding="utf-8")
    cmake = build_script()._cmake()
    make = f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja', path=str(Path(sys.executable).parent))}"
    configure = [cmake, "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja", make, f"-DCMAKE_PREFIX_PATH={moved}"]
    for command in (configure, [cmake, "--build", tmp_path / "build"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    loaded = run("ldd", tmp_path / "build/ask")
    ours = re.findall(r"^\s*lib(?:vlmp|executorch\w*)\.so => (.*?) \(", loaded, re.M)
    assert len(ours) == (7 if target == "vlmp" else 6)
    assert all(Path(path).resolve().is_relative_to(moved) for path in ours), loaded
    assert_asks(tmp_path / "build/ask", host, tiny("pruned"), photo, tmp_path)


def test_the_program_of_the_documentation(host: Path, tiny: Tiny, photo: Path, tmp_path: Path) -> None:
    """With one line of a compiler, as docs/libvlmp.md has it."""
    page = (ROOT / "docs/libvlmp.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^gcc (?:[^\n]*\\\n)*[^\n]*$", page, re.M)
    assert all(option in line for option in C99)
    dist = host / "dist"
    command = line.replace("\\\n", " ").replace("build/native/host/dist", str(dist)).replace("docs/ask.c", str(SOURCE))
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert_asks(tmp_path / "ask", host, tiny("pruned"), photo, tmp_path)
    for arguments, message in (
        ((tmp_path, photo, "a", "b"), f"{tmp_path} is not a bundle: it has no manifest.json"),
        ((tiny("pruned"), tmp_path / "none.png", "a", "b"), f"image {tmp_path}/none.png does not exist"),
    ):
        done = subprocess.run([tmp_path / "ask", *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", message + "\n")


def assert_asks(program: Path, host: Path, bundle: Path, photo: Path, scratch: Path) -> None:
    lines = run(program, bundle, photo, PROMPT, REPLY).splitlines()
    runner = answer([host / "vlmp_runner"], bundle, photo, scratch, "--prompt", PROMPT, "--reply", REPLY)
    first, second = python_answers(bundle, photo)
    assert [lines[0], lines[3]] == runner.text.splitlines() == [first.text, second.text]
    assert runner.kept == first.kept.tolist()
    assert lines[1] == "kept 9 of 36: " + " ".join(map(str, runner.kept))
    assert re.fullmatch(r"\d+ ms to the first token", lines[2])


def test_a_photo_on_its_side(host: Path, tiny: Tiny, tmp_path: Path) -> None:
    """It lies on its side, as EXIF tells: kept tokens are of the upright picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(PHOTO).save(tmp_path / "side.png", exif=exif)
    found, _ = told(host, "tell", tiny("pruned"), tmp_path / "side.png", PROMPT, REPLY)
    assert found["kept"] == Chat(load(tiny("pruned"), threads=1)).ask(tmp_path / "side.png", PROMPT).kept.tolist()
    assert found["photo"] == [28, 0, 112, 168]
