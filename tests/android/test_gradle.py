"""The Gradle project is for Android Studio and is not run here; what it shares with pom.xml must be equal."""

from __future__ import annotations

import re

import build_apk

SOURCE = build_apk.SOURCE


def gradle(path: str) -> str:
    return (SOURCE / path).read_text(encoding="utf-8")


def test_versions_are_those_of_the_pom() -> None:
    text = gradle("build.gradle.kts") + gradle("engine/build.gradle.kts") + gradle("app/build.gradle.kts")
    kotlin = re.findall(r'id\("org\.jetbrains\.kotlin\.\w+"\) version "([^"]+)"', text)
    onnxruntime = re.findall(r"com\.microsoft\.onnxruntime:[\w-]+:([\w.]+)", text)
    assert kotlin == [build_apk.version("kotlin")] * 2
    assert onnxruntime == [build_apk.version("onnxruntime")] * 3
    assert f"com.google.code.gson:gson:{build_apk.version('gson')}" in text
    assert f"junit-jupiter:{build_apk.version('junit5')}" in text


def test_the_app_is_the_same() -> None:
    app, manifest = gradle("app/build.gradle.kts"), gradle("app/src/main/AndroidManifest.xml")
    for setting, attribute in {
        "minSdk = ": "android:minSdkVersion=",
        "targetSdk = ": "android:targetSdkVersion=",
        "versionCode = ": "android:versionCode=",
        "versionName = ": "android:versionName=",
        "applicationId = ": "package=",
    }.items():
        found = re.search(rf'{attribute}"([^"]+)"', manifest)
        assert found is not None
        assert re.search(rf'{setting}"?{re.escape(found[1])}"?\n', app), setting
    assert re.findall(r'"([\w-]+)"', re.search(r"abiFilters \+= listOf\((.*)\)", app)[1]) == list(build_apk.ABIS)  # type: ignore[index]


def test_both_have_the_same_modules() -> None:
    modules = re.findall(r"<module>(\w+)</module>", gradle("pom.xml"))
    assert re.findall(r'":(\w+)"', gradle("settings.gradle.kts")) == modules
