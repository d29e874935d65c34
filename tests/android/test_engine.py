"""The Kotlin engine: its own tests, on bundles that are exported here, and what comes of them in Python."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import build_apk
import jsonschema
import pytest
from step_bundles import shared_folder, step_bundle
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.schema import json_schema, read_profile

pytestmark = pytest.mark.android

ENGINE = build_apk.SOURCE / "engine"
BUNDLES = ("onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4")
EXPECTED_SKIPS = ["conversations from a photo and words to text(String)[4]"]
"""Rounding may turn a near tie of int4, after which answers differ."""


@dataclass
class Tested:
    """What a run of the engine's tests has left. outcomes: test -> passed, failed or skipped."""

    outcomes: dict[str, str]
    profile: Path
    log: str


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Tested:
    """The engine's tests, run once with real bundles."""
    for program in ("mvn", "javac"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install maven openjdk-17-jdk-headless")
    bundles = shared_folder(tmp_path_factory)
    for name in BUNDLES:
        step_bundle(bundles, name)
    profile = tmp_path_factory.mktemp("profile") / "profile.json"
    build_apk.OUTPUT.mkdir(parents=True, exist_ok=True)
    with (build_apk.OUTPUT / "lock").open("w") as lock:  # the APK is built in the same folders
        fcntl.flock(lock, fcntl.LOCK_EX)
        reports = build_apk.OUTPUT / "maven/engine/surefire-reports"
        shutil.rmtree(reports, ignore_errors=True)
        command = ["mvn", "-B", "-q", "-T1", "-f", build_apk.SOURCE, "-pl", "engine", "test"]
        settings = [f"-Dvlmp.bundles={bundles}", f"-Dvlmp.profile={profile}"]
        done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False)
        outcomes = {
            case.get("name", ""): next(
                (child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed"
            )
            for report in reports.glob("TEST-*.xml")
            for case in ElementTree.parse(report).iter("testcase")
        }
    return Tested(outcomes, profile, done.stdout + done.stderr)


def test_all_pass(tested: Tested) -> None:
    bad = [name for name, outcome in tested.outcomes.items() if outcome in ("failure", "error")]
    assert tested.outcomes, tested.log[-4000:]
    assert bad == [], tested.log[-4000:]


def test_nothing_is_skipped_with_bundles(tested: Tested) -> None:
    assert [name for name, outcome in tested.outcomes.items() if outcome == "skipped"] == EXPECTED_SKIPS


def test_its_benchmark_is_imported(tested: Tested, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.validate(json.loads(tested.profile.read_bytes()), json.loads(json_schema()))
    out = tmp_path / "out.json"
    main(["--device", "android", "--import", str(tested.profile), "--json", str(out)])
    profile = read_profile(out)
    assert [bundle.name for bundle in profile.bundles] == ["onnx-unpruned", "onnx-pruned"]
    assert [bundle.manifest.kept_tokens for bundle in profile.bundles] == [36, 9]
    assert profile.machine.runtimes == {"onnxruntime": build_apk.version("onnxruntime")}
    assert "onnx-pruned" in capsys.readouterr().out


def script(path: str) -> ModuleType:
    """A script of the engine as a module."""
    name = path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(f"engine_{name}", ENGINE / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_unicode_tables_are_those_of_the_conformance_files() -> None:
    tables = script("make_unicode.py")
    assert tables.OUTPUT.read_text(encoding="ascii") == tables.tables(), "run android_demo/engine/make_unicode.py"


def test_the_executorch_runtime_compiles() -> None:
    """Against ExecuTorch's own classes. Nothing here can run them."""
    build = script("executorch/compile.py")
    build_apk.OUTPUT.mkdir(parents=True, exist_ok=True)
    with (build_apk.OUTPUT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            classes = build.compiled()
        except build.Missing as error:
            pytest.skip(str(error))
    assert (classes / "dev/vlmp/engine/ExecuTorchRuntime.class").is_file()
