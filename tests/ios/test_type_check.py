"""What only an Apple system builds is type-checked against stubs, and a name that Apple does not have is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import swift
import type_check

pytestmark = pytest.mark.ios

MISSPELT = {
    "Sources/VlmpCoreML/CoreMLOpener.swift": {
        "configuration.functionName": "configuration.functionNames",
        "model.prediction(from:": "model.predict(from:",
        "MLModel.compileModel(at:": "MLModel.compile(at:",
        "array.strides": "array.stride",
        "deallocator:": "destructor:",
        ".cpuAndNeuralEngine: .cpuAndNeuralEngine": ".cpuAndNeuralEngine: .cpuAndANE",
    },
    "App/Sources/BundlesView.swift": {".fileImporter(": ".fileImport("},
    "App/Sources/PhotoSection.swift": {
        "loadTransferable(type:": "load(type:",
        "sourceType = .camera": "sourceType = .lens",
    },
    "App/Sources/KeptSection.swift": {
        "byPreparingThumbnail": "preparingThumb",
        ".accessibilityValue": ".voiceOverValue",
    },
    "App/Sources/BenchmarkView.swift": {"ShareLink(": "ShareLinks(", ".thermalState": ".heat"},
    "App/Sources/ThisPhone.swift": {"beginBackgroundTask(withName": "startBackgroundTask(withName"},
    "App/Sources/VlmpDemoApp.swift": {"isIdleTimerDisabled": "idleTimerDisabled"},
}
"""File -> what is spelt right in it -> wrong."""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the modules, after everything has been checked."""
    folder = tmp_path_factory.mktemp("modules")
    try:
        done = type_check.check(folder)
    except swift.Missing as missing:
        pytest.skip(str(missing))
    assert done.returncode == 0, done.stdout
    return folder


def test_package_and_app_fit_the_stubs_without_a_warning(modules: Path) -> None:
    again = type_check.run([type_check.check_app(modules, swift.PACKAGE)], modules)
    assert (again.returncode, again.stdout) == (0, "")


@pytest.mark.parametrize("where", ["Sources/VlmpCoreML", "App/Sources"])
def test_a_misspelt_member_is_refused(modules: Path, tmp_path: Path, where: str) -> None:
    shutil.copytree(swift.PACKAGE / where, tmp_path / where)
    files = {path: words for path, words in MISSPELT.items() if path.startswith(where)}
    for path, words in files.items():
        file = tmp_path / path
        text = file.read_text(encoding="utf-8")
        for right, wrong in words.items():
            assert right in text, (path, right)
            text = text.replace(right, wrong)
        file.write_text(text, encoding="utf-8")
    check_package, _ = type_check.check_target(modules, tmp_path, "VlmpCoreML")
    command = type_check.check_app(modules, tmp_path) if where.startswith("App") else check_package
    done = type_check.run([command], modules, tmp_path)
    assert done.returncode != 0
    refused = "\n".join(line for line in done.stdout.splitlines() if "error:" in line)
    for path, words in files.items():
        for right, wrong in words.items():
            [name] = set(re.findall(r"\w+", wrong)) - set(re.findall(r"\w+", right))
            assert re.search(rf"\b{name}\b", refused), (path, name, done.stdout)
