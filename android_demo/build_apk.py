"""Builds and tests the Android demo without Android's SDK: docs/android.md.

    python android_demo/build_apk.py apk     build/android/vlmp-demo.apk
    python android_demo/build_apk.py test    the tests of engine and app, on the desktop

Needs JDK 17 or newer, Maven and Debian's aapt, android-framework-res, zipalign and apksigner. All else comes from
Maven, once (or from npm: ONNX Runtime's Android package, where Maven does not serve it). Later calls need no network.
"""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from classfile import widen

ROOT = Path(__file__).parents[1]
SOURCE = Path(__file__).parent
APP = SOURCE / "app/src/main"
OUTPUT = ROOT / "build/android"
APK = OUTPUT / "vlmp-demo.apk"
RESOURCES = OUTPUT / "resources"
ABIS = ("arm64-v8a", "x86_64")
PAGE = 16384
"""Newer phones map native libraries straight from the APK, in pages of 16 KB."""
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
"""Android 10's resources, as Debian has them: its aapt2 cannot read those of newer ones."""
ONNXRUNTIME = {
    "classes.jar": "65e2e2d76d672253aaf0792a06c71cc40d09b0e2e251ccf925bee7175b91a1b0",
    "jni/arm64-v8a/libonnxruntime.so": "3a602b463d434d20fbf69cd1b8bdfd2f86a2cb67d08de97aec8f62476fa4ab87",
    "jni/arm64-v8a/libonnxruntime4j_jni.so": "45673d7fba377fe0555892460766051b5993d65c9f65e528dc9d515c07c9f683",
    "jni/x86_64/libonnxruntime.so": "1fbfff77a79d79d4e99c2ae78d048044b689782da7e2b0a268443279ae615566",
    "jni/x86_64/libonnxruntime4j_jni.so": "d1c4b89f0b88d8f9cb722ca5cedca0855001b6922d8abc268822f3c7936b2469",
}
"""sha256 of what is taken from ONNX Runtime's Android package 1.29.0, wherever it comes from."""
NPM_PACKAGE = "com.github.asus4.onnxruntime@0.4.9"
"""Carries the same package for Unity."""
KEEP = """
-target 1.7
-dontoptimize
-dontobfuscate
-dontnote
-keepattributes Exceptions,InnerClasses,EnclosingMethod,Signature,SourceFile,LineNumberTable
-dontwarn org.jetbrains.annotations.**
-dontwarn com.google.errorprone.annotations.**
-keep class dev.vlmp.** { *; }
-keep class ai.onnxruntime.** { *; }
"""
"""`-target 1.7` turns lambdas into classes. JNI asks for ONNX Runtime's classes by name. Its telemetry is left out when
it is read: it wants a network, which the app does not have."""


class Missing(Exception):
    """A tool or a package that cannot be had here; its text says how to get it."""


def main() -> None:
    """Build or test."""
    parser = ArgumentParser(description="Build or test the Android demo.")
    parser.add_argument("what", choices=["apk", "test"])
    what = parser.parse_args().what
    try:
        with alone():
            print(build() if what == "apk" else test())
    except (Missing, RuntimeError) as error:
        raise SystemExit(f"build_apk.py: {error}") from None


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process builds or tests: all of them write to `OUTPUT`."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (OUTPUT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build() -> Path:
    """Build the APK. Raises Missing, and RuntimeError when something does not compile."""
    read_tools()
    make_resources()
    maven("process-classes")
    return package()


def test(*settings: str) -> str:
    """Run the tests of engine and app, after which `package` can follow. Returns what Maven says of them.

    settings: -DNAME=VALUE, properties of the engine's pom.xml. Raises as `build`.
    """
    read_tools()
    make_resources()
    told = maven("test", "-Dsurefire.printSummary=true", *settings)
    return "\n".join(line for line in told.splitlines() if "Tests run" in line)


def package() -> Path:
    """Make the APK of what Maven has compiled."""
    tools = read_tools()
    runtime = onnxruntime_package()
    dex = make_dex(tools, runtime / "classes.jar")
    unsigned = OUTPUT / "unsigned.apk"
    pack(unsigned, RESOURCES / "resources.apk", dex, runtime)
    run("zipalign", "-c", "4", unsigned)
    signed = APK.with_suffix(".part")
    run("apksigner", "sign", "--ks", debug_key(), "--ks-pass", "pass:android", "--v4-signing-enabled", "false",
        "--out", signed, unsigned)  # fmt: skip
    signed.replace(APK)
    unsigned.unlink()
    return APK


# --- Tools ------------------------------------------------------------------------------------------------------------


def version(name: str) -> str:
    """A property of pom.xml."""
    found = ElementTree.parse(SOURCE / "pom.xml").find(f".//{{*}}properties/{{*}}{name}.version")
    if found is None or not found.text:
        raise RuntimeError(f"pom.xml has no property {name}.version")
    return found.text


@cache
def read_tools() -> list[Path]:
    """The jars of tools/pom.xml, android.jar among them. Raises Missing where a tool or the network is missing."""
    need("mvn", "apt-get install maven")
    need("javac", "apt-get install openjdk-17-jdk-headless")
    need("aapt2", "apt-get install aapt")
    for program in ("zipalign", "apksigner"):
        need(program, f"apt-get install {program}")
    if not FRAMEWORK.is_file():
        raise Missing(f"{FRAMEWORK} is missing: apt-get install android-framework-res")
    told = run("javac", "-version")
    numbers = re.search(r"javac (\d+)", told)
    if numbers is None or int(numbers[1]) < 17:
        raise Missing(f"JDK 17 or newer is needed, not {told.strip()}: apt-get install openjdk-17-jdk-headless")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    listed = OUTPUT / "tools.txt"
    try:
        run("mvn", "-B", "-q", "-f", SOURCE / "tools", "dependency:build-classpath", f"-Dmdep.outputFile={listed}")
    except RuntimeError as error:
        if found := re.search(r"(Could not transfer artifact|No plugin found for prefix) .*", str(error)):
            raise Missing(f"Maven cannot download what the build needs: {found[0][:300]}") from None
        raise
    return [Path(path) for path in listed.read_text(encoding="utf-8").strip().split(":")]


def android_jar(tools: list[Path]) -> Path:
    """Android's classes, as Robolectric publishes them."""
    (found,) = (path for path in tools if path.name.startswith("android-all-1"))
    return found


def library_jars(tools: list[Path]) -> list[Path]:
    """Android's classes, and those of Java, which `android_jar` is without."""
    javac = shutil.which("javac")
    assert javac is not None
    jmods = Path(javac).resolve().parents[1] / "jmods"
    found = [jmods / f"{name}.jmod" for name in ("java.base", "java.logging", "java.sql")]
    if not found[0].is_file():
        raise Missing(f"{found[0]} is missing: apt-get install openjdk-17-jdk-headless")
    return [android_jar(tools), *found]


def maven(*arguments: str) -> str:
    """Run Maven on engine and app. Returns what it printed. Raises RuntimeError with its errors."""
    for classes in OUTPUT.glob("maven/*/*classes"):  # Kotlin's compiler leaves those that are no longer made
        shutil.rmtree(classes)
    instrumented = next(path for path in read_tools() if path.name.startswith("android-all-instrumented"))
    return run("mvn", "-B", "-T1", "-f", SOURCE, f"-Drobolectric.folder={instrumented.parent}", *arguments)


def onnxruntime_package() -> Path:
    """The folder of ONNX Runtime's unpacked Android package, compared with `ONNXRUNTIME`."""
    number = version("onnxruntime")
    folder = OUTPUT / f"onnxruntime-{number}"
    if folder.is_dir():
        return folder
    part = OUTPUT / "onnxruntime.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    archive = part / f"onnxruntime-android-{number}.aar"
    wanted = f"com.microsoft.onnxruntime:onnxruntime-android:{number}:aar"
    asked = ["mvn", "-B", "-q", "-f", str(SOURCE / "tools"), "dependency:copy", f"-Dartifact={wanted}"]
    if subprocess.run([*asked, f"-DoutputDirectory={part}"], capture_output=True, check=False).returncode:
        need("npm", "apt-get install npm: Maven does not serve ONNX Runtime's Android package here")
        packed = run("npm", "pack", "--silent", "--pack-destination", part, NPM_PACKAGE).split()[-1]
        shutil.unpack_archive(part / packed, part, filter="data")
        (part / packed).unlink()
        archive = part / "package/Plugins/Android/onnxruntime.aar"
    with zipfile.ZipFile(archive) as files:
        for name, sha256 in ONNXRUNTIME.items():
            files.extract(name, part / "taken")
            found = hashlib.sha256((part / "taken" / name).read_bytes()).hexdigest()
            if found != sha256:
                raise RuntimeError(f"{archive.name}: {name} has sha256 {found}, not {sha256}")
    (part / "taken").rename(folder)
    shutil.rmtree(part)
    return folder


# --- Parts of the APK -------------------------------------------------------------------------------------------------


def make_resources() -> None:
    """Compile `res` and the manifest into an APK of them and the bundles; R.java and what Robolectric reads of it lie
    beside it.
    """
    copy_bundles()
    shutil.rmtree(RESOURCES, ignore_errors=True)
    (RESOURCES / "settings/com/android/tools").mkdir(parents=True)
    run("aapt2", "compile", "--dir", APP / "res", "-o", RESOURCES / "res.zip")
    linked = RESOURCES / "resources.apk"
    run("aapt2", "link", "-I", FRAMEWORK, "--manifest", APP / "AndroidManifest.xml", "-A", OUTPUT / "assets",
        "--java", RESOURCES / "java", "-o", linked, RESOURCES / "res.zip")  # fmt: skip
    (RESOURCES / "settings/com/android/tools/test_config.properties").write_text(
        f"android_merged_manifest={APP / 'AndroidManifest.xml'}\n"
        f"android_resource_apk={linked}\n"
        "android_custom_package=dev.vlmp.demo\n",
        encoding="utf-8",
    )


def make_dex(tools: list[Path], onnxruntime: Path) -> Path:
    """Turn all classes into one classes.dex. Returns it."""
    widened, shrunk, dex = OUTPUT / "onnxruntime.jar", OUTPUT / "shrunk.jar", OUTPUT / "classes.dex"
    widen(onnxruntime, widened)
    gson = next(path for path in tools if path.name == f"gson-{version('gson')}.jar")
    kotlin = next(path for path in tools if path.name == f"kotlin-stdlib-{version('kotlin')}.jar")
    inputs = [
        OUTPUT / "maven/app/classes", OUTPUT / "maven/engine/classes",
        f"{widened}(!ai/onnxruntime/Telemetry*,!ai/onnxruntime/telemetry/**)",
        *(f"{jar}(!META-INF/**,!module-info.class)" for jar in (kotlin, gson)),
    ]  # fmt: skip
    rules = OUTPUT / "proguard.txt"
    rules.write_text(
        "".join(f"-injars {each}\n" for each in inputs)
        + f"-outjars {shrunk}(**.class)\n"
        + "".join(f"-libraryjars {path}(!**.jar,!module-info.class)\n" for path in library_jars(tools))
        + KEEP,
        encoding="utf-8",
    )
    # dx has a Kotlin library of its own age in its way: each tool gets the jars that it needs.
    classpath = ":".join(str(path) for path in tools if not path.name.startswith(("android-all", "dalvik-dx")))
    run("java", "-Xmx1g", "-cp", classpath, "proguard.ProGuard", f"@{rules}")
    dx = next(path for path in tools if path.name.startswith("dalvik-dx"))
    oldest = re.search(r'minSdkVersion="(\d+)"', (APP / "AndroidManifest.xml").read_text(encoding="utf-8"))
    assert oldest is not None
    run("java", "-Xmx1g", "-cp", dx, "com.android.dx.command.Main", "--dex", f"--min-sdk-version={oldest[1]}",
        f"--output={dex}", shrunk)  # fmt: skip
    return dex


def copy_bundles() -> None:
    """Put vlmp-tiny among what goes into the APK, pruned and unpruned."""
    shutil.rmtree(OUTPUT / "assets", ignore_errors=True)
    for line in run(sys.executable, ROOT / "benchmarks/app_bundles.py").splitlines():
        shutil.copytree(line, OUTPUT / "assets/bundles" / Path(line).name)


def pack(apk: Path, resources: Path, dex: Path, package: Path) -> None:
    """Put the parts together. What Android maps instead of reading is stored as it is, and aligned."""
    with zipfile.ZipFile(apk, "w") as output:
        with zipfile.ZipFile(resources) as compiled:
            for each in compiled.infolist():
                add(output, each.filename, compiled.read(each), stored=each.compress_type == zipfile.ZIP_STORED)
        add(output, "classes.dex", dex.read_bytes())
        for abi in ABIS:
            for library in sorted((package / "jni" / abi).iterdir()):
                add(output, f"lib/{abi}/{library.name}", library.read_bytes(), stored=True, alignment=PAGE)


def add(output: zipfile.ZipFile, name: str, data: bytes, *, stored: bool = False, alignment: int = 4) -> None:
    """Add a file. Stored data starts at a multiple of `alignment`, by a field (0xd935) that apksigner keeps."""
    entry = zipfile.ZipInfo(name)  # of 1980: the same parts make the same file
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    if stored:
        assert output.fp is not None
        start = output.fp.tell() + 30 + len(name.encode()) + 6
        padding = -start % alignment
        entry.extra = b"\x35\xd9" + (2 + padding).to_bytes(2, "little") + alignment.to_bytes(2, "little")
        entry.extra += bytes(padding)
    output.writestr(entry, data)


def debug_key() -> Path:
    """A key of this machine, made once: phones take updates of an app from the same key only."""
    key = OUTPUT / "debug.p12"
    if not key.is_file():
        run("keytool", "-genkeypair", "-keystore", key, "-storetype", "PKCS12", "-storepass", "android",
            "-alias", "debug", "-dname", "CN=vlmp debug", "-keyalg", "RSA", "-keysize", "2048",
            "-validity", "10000")  # fmt: skip
    return key


def need(program: str, how: str) -> None:
    """Raise Missing where a program is not installed."""
    if shutil.which(program) is None:
        raise Missing(f"{program} is missing: {how}")


def run(program: str | Path, *arguments: str | Path) -> str:
    """Run a program. Returns its standard output. Raises RuntimeError with all that it said."""
    command = [str(program), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
