"""The APK, as Debian's tools see it. No phone is needed, and none was met: this is what can be known without one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import struct
import subprocess
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import build_apk
import pytest
from classfile import borrowed, parse
from vlmp.runtimes import Chat, load
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.schema import read_profile

pytestmark = pytest.mark.android

ABI_FIRST_BYTES = {"arm64-v8a": (2, 183), "x86_64": (2, 62)}
"""ELF class (64 bits) and machine."""


@pytest.fixture(scope="session")
def apk() -> Path:
    for program in ("aapt", "dexdump"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install {program}")
    build_apk.OUTPUT.mkdir(parents=True, exist_ok=True)
    with (build_apk.OUTPUT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return build_apk.build()
        except build_apk.Missing as error:
            pytest.skip(str(error))


def told(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


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


@dataclass
class Dex:
    """What dexdump tells of the classes. Members are `Lowner;.name:descriptor`."""

    classes: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    direct: set[str] = field(default_factory=set)
    virtual: set[str] = field(default_factory=set)
    calls: set[tuple[str, str, str]] = field(default_factory=set)
    """The class in which an instruction is, its name, the member that it uses."""


@cache
def read_dex(apk: Path) -> Dex:
    dex, inside, methods, name, kind = Dex(), "", "", "", ""
    for line in told("dexdump", "-d", "-l", "plain", apk).splitlines():
        if found := re.search(r"Class descriptor  : '(\S+)'", line):
            inside = found[1]
            dex.classes.add(inside)
        elif found := re.match(r"  (Static fields|Instance fields|Direct methods|Virtual methods)", line):
            methods = found[1]
        elif found := re.match(r"      name          : '(.*)'", line):
            name = found[1]
        elif found := re.match(r"      type          : '(.*)'", line):
            kind = found[1]
            dex.named |= descriptors(kind)
        elif found := re.match(r"      access        : (0x\w+)", line):
            member = f"{inside}.{name}:{kind}"
            if int(found[1], 16) & 0x0002:
                dex.private.add(member)
            if "methods" in methods:
                (dex.direct if methods.startswith("Direct") else dex.virtual).add(member)
        elif found := re.search(r"\|[0-9a-f]{4}: ([\w/-]+).*?(\[*L\S+;\.[\w$<>-]+:\S+) // (?:method|field)@", line):
            dex.calls.add((inside, found[1], found[2]))
            dex.named |= descriptors(found[2])
        elif re.search(r"// type@|Superclass  |^    #\d+ +: 'L", line):
            dex.named |= descriptors(line.replace("'", " "))
    return dex


def descriptors(text: str) -> set[str]:
    return set(re.findall(r"L[\w/$-]+;", text))


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
        assert assets == {f"assets/bundles/{name}" for name in build_apk.BUNDLES}
        for name in build_apk.BUNDLES:
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


# --- The app on the desktop -------------------------------------------------------------------------------------------


def test_engine_and_app_pass_their_own_tests(apk: Path) -> None:
    """Late, since Maven writes where the APK is made from."""
    pictures = build_apk.OUTPUT / "pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    said = build_apk.test()
    counted = re.findall(r"Tests run: (\d+), Failures: (\d+), Errors: (\d+), Skipped: (\d+)$", said, re.MULTILINE)
    assert all(each[1:3] == ("0", "0") for each in counted)
    # The engine's tests skip other bundles than those of the APK: test_engine.py brings them.
    assert [each[3] for each in counted][1:] == ["0"]
    profile = read_profile(pictures / "scripted-benchmark.json")
    assert profile.machine.runtimes == {"scripted": "1.0"}
    assert {"first.png", "engine-answered.png", "engine-compared-dark.png"} <= {
        path.name for path in pictures.iterdir()
    }


def test_what_its_benchmark_writes_is_imported(apk: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main(["--device", "android", "--import", str(app_wrote("engine-benchmark.json")), "--json", str(out)])
    profile = read_profile(out)
    assert profile.machine.kind == "android"
    assert [each.manifest.kept_tokens for each in profile.bundles] == [144, 16]
    assert [each.manifest.pruner for each in profile.bundles] == ["none", "vlm-pruner"]
    assert all(len(each.phases["first_token"].samples_ms) == profile.settings.runs for each in profile.bundles)
    assert all(each.memory is not None and each.memory.peak_rss_mib > 50 for each in profile.bundles)
    assert profile.machine.runtimes == {"onnxruntime": build_apk.version("onnxruntime")}


@pytest.mark.parametrize("name", build_apk.BUNDLES)
def test_it_answers_as_python_does(apk: Path, name: str) -> None:
    """The same bundle, PNG and questions."""
    told = json.loads(app_wrote("answers.json").read_bytes())[name]
    chat = Chat(load(build_apk.OUTPUT / "assets/bundles" / name))
    first = chat.ask(build_apk.ROOT / "tests/conformance/files/steps/photo-1.png", "List the objects.")
    second = chat.reply("What colour is it?")
    assert (told["text"], told["first"], told["second"]) == (first.text, first.token_ids, second.token_ids)
    assert (told["kept"], told["order"]) == (first.kept.tolist(), first.order.tolist())


def app_wrote(name: str) -> Path:
    """What the app's tests have left."""
    path = build_apk.OUTPUT / "pictures" / name
    if not path.is_file():
        pytest.fail(f"{path} is missing: run test_engine_and_app_pass_their_own_tests first")
    return path
