"""Python's reader of manifests against the conformance files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conformance_files import read
from conformance_readers import SAYS, bundle_of, changed
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import MANIFEST_NAME, READERS, read_manifest

CASES = read("manifest/cases.json")


@pytest.mark.parametrize("case", CASES["valid"], ids=lambda case: case["file"])
def test_what_a_valid_one_says(case: dict[str, Any]) -> None:
    raw, facts = read(f"manifest/{case['file']}"), case["facts"]
    manifest = READERS[raw["schema_version"]](raw)
    found = manifest.model_dump(mode="json")
    shape = found["shapes"][0]

    def part(value: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        return {name: value[name] for name in wanted}

    for name in ("model", "target", "precision", "quantization", "vocab_size"):
        assert found[name] == facts[name]
    assert part(shape["image"], facts["image"]) == facts["image"]
    segments = [
        [one[name] for name in ("rows", "columns", "first", "stride", "box")] for one in shape["image"]["segments"]
    ]
    assert segments == facts["segments"]
    assert [part(one, facts["stages"][0]) for one in shape["stages"]] == facts["stages"]
    assert manifest.shape.num_kept == facts["num_kept"]
    sizes = ("kv_heads", "head_dim", "base", "slots")
    layers = [one.get("state") or [one[name] for name in sizes] for one in shape["kv"]["layers"]]
    assert {"update": shape["kv"]["update"], "dtype": shape["kv"]["dtype"], "layers": layers} == facts["kv"]
    assert part(found["prompt"], facts["prompt"]) == facts["prompt"]
    for step, wanted in facts["methods"].items():
        method = found["methods"][shape["methods"][step]]
        assert part(method, {"file": 0, "entry": 0, "data_file": 0}) == part(
            wanted, {"file": 0, "entry": 0, "data_file": 0}
        )
        for side in ("inputs", "outputs"):
            assert [[one["name"], one["shape"], one["dtype"]] for one in method[side]] == wanted[side]


@pytest.mark.parametrize("base", CASES["bases"] + CASES["bases_tower"])
def test_the_bases_are_bundles(tmp_path: Path, base: str) -> None:
    assert read_manifest(bundle_of(tmp_path, read(f"manifest/{base}"), {})).model == "scripted"


@pytest.mark.parametrize(
    ("base", "case"),
    [
        (base, case)
        for more in ("", "_tower", "_1")
        for base in CASES[f"bases{more}"]
        for case in CASES[f"hostile{more}"]
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value['class']} {value['field']}",
)
def test_hostile_ones_are_refused(tmp_path: Path, base: str, case: dict[str, Any]) -> None:
    manifest = changed(read(f"manifest/{base}"), case)
    with pytest.raises(UserError) as caught:
        read_manifest(bundle_of(tmp_path, manifest, case["files"]))
    line = str(caught.value)
    assert "\n" not in line
    assert re.search(SAYS.get(case["class"], case["field"]), line)


@pytest.mark.parametrize("text", CASES["texts"], ids=lambda text: text[:20])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=MANIFEST_NAME) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)
