"""The Swift targets of the app, which need no Apple system: Core ML's bookkeeping and the model behind the pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import swift
from bundle_cases import with_tensors
from step_bundles import shared_folder, step_bundle

pytestmark = pytest.mark.ios

BUNDLES = ("onnx-pruned", "onnx-unpruned", "onnx-staged")


def like_coreml(bundle: Path) -> str:
    """The manifest that the same model would have for Core ML, in float32."""
    raw = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    raw["target"] = "coreml"
    raw["shapes"][0]["kv"]["update"] = "rows"
    for name, method in raw["methods"].items():
        method["entry"] = name
    return json.dumps(with_tensors(raw))


def test_the_apps_targets_pass_their_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    bundles, rows = shared_folder(tmp_path_factory), tmp_path_factory.mktemp("rows")
    try:
        built = swift.run("build", "--build-tests", capture=True)
    except swift.Missing as missing:
        pytest.skip(str(missing))
    assert built.returncode == 0, (built.stdout + built.stderr)[-4000:]
    for name in BUNDLES:
        (rows / f"{name}.json").write_text(like_coreml(step_bundle(bundles, name)), encoding="utf-8")
    variables = {"VLMP_BUNDLES": str(bundles), "VLMP_ROWS": str(rows)}
    done = swift.run(
        "test", "--skip-build", "--filter", "VlmpAppTests",
        capture=True, environment=variables, seen=(bundles, rows),
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-6000:]
    passed = re.search(r"Test run with (\d+) tests? passed", told)
    assert passed is not None, told[-2000:]
    assert int(passed[1]) >= 30
    assert "skipped" not in told
