"""The Android demo: the tests of its engine and app, run by Maven, and the APK as Debian's tools see it.

No phone is needed, and none was met: this is what can be known without one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import ask_bundles
import build_apk
import jsonschema
import numpy as np
import pytest
from app_bundles import BUNDLES
from classfile import borrowed, parse
from dex_dump import read_dex
from family_cases import CASES, family_bundles
from step_bundles import shared_folder, step_bundle
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.schema import json_schema, read_profile

PICTURES = build_apk.OUTPUT / "pictures"
"""What the app's tests have drawn and written."""
STEPS = ("onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4")
EXPECTED_SKIPS = ["StepsTest: conversations from a photo and words to text(String)[4]"]
"""Rounding may turn a near tie of int4, after which answers differ."""
ABI_FIRST_BYTES = {"arm64-v8a": (2, 183), "x86_64": (2, 62)}
"""ELF class (64 bits) and machine."""


@dataclass
class Built:
    """What one run of Maven has left. passed, skipped: names of tests; failed: with what they say."""

    apk: Path
    left: Path
    """Where the engine's tests have left `profile.json` and the answers."""
    passed: list[str]
    skipped: list[str]
    failed: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Engine and app, compiled and tested, and the APK made of the same classes. Nobody else builds meanwhile."""
    for program in ("aapt", "dexdump"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install {program}")
    try:
        build_apk.read_tools()
    except build_apk.Missing as error:
        pytest.skip(str(error))
    bundles = shared_folder(tmp_path_factory)
    for name in STEPS:
        step_bundle(bundles, name)
    families = family_bundles(tmp_path_factory)
    left = tmp_path_factory.mktemp("left")
    settings = {
        "maven.test.failure.ignore": "true",
        "vlmp.bundles": bundles,
        "vlmp.profile": left / "profile.json",
        "vlmp.asked": f"{build_apk.OUTPUT / 'assets/bundles'}:{families}",
        "vlmp.answers": left,
    }
    with build_apk.alone():
        shutil.rmtree(PICTURES, ignore_errors=True)
        for reports in build_apk.OUTPUT.glob("maven/*/surefire-reports"):
            shutil.rmtree(reports)
        try:
            build_apk.test(*(f"-D{name}={value}" for name, value in settings.items()))
            apk = build_apk.package()
        except build_apk.Missing as error:
            pytest.skip(str(error))
        except RuntimeError as error:  # it does not compile
            pytest.fail("\n".join(line for line in str(error).splitlines() if "INFO" not in line)[:4000], pytrace=False)
        yield outcomes(Built(apk, left, [], [], []))


def outcomes(built: Built) -> Built:
    """Fill in what Maven's reports tell of each test."""
    for report in build_apk.OUTPUT.glob("maven/*/surefire-reports/TEST-*.xml"):
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name')}"
            bad = next((child for child in case if child.tag in ("failure", "error")), None)
            if bad is not None:
                built.failed.append(f"{name}: {(bad.text or '')[:1000]}")
            elif case.find("skipped") is not None:
                built.skipped.append(name)
            else:
                built.passed.append(name)
    return built


@pytest.fixture(scope="module")
def apk(built: Built) -> Path:
    return built.apk


def told(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


# --- Engine and app on the desktop ------------------------------------------------------------------------------------


def test_engine_and_app_pass_their_own_tests(built: Built) -> None:
    assert built.failed == []
    assert built.skipped == EXPECTED_SKIPS
    classes = {name.partition(":")[0] for name in built.passed}
    written = {path.stem for path in build_apk.SOURCE.rglob("src/test/kotlin/dev/**/*Test.kt")} - {"PagesTest"}
    assert classes == written


def test_pictures_of_its_pages_were_drawn(built: Built) -> None:
    assert {"first.png", "engine-answered.png", "engine-compared-dark.png"} <= {
        path.name for path in PICTURES.iterdir()
    }


def test_what_the_engines_benchmark_writes_is_imported(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, out = built.left / "profile.json", tmp_path / "out.json"
    jsonschema.validate(json.loads(written.read_bytes()), json.loads(json_schema()))
    main(["--device", "android", "--import", str(written), "--json", str(out)])
    profile = read_profile(out)
    assert [bundle.name for bundle in profile.bundles] == ["onnx-unpruned", "onnx-pruned"]
    assert [bundle.manifest.kept_tokens for bundle in profile.bundles] == [36, 9]
    assert profile.machine.runtimes == {"onnxruntime": build_apk.version("onnxruntime")}
    assert "onnx-pruned" in capsys.readouterr().out


def test_what_the_apps_benchmark_writes_is_imported(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main(["--device", "android", "--import", str(PICTURES / "engine-benchmark.json"), "--json", str(out)])
    profile = read_profile(out)
    assert profile.machine.kind == "android"
    assert [each.manifest.kept_tokens for each in profile.bundles] == [144, 16]
    assert [each.manifest.pruner for each in profile.bundles] == ["none", "vlm-pruner"]
    assert all(len(each.phases["first_token"].samples_ms) == profile.settings.runs for each in profile.bundles)
    assert all(each.memory is not None and each.memory.peak_rss_mib > 50 for each in profile.bundles)
    assert profile.machine.runtimes == {"onnxruntime": build_apk.version("onnxruntime")}
    assert read_profile(PICTURES / "scripted-benchmark.json").machine.runtimes == {"scripted": "1.0"}


@pytest.fixture(scope="module")
def answers(built: Built) -> Path:
    """Python's answers, beside those of the engine, on the app's version of ONNX Runtime.

    int4 kernels of two versions round differently: between 1.29 and 1.32 up to 4 of 16 kept tokens differ.
    """
    version = build_apk.version("onnxruntime")
    package = build_apk.OUTPUT / f"onnxruntime-python-{version}"
    if not package.is_dir():
        part = build_apk.OUTPUT / "onnxruntime-python.part"
        shutil.rmtree(part, ignore_errors=True)
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            part,
            f"onnxruntime=={version}",
        ]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip does not install onnxruntime {version}: {done.stderr.strip()[-200:]}")
        part.rename(package)
    output = built.left / "python"
    output.mkdir()
    bundles = [build_apk.OUTPUT / "assets/bundles" / name for name in BUNDLES]
    command = [sys.executable, Path(ask_bundles.__file__), output, *bundles]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(package)}, check=True)
    return output


@pytest.mark.parametrize("name", BUNDLES)
def test_the_engine_answers_as_python_does(built: Built, answers: Path, name: str) -> None:
    """int4. StepsTest compares float32 with what PyTorch answered."""
    python = json.loads((answers / f"{name}.json").read_bytes())
    assert python["runtime"] == f"onnxruntime {build_apk.version('onnxruntime')}"
    assert_same_answers(built.left, answers, name)


@pytest.mark.parametrize("name", CASES)
def test_the_engine_answers_as_python_does_in_every_family(
    built: Built, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    assert_same_answers(built.left, family_bundles(tmp_path_factory, name), name)


def assert_same_answers(left: Path, answers: Path, name: str) -> None:
    """Of the engine and Python: all of each turn is equal, and logits of each call but for rounding."""
    turns, python = (json.loads((folder / f"{name}.json").read_bytes()) for folder in (left, answers))
    assert turns == python["turns"]
    wanted = np.load(answers / f"{name}.npy")
    found = np.fromfile(left / f"{name}.logits", ">f4").reshape(wanted.shape)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("name", BUNDLES)
def test_the_app_answers_as_python_does(answers: Path, name: str) -> None:
    """The first photo."""
    app = json.loads((PICTURES / "answers.json").read_bytes())[name]
    first, second = json.loads((answers / f"{name}.json").read_bytes())["turns"][:2]
    assert (app["text"], app["first"], app["second"]) == (first["text"], first["tokens"], second["tokens"])
    assert (app["kept"], app["order"]) == (first["stages"][-1], first["order"])


# --- What it says of itself -------------------------------------------------------------------------------------------


def test_badging(apk: Path) -> None:
    badging = told("aapt", "dump", "badging", apk)
    for line in (
        "package: name='dev.vlmp.demo'",
        "sdkVersion:'26'",
        "targetSdkVersion:'35'",
        "launchable-activity: name='dev.vlmp.demo.MainActivity'",
        "native-code: 'arm64-v8a' 'x86_64'",
    ):
        assert line in badging
    assert "uses-permission" not in badging


def test_signed_with_schemes_2_and_3_and_unchanged_since(apk: Path, tmp_path: Path) -> None:
    said = told("apksigner", "verify", "--verbose", apk)
    assert "(APK Signature Scheme v2): true" in said
    assert "(APK Signature Scheme v3): true" in said
    changed = bytearray(apk.read_bytes())
    changed[len(changed) // 2] ^= 1
    damaged = tmp_path / "damaged.apk"
    damaged.write_bytes(changed)
    done = subprocess.run(["apksigner", "verify", str(damaged)], capture_output=True, text=True, check=False)
    assert done.returncode != 0


# --- Native libraries -------------------------------------------------------------------------------------------------


def test_native_libraries_can_be_mapped_in_pages_of_16_kb(apk: Path) -> None:
    """In the file, and each segment to where it goes in memory."""
    raw = apk.read_bytes()
    with zipfile.ZipFile(apk) as files:
        libraries = [each for each in files.infolist() if each.filename.startswith("lib/")]
        assert sorted(each.filename for each in libraries) == [
            f"lib/{abi}/{name}"
            for abi in ("arm64-v8a", "x86_64")
            for name in ("libonnxruntime.so", "libonnxruntime4j_jni.so")
        ]
        for each in libraries:
            assert each.compress_type == zipfile.ZIP_STORED
            name, extra = struct.unpack_from("<HH", raw, each.header_offset + 26)
            assert (each.header_offset + 30 + name + extra) % 16384 == 0, each.filename
            elf = files.read(each)
            assert hashlib.sha256(elf).hexdigest() == build_apk.ONNXRUNTIME[each.filename.replace("lib/", "jni/")]
            assert (elf[4], *struct.unpack_from("<H", elf, 18)) == ABI_FIRST_BYTES[each.filename.split("/")[1]]
            headers = struct.unpack_from("<Q", elf, 32)[0]
            size, count = struct.unpack_from("<HH", elf, 54)
            for header in range(headers, headers + size * count, size):
                if struct.unpack_from("<I", elf, header)[0] == 1:  # PT_LOAD
                    assert struct.unpack_from("<Q", elf, header + 48)[0] % 16384 == 0, each.filename


# --- Classes ----------------------------------------------------------------------------------------------------------


def test_all_that_is_named_is_there(apk: Path) -> None:
    """In the APK, in Android's framework, or in Java's base library (which Robolectric's framework is without)."""
    dex = read_dex(apk)
    there = set(dex.classes)
    for path in build_apk.library_jars(build_apk.read_tools()):
        with zipfile.ZipFile(path) as files:
            names = (name.removeprefix("classes/") for name in files.namelist() if name.endswith(".class"))
            there |= {f"L{name.removesuffix('.class')};" for name in names}
    assert len(dex.named) > 100
    assert "Lai/onnxruntime/OrtSession;" in dex.classes
    assert "Ldev/vlmp/demo/MainActivity;" in dex.classes
    assert sorted(dex.named - there) == []


def test_nothing_in_it_is_newer_than_the_oldest_android_knows(apk: Path) -> None:
    instructions = {name for _, name, _ in read_dex(apk).calls}
    assert {"invoke-virtual", "invoke-direct", "invoke-static", "iget"} <= instructions
    assert [name for name in instructions if "custom" in name or "polymorphic" in name] == []


def test_what_android_8_lacks_is_asked_for_only_after_its_version(apk: Path) -> None:
    """Members of Android and Java that are named but not in Android 8. Each of these stands under `if SDK_INT >= …`."""
    shutil.rmtree(build_apk.OUTPUT / "shrunk", ignore_errors=True)
    shutil.unpack_archive(build_apk.OUTPUT / "shrunk.jar", build_apk.OUTPUT / "shrunk", "zip")
    check = ["mvn", "-B", "-q", "-f", str(build_apk.SOURCE / "tools"), "animal-sniffer:check"]
    said = subprocess.run(check, capture_output=True, text=True, check=False).stdout
    found = set(re.findall(r"/(\w+)\.class:\d+: Undefined reference: (.*)", said))
    assert found == {
        ("MainActivity", "Object android.content.Intent.getParcelableExtra(String, Class)"),
        ("Phone", "String android.os.Build.SOC_MODEL"),
        ("Phone", "int android.os.PowerManager.getCurrentThermalStatus()"),
        ("PhotosKt", "void android.graphics.Bitmap.setColorSpace(android.graphics.ColorSpace)"),
    }, said


def test_no_class_uses_a_private_member_of_another(apk: Path) -> None:
    dex = read_dex(apk)
    assert "Lai/onnxruntime/OrtEnvironment;.close:(JJ)V" not in dex.private
    assert len(dex.private) > 100
    assert [call for call in dex.calls if call[2] in dex.private and not call[2].startswith(f"{call[0]}.")] == []


def test_methods_are_called_by_the_instruction_of_their_kind(apk: Path) -> None:
    """A method that is no longer private is virtual, and Android refuses to call it as a direct one."""
    dex = read_dex(apk)
    for inside, instruction, member in dex.calls:
        kind = instruction.removesuffix("/range")
        if kind == "invoke-direct":
            assert member not in dex.virtual, (inside, member)
        if kind in ("invoke-virtual", "invoke-interface"):
            assert member not in dex.direct, (inside, member)


def test_widening_is_needed(apk: Path) -> None:
    """Or it could be left out."""
    with zipfile.ZipFile(build_apk.onnxruntime_package() / "classes.jar") as jar:
        classes = [parse(jar.read(name)) for name in jar.namelist() if name.endswith(".class")]
    assert ("ai/onnxruntime/OrtEnvironment$ThreadingOptions", "nativeHandle", "J") in borrowed(classes)


# --- Bundles ----------------------------------------------------------------------------------------------------------


def test_bundles_are_whole_and_differ_in_pruning(apk: Path) -> None:
    kept = {}
    with zipfile.ZipFile(apk) as files:
        assets = {"/".join(name.split("/")[:3]) for name in files.namelist() if name.startswith("assets/")}
        assert assets == {f"assets/bundles/{name}" for name in BUNDLES}
        for name in BUNDLES:
            folder = f"assets/bundles/{name}/"
            inside = {each.removeprefix(folder) for each in files.namelist() if each.startswith(folder)}
            manifest = Manifest.model_validate(json.loads(files.read(folder + "manifest.json")))
            assert inside == {"manifest.json", *(each.path for each in manifest.files)}
            for each in manifest.files:
                data = files.read(folder + each.path)
                assert len(data) == each.size_bytes
                assert hashlib.sha256(data).hexdigest() == each.sha256, each.path
            assert (manifest.model, manifest.target, manifest.quantization) == ("vlmp-tiny", "onnx", "int4")
            assert manifest.parity.status == "passed"
            kept[name] = manifest.shape.num_kept
    assert kept == {"tiny-pruned": 16, "tiny-unpruned": 144}


# --- ExecuTorch -------------------------------------------------------------------------------------------------------


def test_the_executorch_runtime_compiles(built: Built) -> None:
    """Against ExecuTorch's own classes. Nothing here can run them."""
    script = build_apk.SOURCE / "engine/executorch/compile.py"
    spec = importlib.util.spec_from_file_location("engine_executorch", script)
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    try:
        classes = build.compiled()
    except build.Missing as error:
        pytest.skip(str(error))
    assert (classes / "dev/vlmp/engine/ExecuTorchRuntime.class").is_file()
