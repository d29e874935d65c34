"""What an answer depends on: whatever of it is changed, earlier answers are not taken for new ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vlmp.evaluation import identity
from vlmp.evaluation.identity import BUNDLE_SOURCES, EAGER_SOURCES, bundle_program, eager_program, file_digest, program
from vlmp.evaluation.run import differences
from vlmp.evaluation.subjects import Subject, bundle_subjects, eager_subject
from vlmp.export.config import ExportConfig
from vlmp.export.schedule import DEFAULT_PRUNER, parse_schedule
from vlmp.runtimes.session import RUNTIMES

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"


@pytest.fixture(autouse=True)
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of vlmp-tiny in the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, "checkpoint")


def subject(**changes: Any) -> Subject:
    config = ExportConfig(model="vlmp-tiny", targets=(), output=Path(), checkpoint=Path("checkpoint"), pruner="none")
    return eager_subject(replace(config, **changes))


def append(name: str) -> None:
    path = Path("checkpoint") / name
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(b"\n")


# --- Checkpoints ------------------------------------------------------------------------------------------------------

FILES = [path.name for path in sorted(TINY.iterdir())]
MORE = [
    "chat_template.json", "processor_config.json", "video_preprocessor_config.json", "special_tokens_map.json",
    "added_tokens.json", "merges.txt", "vocab.json", "tokenizer.model", "model-00002-of-00002.safetensors",
    "additional_chat_templates/tool_use.jinja",
]  # fmt: skip


@pytest.mark.parametrize("name", [*FILES, *MORE])
def test_every_file_that_a_model_is_read_from_counts(name: str) -> None:
    before = subject()
    append(name)
    after = subject()
    assert differences(before.facts, after.facts) == [f"checkpoint {name} differs"]
    assert before.vision_key != after.vision_key
    assert before.key == after.key, "the file of answers is found, and refused"


def test_a_shard_below_the_folder_counts() -> None:
    Path("checkpoint/weights").mkdir()
    Path("checkpoint/model.safetensors").rename("checkpoint/weights/1.safetensors")
    index = {"weight_map": {"x": "weights/1.safetensors"}}
    Path("checkpoint/model.safetensors.index.json").write_text(json.dumps(index))
    before = subject()
    append("weights/1.safetensors")
    assert differences(before.facts, subject().facts) == ["checkpoint weights/1.safetensors differs"]


def test_other_files_do_not_count() -> None:
    before = subject()
    for name in ("README.md", "optimizer.pt", "checkpoint-500/model.safetensors"):
        append(name)
    assert subject().facts == before.facts
    shutil.move("checkpoint", "elsewhere")
    assert subject(checkpoint=Path("elsewhere")).facts == before.facts


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_size": (112, 112)}, "image_size differs"),
        ({"image_fit": "stretch"}, "image_fit was pad, is stretch"),
        ({"system_prompt": ""}, "system_prompt differs"),
        ({"prune_layer": 3}, "schedule was 2:1:none, is 3:1:none"),
        ({"pruner": "random,seed=7", "keep": 0.3}, "schedule was 2:1:none, is 2:0.3:random,seed=7"),
        ({"pruner": "random,seed=7", "keep": 0.3}, "pruner was none, is random,seed=7"),
        ({"pruner": "uniform", "keep": 0.3}, "pruner was none, is uniform"),
    ],
)
def test_settings_count(change: dict[str, Any], says: str) -> None:
    assert says in differences(subject().facts, subject(**change).facts)


def test_stages_count() -> None:
    """Every digit of theirs, and their settings; a file of answers has one name for one schedule."""
    plain, *others = [
        subject(pruner=DEFAULT_PRUNER, stages=parse_schedule(text))
        for text in (
            "1:0.5:random,seed=7+3:0.2:dart", "1:0.5:random,seed=8+3:0.2:dart", "1:0.5:random,seed=7+4:0.2:dart",
            "1:0.5:random,seed=7+3:0.20000001:dart", "1:0.5:random,seed=7+3:0.2:dart,pivots=2",
        )
    ]  # fmt: skip
    assert plain.facts["pruner"] == "random+dart"
    assert plain.key == plain.group == "vlmp-tiny-1-0.5-random,seed=7+3-0.2-dart"
    assert all(any("schedule was" in line for line in differences(plain.facts, other.facts)) for other in others)
    assert len({one.key for one in (plain, *others)}) == 5


def test_settings_of_a_variant_and_its_seed_are_in_its_name() -> None:
    config = ExportConfig(model="vlmp-tiny", targets=(), output=Path(), checkpoint=Path("checkpoint"), keep=0.3)
    own, listed = (subject(pruner=pruner, keep=0.3) for pruner in ("vlm-pruner", "vlm-pruner,batch=4"))
    assert (own.group, listed.group) == ("vlmp-tiny-vlm-pruner-0.3", "vlmp-tiny-vlm-pruner,batch=4-0.3")
    without = eager_subject(config, "vlm-pruner without fusion", fuse_weight=1.0)
    assert without.group == without.key == "vlmp-tiny-vlm-pruner without fusion-0.3"
    assert without.facts["schedule"] == "2:0.3:vlm-pruner,fuse_weight=1"
    seeds = [eager_subject(replace(config, pruner="random"), seed=seed) for seed in (0, 12345678)]
    assert {one.group for one in seeds} == {"vlmp-tiny-random-0.3"}
    assert [one.key for one in seeds] == ["vlmp-tiny-random-0.3-seed0", "vlmp-tiny-random-0.3-seed12345678"]
    assert [one.facts["schedule"] for one in seeds] == ["2:0.3:random,seed=0", "2:0.3:random,seed=12345678"]


def test_a_long_schedule_has_a_name_that_a_file_can_have() -> None:
    settings = "pivots=3,channels=200,bss_weight=0.25,threshold=0.75,threshold_step=0.05,batch=3"
    text = "+".join(f"{layer}:{0.7 - layer / 10:g}:vlm-pruner,{settings}" for layer in range(1, 6))
    plain, other = (
        subject(pruner=DEFAULT_PRUNER, stages=parse_schedule(text + last)) for last in ("", ",fuse_weight=0.1")
    )
    assert plain.facts["schedule"] == text
    assert plain.group.startswith("vlmp-tiny-1-0.6-vlm-pruner,")
    assert len(plain.key) < 200
    assert plain.key != other.key


def test_room_for_text_changes_no_answer() -> None:
    """It grows with the longest question: fewer or more of them must find each other's answers."""
    assert subject(text_len=100, max_new_tokens=9).facts == subject().facts


# --- Digests ----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_once_for_as_long_as_it_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = hashlib.file_digest

    def counted(stream: Any, name: str) -> Any:
        read.append(stream.name)
        return real(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    path = Path("a")
    path.write_bytes(b"one")
    assert file_digest(path) == file_digest(path) == hashlib.sha256(b"one").hexdigest()
    assert read == ["a"]
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()
    assert read == ["a", "a"]


# --- The program ------------------------------------------------------------------------------------------------------


def test_an_edited_program_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path("answering")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "steps.py").write_text("STEPS = 4\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(sys.modules, "answering", raising=False)
    before = program(["answering"], ["torch"])
    assert program(["answering"], ["torch"]) == before
    (package / "steps.py").write_text("STEPS = 55\n")
    assert differences(before, program(["answering"], ["torch"])) == ["sources differs"]
    (package / "more.py").touch()
    assert program(["answering"], ["torch"])["sources"] not in (before["sources"], "")


def test_the_sources_are_those_that_answer() -> None:
    """Of a model in PyTorch the graphs and the loop around them, of a bundle the loop alone."""
    from vlmp.evaluation import run
    from vlmp.export import geometry
    from vlmp.export import prompt as export_prompt
    from vlmp.export.models import qwen2_vl
    from vlmp.pruner import vlm_pruner
    from vlmp.runtimes import image, prompt, turn
    from vlmp.runtimes.coreml import interpreter

    digested: list[Path] = []

    def note(path: Path) -> str:
        digested.append(path.resolve())
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "file_digest", note)
        eager_program()
        eager = {module for module in (run, geometry, export_prompt, qwen2_vl, vlm_pruner, turn, prompt, image)}
        assert {Path(str(module.__file__)).resolve() for module in eager} <= set(digested)
        digested.clear()
        bundle_program("coreml")
        own = {run, turn, prompt, image, interpreter}
        assert {Path(str(module.__file__)).resolve() for module in own} <= set(digested)
    assert set(BUNDLE_SOURCES) < set(EAGER_SOURCES)


def test_the_packages_of_every_runtime_are_known() -> None:
    """Or another version of one would go on with the answers of the old."""
    assert set(identity.RUNTIME_PACKAGES) == set(RUNTIMES)


@pytest.mark.parametrize(
    ("package", "programs"),
    [
        ("torch", [eager_program, lambda: bundle_program("executorch")]),
        ("transformers", [eager_program]),
        ("tokenizers", [eager_program, lambda: bundle_program("onnx")]),
        ("pillow", [eager_program, lambda: bundle_program("coreml")]),
        ("onnxruntime", [lambda: bundle_program("onnx")]),
        ("executorch", [lambda: bundle_program("executorch")]),
    ],
)
def test_another_version_of_what_computes_is_another_program(
    monkeypatch: pytest.MonkeyPatch, package: str, programs: list[Callable[[], dict[str, str]]]
) -> None:
    before = [make() for make in programs]
    real = identity.package_version
    monkeypatch.setattr(identity, "package_version", lambda name: "9.9" if name == package else real(name))
    for make, known in zip(programs, before, strict=True):
        assert differences(known, make()) == [f"{package} was {known[package]}, is 9.9"]


def test_a_bundle_is_its_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmp.evaluation import subjects

    Path("bundle").mkdir()
    manifest = Path("bundle/manifest.json")
    manifest.write_text(json.dumps({"a": 1}))
    monkeypatch.setattr(subjects, "read_manifest", lambda _: type("Read", (), {"target": "onnx"}))
    (before,) = bundle_subjects([Path("bundle")], None)
    manifest.write_text(json.dumps({"a": 22}))
    (after,) = bundle_subjects([Path("bundle")], None)
    assert differences(before.facts, after.facts) == ["manifest differs"]
    assert before.vision_key != after.vision_key
