"""The Xcode project as Xcode would read it: no Mac has opened it, so what can be read is held against the tree."""

from __future__ import annotations

import json
import plistlib
import re
import struct
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ios_demo"
APP = PACKAGE / "App"
PROJECT = APP / "VlmpDemo.xcodeproj"
Object = dict[str, Any]


# --- OpenStep property lists ------------------------------------------------------------------------------------------

TOKEN = re.compile(r'\s+|//[^\n]*|/\*.*?\*/|([{}()=;,])|"((?:[^"\\]|\\.)*)"|([\w./$@<>-]+)', re.DOTALL)


def tokens(text: str) -> list[tuple[str, str]]:
    """Marks as ("mark", "{"), strings as ("text", ...). Raises ValueError with the place of what is neither."""
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"line {text.count(chr(10), 0, place) + 1}: {text[place : place + 20]!r}")
        place = match.end()
        if match[1]:
            found.append(("mark", match[1]))
        elif match[2] is not None or match[3]:
            found.append(("text", re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]))
    return found


def read_openstep(text: str) -> Any:
    """A property list of dictionaries, lists and strings. Raises ValueError where it is none, or names a key twice."""
    rest = tokens(text)[::-1]

    def expect(mark: str) -> None:
        if rest.pop() != ("mark", mark):
            raise ValueError(f"{mark} is missing")

    def value() -> Any:
        kind, text = rest.pop()
        if kind == "text":
            return text
        if text == "{":
            return dictionary()
        if text == "(":
            return members()
        raise ValueError(f"{text} where a value is wanted")

    def dictionary() -> dict[str, Any]:
        made: dict[str, Any] = {}
        while rest[-1] != ("mark", "}"):
            key = value()
            expect("=")
            if key in made:
                raise ValueError(f"{key} is there twice")
            made[key] = value()
            expect(";")
        rest.pop()
        return made

    def members() -> list[Any]:
        made = []
        while rest[-1] != ("mark", ")"):
            made.append(value())
            if rest[-1] == ("mark", ","):
                rest.pop()
        rest.pop()
        return made

    made = value()
    if rest:
        raise ValueError(f"{rest[-1][1]} after the end")
    return made


@pytest.mark.parametrize("text", ["{a = b}", "{a = b; a = c;}", "(a, b", "{a = ;}", "{} x", "{a = b;; }", "{a = `;}"])
def test_a_broken_list_is_not_read(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        read_openstep(text)


def test_lists_are_read() -> None:
    text = '// !$*UTF8*$!\n{a = (b /* why */, "c d",); "e" = {f = "\\"g\\""; h = "";}; i = ..;}'
    assert read_openstep(text) == {"a": ["b", "c d"], "e": {"f": '"g"', "h": ""}, "i": ".."}


# --- The project ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project() -> Object:
    return read_openstep((PROJECT / "project.pbxproj").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def objects(project: Object) -> dict[str, Object]:
    return project["objects"]


@pytest.fixture(scope="module")
def target(objects: dict[str, Object]) -> Object:
    [found] = of_kind(objects, "PBXNativeTarget")
    return found


@pytest.fixture(scope="module")
def xcodegen() -> Object:
    return yaml.safe_load((APP / "project.yml").read_text(encoding="utf-8"))


def of_kind(objects: dict[str, Object], isa: str) -> list[Object]:
    return [item for item in objects.values() if item["isa"] == isa]


def settings(objects: dict[str, Object], owner: Object) -> dict[str, Object]:
    """Build settings by the configuration's name."""
    configurations = [objects[name] for name in objects[owner["buildConfigurationList"]]["buildConfigurations"]]
    return {item["name"]: item["buildSettings"] for item in configurations}


def test_every_reference_leads_somewhere_and_every_object_is_used(project: Object, objects: dict[str, Object]) -> None:
    assert int(project["objectVersion"]) >= 77  # folders that Xcode reads by itself
    named: set[str] = {project["rootObject"]}

    def look(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                look(key)
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)
        elif re.fullmatch(r"[0-9A-F]{24}", value):
            named.add(value)

    for item in objects.values():
        look(item)
    assert named == set(objects)
    assert objects[project["rootObject"]]["isa"] == "PBXProject"


def test_what_it_names_is_in_the_tree_and_in_git(objects: dict[str, Object]) -> None:
    groups = [*of_kind(objects, "PBXFileSystemSynchronizedRootGroup"), *of_kind(objects, "PBXFileReference")]
    here = {item["path"] for item in groups if item["sourceTree"] == "<group>"}
    beside = {path.name for path in APP.iterdir()} - {"VlmpDemo.xcodeproj", "project.yml"}
    assert here == beside
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/ios_demo/App/Bundles/*/" in ignored  # exports, but not the folder, without which nothing builds
    assert (APP / "Bundles/README.md").is_file()


def test_xcode_compiles_all_swift_and_copies_the_bundles(objects: dict[str, Object], target: Object) -> None:
    folders = {objects[name]["path"] for name in target["fileSystemSynchronizedGroups"]}
    assert folders == {"Sources", "Resources"}
    swift = [path.relative_to(APP) for path in APP.rglob("*.swift")]
    assert len(swift) > 5
    assert {path.parts[0] for path in swift} == {"Sources"}
    phases = {objects[name]["isa"]: objects[name] for name in target["buildPhases"]}
    assert set(phases) == {"PBXSourcesBuildPhase", "PBXFrameworksBuildPhase", "PBXResourcesBuildPhase"}
    copied = [objects[objects[name]["fileRef"]] for name in phases["PBXResourcesBuildPhase"]["files"]]
    # As a folder: a package of Core ML that Xcode knows as such would be compiled, and its hashes gone.
    assert [(item["path"], item["lastKnownFileType"]) for item in copied] == [("Bundles", "folder")]
    exported = re.findall(r"--output ios_demo/App/(\S+)/\S+", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert set(exported) == {"Bundles"}


def test_the_package_is_the_one_beside_it(objects: dict[str, Object], target: Object, xcodegen: Object) -> None:
    [package] = of_kind(objects, "XCLocalSwiftPackageReference")
    assert (APP / package["relativePath"]).resolve() == PACKAGE
    manifest = (PACKAGE / "Package.swift").read_text(encoding="utf-8")
    products = {objects[name]["productName"] for name in target["packageProductDependencies"]}
    assert products <= set(re.findall(r'\.library\(name: "(\w+)"', manifest))
    linked = next(objects[name] for name in target["buildPhases"] if "Frameworks" in objects[name]["isa"])
    assert {objects[objects[name]["productRef"]]["productName"] for name in linked["files"]} == products
    imported = {
        name
        for path in (APP / "Sources").glob("*.swift")
        for name in re.findall(r"^import (Vlmp\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert imported == products
    [dependency] = xcodegen["targets"]["VlmpDemo"]["dependencies"]
    assert set(dependency["products"]) == products
    assert (APP / xcodegen["packages"][dependency["package"]]["path"]).resolve() == PACKAGE


def test_the_package_at_the_top_has_the_same_libraries() -> None:
    """By URL, SwiftPM reads that one."""
    top, own = ((folder / "Package.swift").read_text(encoding="utf-8") for folder in (ROOT, PACKAGE))
    for setting in (r"platforms: .*", r"swiftLanguageModes: .*", r"// swift-tools-version: .*", r"    name: .*"):
        assert re.findall(setting, top, re.MULTILINE) == re.findall(setting, own, re.MULTILINE)
    targets = re.findall(r'\.target\(name: "(\w+)"(, dependencies: \[[^]]*\])?, path: "([^"]+)"\)', top)
    assert [name for name, _, _ in targets] == ["VlmpCore", "VlmpCoreML"]
    for name, dependencies, path in targets:
        assert f'.target(name: "{name}"{dependencies})' in own
        assert ROOT / path == PACKAGE / "Sources" / name
        assert f'.library(name: "{name}", targets: ["{name}"])' in top


def test_versions_are_those_of_the_package_and_of_python(objects: dict[str, Object], target: Object) -> None:
    manifest = (PACKAGE / "Package.swift").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    [whole] = of_kind(objects, "PBXProject")
    for values in settings(objects, whole).values():
        assert f".iOS(.v{values['IPHONEOS_DEPLOYMENT_TARGET'].removesuffix('.0')})" in manifest
    for values in settings(objects, target).values():
        assert values["MARKETING_VERSION"] == version
        assert f"swiftLanguageModes: [.v{values['SWIFT_VERSION'].removesuffix('.0')}]" in manifest


def test_xcodegen_would_make_the_same(objects: dict[str, Object], target: Object, xcodegen: Object) -> None:
    wanted = xcodegen["targets"]["VlmpDemo"]
    base = {key: {True: "YES", False: "NO"}.get(value, str(value)) if isinstance(value, bool) else str(value)
            for key, value in wanted["settings"]["base"].items()}  # fmt: skip
    found = settings(objects, target)
    assert set(found) == {"Debug", "Release"}
    for values in found.values():
        given = {key: value for key, value in values.items() if key not in ("LD_RUNPATH_SEARCH_PATHS", "PRODUCT_NAME")}
        assert given == base
    [whole] = of_kind(objects, "PBXProject")
    deployment = {values["IPHONEOS_DEPLOYMENT_TARGET"] for values in settings(objects, whole).values()}
    assert deployment == {xcodegen["options"]["deploymentTarget"]["iOS"]}
    sources = {item["path"]: item.get("type") for item in wanted["sources"]}
    assert sources == {"Sources": None, "Resources": None, "Bundles": "folder"}
    assert (target["name"], target["productType"]) == (xcodegen["name"], "com.apple.product-type.application")


def test_the_scheme_runs_the_target(objects: dict[str, Object], target: Object) -> None:
    scheme = ElementTree.parse(PROJECT / "xcshareddata/xcschemes/VlmpDemo.xcscheme")
    references = scheme.findall(".//BuildableReference")
    assert len(references) == 3
    for reference in references:
        assert objects[reference.attrib["BlueprintIdentifier"]] is target
        assert reference.attrib["BuildableName"] == objects[target["productReference"]]["path"]
        assert reference.attrib["ReferencedContainer"] == f"container:{PROJECT.name}"
    ElementTree.parse(PROJECT / "project.xcworkspace/contents.xcworkspacedata")


def test_the_app_may_take_memory_and_says_why_it_wants_the_camera(objects: dict[str, Object], target: Object) -> None:
    for values in settings(objects, target).values():
        entitlements = plistlib.loads((APP / values["CODE_SIGN_ENTITLEMENTS"]).read_bytes())
        assert entitlements == {"com.apple.developer.kernel.increased-memory-limit": True}
        info = plistlib.loads((APP / values["INFOPLIST_FILE"]).read_bytes())
        assert info["NSCameraUsageDescription"]
        assert info["NSPhotoLibraryUsageDescription"]
        assert info["CFBundleShortVersionString"] == "$(MARKETING_VERSION)"
        assert info["CFBundleVersion"] == "$(CURRENT_PROJECT_VERSION)"
        variables = set(re.findall(r"\$\((\w+)\)", json.dumps(info)))
        assert variables <= {*values, "EXECUTABLE_NAME"}


def test_the_icon_and_the_accent_are_there(objects: dict[str, Object], target: Object) -> None:
    assets = APP / "Resources/Assets.xcassets"
    for values in settings(objects, target).values():
        icon = assets / f"{values['ASSETCATALOG_COMPILER_APPICON_NAME']}.appiconset"
        [image] = json.loads((icon / "Contents.json").read_text())["images"]
        header = (icon / image["filename"]).read_bytes()[:26]
        width, height, depth, colour = struct.unpack(">IIBB", header[16:26])
        assert f"{width}x{height}" == image["size"] == "1024x1024"
        assert (depth, colour) == (8, 2)  # Apple refuses an icon with alpha
        colour_set = assets / f"{values['ASSETCATALOG_COMPILER_GLOBAL_ACCENT_COLOR_NAME']}.colorset"
        shades = json.loads((colour_set / "Contents.json").read_text())["colors"]
        assert [len(shade.get("appearances", [])) for shade in shades] == [0, 1]  # light and dark
