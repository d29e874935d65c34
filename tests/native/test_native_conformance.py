"""The C++ readers against the conformance files, which every port reads."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance_files import FOLDER, read
from conformance_readers import (
    REFUSED,
    SAYS,
    bundle_of,
    changed,
    check_logits,
    code_points,
    grouped,
    refused_tokenizers,
)
from native_cases import answer
from step_bundles import shared_folder, step_bundle

MANIFESTS = read("manifest/cases.json")
OWN = {
    "stages": r"stages|pruner\.",
    "tensors": "does not follow|is unknown or there twice|must have|is too large|float16.* this vlmp needs",
}  # fmt: skip
"""Where it says it otherwise than Python."""


def asked(host: Path, task: str, *arguments: str | Path, given: Any = None) -> Any:
    done = subprocess.run(
        [host / "probe", task, *arguments], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["tiny", "trained", "older", "llama", "smollm", "llama3"])
def test_tokenizers(host: Path, name: str) -> None:
    cases, path = read(f"tokenizer/{name}/cases.json"), FOLDER / f"tokenizer/{name}/tokenizer.json"
    texts = [case[0] for case in cases["encode"]]
    found = asked(host, "encode", path, given=texts)
    assert found == [case[1] for case in cases["encode"]]
    assert asked(host, "decode", path, given=found) == [
        case[2] if len(case) == 3 else case[0] for case in cases["encode"]
    ]
    ids = [case[0] for case in cases["decode"]]
    assert asked(host, "decode", path, given=ids) == [case[1] for case in cases["decode"]]
    points = code_points(name)
    assert asked(host, "encode", path, given=[point for point, _ in points]) == [ids for _, ids in points]


@pytest.mark.parametrize(("base", "case"), refused_tokenizers(), ids=str)
def test_tokenizers_that_are_refused(host: Path, tmp_path: Path, base: str, case: dict[str, Any]) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(changed(json.loads((FOLDER / f"tokenizer/{base}/tokenizer.json").read_bytes()), case)))
    done = subprocess.run([host / "probe", "encode", path], input="[]", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout
    assert str(path) in done.stderr


def test_streams(host: Path) -> None:
    cases = read("stream/cases.json")["cases"]
    for name in ("tiny", "trained", "llama"):
        own = [case for case in cases if case["tokenizer"] == name]
        path = FOLDER / f"tokenizer/{name}/tokenizer.json"
        assert asked(host, "stream", path, given=[case["ids"] for case in own]) == [case["chunks"] for case in own]


def test_prompts(host: Path) -> None:
    for (name, template, control, meant), cases in grouped(read("prompt/cases.json")["cases"]):
        path = FOLDER / f"tokenizer/{name}/tokenizer.json"
        # An empty list stands for all special tokens.
        listed = list(control) or [
            one["content"] for one in json.loads(path.read_bytes())["added_tokens"] if one["special"]
        ]
        found = asked(
            host, "turn", path, template, json.dumps([] if meant else listed), given=[case["prompt"] for case in cases]
        )
        for case, ids in zip(cases, found, strict=True):
            if "refused" in case:
                assert "makes a control token of it" in ids
            else:
                assert ids == case["ids"], case


@pytest.mark.parametrize("case", read("picture/cases.json")["cases"], ids=lambda case: case["name"])
def test_pictures(host: Path, case: dict[str, Any]) -> None:
    size = (str(case["height"]), str(case["width"]))
    how = (case["fit"], *map(str, case["pad_rgb"]), case["resample"])
    command = [host / "probe", "fit", FOLDER / "picture" / case["file"], *size, *how]
    done = subprocess.run(command, capture_output=True, check=True)
    found = np.frombuffer(done.stdout.partition(b"\n")[2], np.uint8).astype(int)
    wanted = np.fromfile(FOLDER / "picture" / case["fitted"], np.uint8)
    assert np.abs(found - wanted).max() <= case["most"]


@pytest.mark.parametrize("case", read("picture/cases.json")["refused"], ids=lambda case: case["file"])
def test_pictures_that_are_none(host: Path, case: dict[str, Any]) -> None:
    command = [host / "probe", "picture", FOLDER / "picture" / case["file"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert re.search(REFUSED[case["refused"]], done.stderr)


def test_samples(host: Path) -> None:
    cases = read("sampler/cases.json")
    for case in cases["cases"]:
        values = (str(case["temperature"]), str(case["top_p"]), case["seed"], str(len(case["tokens"])))
        assert asked(host, "pick", *values, given=cases["logits"][case["logits"]]) == case["tokens"], case


@pytest.mark.parametrize("case", MANIFESTS["valid"], ids=lambda case: case["file"])
def test_valid_manifests(host: Path, case: dict[str, Any]) -> None:
    path, facts = FOLDER / "manifest" / case["file"], case["facts"]
    if facts["target"] != "executorch":
        done = subprocess.run([host / "probe", "facts", path], capture_output=True, text=True, check=False)
        assert done.stderr == f"probe: {path}: target is '{facts['target']}': this vlmp runs executorch\n"
        return
    del facts["segments"], facts["kv"]["update"], facts["kv"]["dtype"]
    assert asked(host, "facts", path) == facts


@pytest.mark.parametrize(
    ("base", "case"),
    [("rows", case) for case in MANIFESTS["hostile"]]
    + [("tower-rows", case) for case in MANIFESTS["hostile_tower"]]
    + [("schema-1-executorch", case) for case in MANIFESTS["hostile_1"]],
    ids=lambda value: value if isinstance(value, str) else f"{value['class']} {value['field']}",
)
def test_hostile_manifests_of_all_ports(host: Path, tmp_path: Path, base: str, case: dict[str, Any]) -> None:
    folder = bundle_of(tmp_path, changed(read(f"manifest/{base}.json"), case), case["files"])
    done = subprocess.run([host / "probe", "bundle", folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout
    says = {**SAYS, **OWN}.get(case["class"], case["field"])
    assert re.search(says, done.stderr), done.stderr


@pytest.mark.parametrize("text", MANIFESTS["texts"], ids=lambda text: text[:20])
def test_texts_that_are_no_manifest(host: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    done = subprocess.run([host / "probe", "bundle", tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "manifest.json" in done.stderr


@pytest.mark.parametrize("name", ["pruned", "unpruned", "staged"])
def test_steps(host: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: str) -> None:
    """The runner's own turns: what it keeps, its tokens, and the logits before each of them."""
    expected = read("steps/cases.json")["expected"][name]
    bundle = step_bundle(shared_folder(tmp_path_factory), f"executorch-{name}")
    for conversation in expected["conversations"]:
        first, second = conversation["turns"]
        options = ["--prompt", first["prompt"], "--reply", second["prompt"]]
        if first["limit"] != second["limit"]:
            continue  # the runner has one limit for all turns
        if first["limit"]:
            options += ["--max-new-tokens", str(first["limit"])]
        photo = FOLDER / "steps" / conversation["photo"]
        told = answer([host / "vlmp_runner"], bundle, photo, tmp_path, *options)
        assert told.tokens == [first["tokens"], second["tokens"]]
        assert told.stages == first["stages"]
        assert told.order == first["order"]
        check_logits(expected, first["first_row"], told.logits)
