"""vlmp-web in Node: its own tests, on bundles that are exported here, and what comes of them in Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import build_web
import jsonschema
import pytest
from family_cases import CASES, family_bundles
from step_bundles import shared_folder, step_bundle
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.schema import json_schema, read_profile
from web_cases import outcomes, ready

PACKAGE = build_web.SOURCE / "vlmp-web"
BUNDLES = ("onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4")


@dataclass
class Tested:
    """What a run of the package's tests has left. outcomes: test -> "ok", "not ok" or "skipped"."""

    outcomes: dict[str, str]
    profile: Path
    log: str


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Tested:
    """The package's tests, run once with real bundles."""
    ready()
    bundles = shared_folder(tmp_path_factory)
    for name in BUNDLES:
        step_bundle(bundles, name)
    profile = tmp_path_factory.mktemp("profile") / "profile.json"
    done = subprocess.run(
        ["npm", "test"], cwd=PACKAGE, capture_output=True, text=True, check=False,
        env=os.environ
        | {
            "VLMP_BUNDLES": str(bundles), "VLMP_FAMILIES": str(family_bundles(tmp_path_factory)),
            "VLMP_PROFILE": str(profile),
        },
    )  # fmt: skip
    return Tested(outcomes(done.stdout), profile, done.stdout + done.stderr)


def test_all_pass(tested: Tested) -> None:
    bad = [name for name, outcome in tested.outcomes.items() if outcome != "ok"]
    assert len(tested.outcomes) > 400, tested.log[-4000:]
    assert bad == [], tested.log[-4000:]
    assert {f"answers as Python does: {name}" for name in CASES} <= tested.outcomes.keys()


def test_its_benchmark_is_imported(tested: Tested, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.validate(json.loads(tested.profile.read_bytes()), json.loads(json_schema()))
    out = tmp_path / "out.json"
    main(["--device", "browser", "--import", str(tested.profile), "--json", str(out)])
    profile = read_profile(out)
    assert [bundle.name for bundle in profile.bundles] == ["onnx-unpruned", "onnx-pruned"]
    assert [bundle.manifest.kept_tokens for bundle in profile.bundles] == [36, 9]
    assert list(profile.machine.runtimes) == ["onnxruntime-web"]
    assert "onnx-pruned" in capsys.readouterr().out


def test_types_and_format() -> None:
    ready()
    done = subprocess.run(["npm", "run", "check"], cwd=build_web.SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_npm_packs_what_it_exports() -> None:
    ready()
    pack = ["npm", "pack", "--dry-run", "--json", "--workspace", "vlmp-web"]
    done = subprocess.run(pack, cwd=build_web.SOURCE, capture_output=True, text=True, check=True)
    packed = {file["path"] for file in json.loads(done.stdout)[0]["files"]}
    exported = json.loads((PACKAGE / "package.json").read_bytes())["exports"]["."].values()
    assert {path.removeprefix("./") for path in exported} <= packed
    assert {path.split("/")[0] for path in packed} == {"README.md", "package.json", "dist"}


def test_without_a_network_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready()
    for name in ("package.json", "package-lock.json", "vlmp-web/package.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(build_web.SOURCE / name, tmp_path / name)
    monkeypatch.setattr(build_web, "SOURCE", tmp_path)
    settings = {"registry": "http://127.0.0.1:9", "cache": str(tmp_path / "cache"), "fetch_retries": "0"}
    for name, value in settings.items():
        monkeypatch.setenv(f"npm_config_{name}", value)
    with pytest.raises(build_web.Missing, match=r"^npm cannot download .*: ECONNREFUSED$"):
        build_web.install_packages()


def test_without_node_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build_web.Missing, match=r"^node is missing: install Node 20"):
        build_web.install_packages()
