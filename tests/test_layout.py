"""The tree: packages are listed, arrows between the folders hold, and nothing points outside the repository."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_cases import smallest
from longest_files import LONGEST

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ARROWS = {
    "pruner": {"pruner"},
    "runtimes": {"runtimes"},
    "export": {"export", "pruner", "runtimes"},
    "evaluation": {"evaluation", "export", "runtimes"},
}
"""A folder -> the folders that it may import."""
FOLDERS = tuple(sorted(ARROWS))
NATIVE = ROOT / "runtimes/native"
"""C++ with the scripts that build it: not packaged."""
SHARED = {"conformance": "runtimes"}
"""Tests with files that readers in other languages share -> what they test here."""


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if NATIVE not in path.parents)


def module_of(path: Path) -> str:
    """The name under which users import a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("vlmp", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, in functions and for the type checker too."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            # `from vlmp.export import cli` imports a module, `from pathlib import Path` does not; both count.
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def third_party(names: set[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"vlmp"}


# --- Packages ---------------------------------------------------------------------------------------------------------


def test_every_package_of_the_tree_is_listed_and_nothing_more() -> None:
    folders = PYPROJECT["tool"]["setuptools"]["package-dir"]
    packages = {}
    for package in PYPROJECT["tool"]["setuptools"]["packages"]:
        owner = max((name for name in folders if within(package, name)), key=len)
        packages[package] = folders[owner] + package.removeprefix(owner).replace(".", "/")
    tree = {path.parent.relative_to(ROOT).as_posix() for folder in FOLDERS for path in sources(folder)}
    assert sorted(packages.values()) == sorted(tree)
    assert len(set(packages)) == len(PYPROJECT["tool"]["setuptools"]["packages"])


def test_packages_but_the_namespace_of_optimum_have_an_init() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            assert (path.parent / "__init__.py").is_file() is (path.parent.name != "optimum_register"), path


def test_files_beside_the_code_are_packaged() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]
    for folder in FOLDERS:
        own = patterns.get(f"vlmp.{folder}".replace("/", "."), [])
        packaged = {path for pattern in own for path in (ROOT / folder).glob(pattern)}
        files = {path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        files -= set(NATIVE.rglob("*"))
        assert packaged == files


def test_imported_distributions_are_declared() -> None:
    project = PYPROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in lines}
    distribution = {"PIL": "pillow", "sklearn": "scikit_learn"}
    for folder in FOLDERS:
        for path in sources(folder):
            used = {distribution.get(top, top).lower() for top in third_party(imports(path))}
            assert used <= declared, (path, used - declared)


# --- Tests ------------------------------------------------------------------------------------------------------------


def test_files_that_take_longest_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_tests_mirror_the_source() -> None:
    """A folder of tests has the name of the folder that they test; a file stands for one or several of its files."""
    tests = ROOT / "tests"
    elsewhere = {"native": NATIVE} | {name: ROOT / f"{name}_demo" for name in ("android", "ios", "web")}
    for path in tests.rglob("test_*.py"):
        folder = path.parent.relative_to(tests)
        source = elsewhere.get(folder.as_posix(), ROOT / SHARED.get(str(folder), folder))
        assert source.is_dir(), path


def test_names_of_tests_and_their_helpers_are_unique() -> None:
    """Without packages, Python imports each by its bare name."""
    paths = list((ROOT / "tests").rglob("*.py"))
    names = [path.name for path in paths if path.name != "conftest.py"]
    assert [name for name in set(names) if names.count(name) > 1] == []
    assert "__init__.py" not in names


# --- Arrows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sources("pruner"), ids=lambda path: path.name)
def test_pruner_needs_torch_only(path: Path) -> None:
    names = imports(path)
    assert third_party(names) <= {"torch"}
    assert [name for name in names if within(name, "vlmp") and not within(name, "vlmp.pruner")] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_arrows_between_the_folders(folder: str) -> None:
    allowed = tuple(f"vlmp.{name}" for name in ARROWS[folder])
    elsewhere = {"benchmarks", "tests", "conftest", "pytest", "hypothesis", *FOLDERS}
    for path in sources(folder):
        names = imports(path)
        assert [name for name in names if within(name, "vlmp") and not within(name, *allowed)] == [], path
        assert not {name.partition(".")[0] for name in names} & elsewhere, path


def test_each_arrow_is_used() -> None:
    """Or the folders could be turned around without anybody noticing."""
    for folder, allowed in ARROWS.items():
        used = {name.split(".")[1] for path in sources(folder) for name in imports(path) if name.startswith("vlmp.")}
        assert used == allowed, folder


@pytest.mark.parametrize("path", sources("runtimes"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_runtimes_need_torch_only_where_it_is_the_runtime(path: Path) -> None:
    may = {"pytorch.py", "executorch.py"} if path.parent.name == "runtimes" else set()
    assert path.name in may or not third_party(imports(path)) & {"torch", "transformers", "torchao", "optimum"}


@pytest.mark.parametrize("path", sources("evaluation/scenes"), ids=lambda path: path.name)
def test_scenes_import_nothing_else_of_ours(path: Path) -> None:
    names = imports(path)
    assert [name for name in names if within(name, "vlmp") and not within(name, "vlmp.evaluation.scenes")] == []


@pytest.mark.parametrize("room", ["bundle", "console"])
def test_the_contract_and_the_command_lines_need_pydantic_only(room: str) -> None:
    for path in sources(f"runtimes/{room}"):
        names = imports(path)
        assert third_party(names) <= {"pydantic"}
        allowed = ("vlmp.runtimes.bundle", "vlmp.runtimes.console")
        assert [name for name in names if within(name, "vlmp") and not within(name, *allowed)] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_heavy_packages_stay_in_the_file_of_their_target(folder: str) -> None:
    heavy = {"onnx", "onnx_ir", "onnxruntime", "onnxscript", "executorch", "coremltools"}
    for path in sources(folder):
        found = third_party(imports(path)) & heavy
        if found:
            assert {path.stem, path.parent.name} & {"onnx", "executorch", "coreml"}, (path, found)
        one_file = {"pyarrow": "lmms.py", "matplotlib": "report.py", "sklearn": "drawing.py"}
        for name in third_party(imports(path)) & one_file.keys():
            assert path.name == one_file[name], (path, name)


def test_a_bundle_can_be_used_without_torch_and_the_exporters_packages(tmp_path: Path) -> None:
    """In a process of its own, in which importing any of them fails."""
    script = """
import json
import sys

class Blocked:
    names = {"torch", "transformers", "onnx", "onnxscript", "onnx_ir", "coremltools", "executorch", "optimum",
             "huggingface_hub", "torchao", "vlmp.pruner"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names or name in self.names:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import vlmp.runtimes, vlmp.runtimes.cli, vlmp.runtimes.verify, vlmp.runtimes.draw, vlmp.runtimes.image
import vlmp.runtimes.profile.cli
from pathlib import Path
from vlmp.runtimes.bundle.manifest import METHODS, Manifest
from vlmp.runtimes.bundle.folder import read_manifest, write_manifest

folder = Path(sys.argv[1])
raw = json.loads(sys.argv[2])
(folder / "a").write_text("a")
written = write_manifest(folder, Manifest.model_validate(raw))
assert read_manifest(folder) == written
assert not Blocked.names & sys.modules.keys()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path, json.dumps(smallest())],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


# --- Types ------------------------------------------------------------------------------------------------------------


def test_the_type_checker_sees_through_the_import_names(tmp_path: Path) -> None:
    """`vlmp.*` must not silently be Any: wrong calls are reported, right ones are not."""
    links = tmp_path / "typed" / "vlmp"
    for folder in FOLDERS:
        (links / folder).parent.mkdir(parents=True, exist_ok=True)
        (links / folder).symlink_to(ROOT / folder)
    checked = re.search(r"^FOLDERS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert checked is not None
    assert checked[1].split() == list(FOLDERS)
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from pathlib import Path\n"
        "from vlmp.runtimes.bundle.folder import read_manifest\n"
        "from vlmp.pruner import PrunerConfig, prune\n"
        "from vlmp.runtimes import Chat, load\n"
        "def wrong(hidden: object) -> None:\n"
        "    prune(hidden, hidden, 12, PrunerConfig(num_kept=16))\n"  # line 6
        "    PrunerConfig(num_kept='16')\n"
        "    read_manifest(3)\n"
        "    Chat(load('bundle')).ask('photo.jpg')\n"
        "def right(folder: Path) -> str:\n"
        "    PrunerConfig(num_kept=read_manifest(folder).shape.num_kept)\n"
        "    return Chat(load(folder)).ask('photo.jpg', 'What is this?').text\n"
    )
    # torch's own types take a minute and are not the question.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nnamespace_packages = True\nexplicit_package_bases = True\ndisallow_untyped_defs = True\n"
        "[mypy-torch.*]\nfollow_imports = skip\nignore_missing_imports = True\n"
        "[mypy-PIL.*,numpy.*,tokenizers.*,pydantic.*]\nfollow_imports = skip\nignore_missing_imports = True\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "snippet.py"],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": "typed"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    reported = {int(line.split(":")[1]) for line in done.stdout.splitlines() if line.startswith("snippet.py:")}
    assert reported == {6, 7, 8, 9}, done.stdout + done.stderr


# --- The repository ---------------------------------------------------------------------------------------------------


def repository_files() -> Iterator[Path]:
    """What is in the tree and not ignored."""
    ignored = [line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name != ".git" and not matches(name, ignored)]
        yield from (Path(folder, name) for name in names if name != ".git" and not matches(name, ignored))


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def test_nothing_points_outside_the_repository_or_at_a_tracker() -> None:
    """Paths of the machine it was made on mean nothing to a reader, and neither do numbers of somebody's issues."""
    wrong = {
        "a path of one machine": re.compile(r"(?<![\w.])/" + r"(?:work|root|home)/\w"),
        "a folder beside the repository": re.compile(r"\.\./" + "shared"),
        "an issue number": re.compile(r"(?:^|[\s(])#\d{1,6}\b|/(?:issues|pull)/\d+|\bGH-\d+", re.MULTILINE),
    }
    seen = 0
    for path in repository_files():
        if path.name == "tokenizer.json":
            continue
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        seen += 1
        for what, pattern in wrong.items():
            match = pattern.search(text)
            assert match is None, f"{path.relative_to(ROOT)} holds {what}: {match[0]!r}"
    assert seen > 50


def test_links_and_named_pages_of_the_documentation_exist() -> None:
    """Links of Markdown from their own folder, `docs/...` in code from the repository's."""
    named = 0
    for path in repository_files():
        if path.suffix not in (".md", ".py", ".cpp", ".h", ".j2") and path.name != "Makefile":
            continue
        text = path.read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text) if path.suffix == ".md" else []
        pages = re.findall(r"(?<![\w/])docs/[\w/-]+\.(?:md|png)", text)
        for target in [*(path.parent / link for link in links), *(ROOT / page for page in pages)]:
            named += 1
            assert target.exists(), f"{path.relative_to(ROOT)} names {target}"
    assert named > 20


def test_the_documentation_lists_all_its_pages() -> None:
    listed = set(re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / "docs/README.md").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed == pages - {"README.md"}
