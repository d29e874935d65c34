"""The bundle on disk: what is written is read back, what was changed is noticed, and nothing appears half done."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bundle_cases import with_tensors
from vlmp.export.config import ExportConfig
from vlmp.export.describe import describe
from vlmp.export.plan import make_plan, open_source
from vlmp.export.schedule import parse_schedule
from vlmp.export.targets import open_target
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import (
    MANIFEST_NAME,
    check_output,
    inside,
    new_bundle,
    read_manifest,
    remove_unfinished,
    sha256,
    size_bytes,
    write_manifest,
)
from vlmp.runtimes.bundle.manifest import METHODS, SCHEMA_VERSION, Check, Manifest, MethodSpec, json_schema
from vlmp.runtimes.console.signals import ENDING, terminable

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "runtimes/bundle/manifest.schema.json"
NAN = float("nan")
FILES = ("graphs/steps.onnx", "tokenizer.json", "vision.onnx")


@pytest.fixture(scope="module")
def described() -> Manifest:
    return describe_tiny(keep=0.3)


def describe_tiny(**pruning: Any) -> Manifest:
    """What the pipeline says about an export of vlmp-tiny, with made-up files."""
    config = ExportConfig(
        model="vlmp-tiny", targets=("executorch",), output=Path("out"), image_size=(112, 140), **pruning
    )
    source = open_source(config)
    specs = {
        name: MethodSpec(
            file="vision.onnx" if name == "vision" else "graphs/steps.onnx",
            entry=name,
            inputs=source.geometry.inputs(name, "float32"),
            outputs=source.geometry.outputs(name, "float32"),
        )
        for name in METHODS
    }
    return describe(make_plan(config, source, open_target("executorch")), specs)


def write_files(folder: Path) -> None:
    for name in FILES:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * 100)


@pytest.fixture
def folder(tmp_path: Path, described: Manifest) -> Path:
    """A complete bundle."""
    output = tmp_path / "parent" / "bundle"
    with new_bundle(output, overwrite=False) as working:
        write_files(working)
        write_manifest(working, described)
    return output


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest by hand."""
    path = folder / MANIFEST_NAME
    raw = json.loads(path.read_bytes())
    change(raw)
    path.write_text(json.dumps(raw))


# --- Manifest ---------------------------------------------------------------------------------------------------------


def test_round_trip(folder: Path, described: Manifest) -> None:
    manifest = read_manifest(folder)
    assert manifest.model_copy(update={"files": []}) == described
    assert [entry.path for entry in manifest.files] == sorted(FILES)
    for entry in manifest.files:
        assert entry.size_bytes == (folder / entry.path).stat().st_size
        assert entry.sha256 == sha256(folder / entry.path)
    assert read_manifest(folder, check_hashes=False) == manifest
    assert size_bytes(folder) == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_manifest_says_everything_that_an_app_needs(described: Manifest) -> None:
    assert described.schema_version == SCHEMA_VERSION
    shape, prompt = described.shape, described.prompt
    (whole,) = shape.image.segments
    assert (shape.image.height, shape.image.width, shape.image.visual_tokens) == (112, 140, 20)
    assert (whole.rows, whole.columns, whole.first, whole.stride, whole.box) == (4, 5, 0, 5, (0, 0, 140, 112))
    (stage,) = shape.stages
    assert (stage.place, stage.index, stage.pruner, stage.tokens, stage.num_kept) == ("layer", 2, "vlm-pruner", 20, 6)
    prefix = len(prompt.prefix_ids)
    assert [layer.base - prefix for layer in shape.kv.layers][:4] == [20, 20, 6, 6]
    assert {layer.slots - layer.base for layer in shape.kv.layers} == {prompt.text_len + prompt.max_new_tokens}
    caches = {spec.name: spec.shape for spec in described.method("decode").inputs if "_cache_" in spec.name}
    assert len(caches) == 2 * len(shape.kv.layers)
    for number, layer in enumerate(shape.kv.layers):
        wanted = [layer.kv_heads, layer.slots, layer.head_dim]
        assert caches[f"key_cache_{number}"] == caches[f"value_cache_{number}"] == wanted
    assert prompt.end_text_id in prompt.end_ids
    assert set(described.tools) >= {"vlmp", "torch", "executorch"}


def test_the_manifest_of_two_stages() -> None:
    manifest = describe_tiny(stages=parse_schedule("2:0.5+4:0.3:divprune"))
    shape = manifest.shape
    assert [(stage.index, stage.pruner, stage.tokens, stage.num_kept) for stage in shape.stages] == [
        (2, "vlm-pruner", 20, 10), (4, "divprune", 10, 6),
    ]  # fmt: skip
    assert (shape.pruner, shape.prune_layer, shape.num_kept) == ("vlm-pruner+divprune", 2, 6)
    prefix = len(manifest.prompt.prefix_ids)
    assert [layer.base - prefix for layer in shape.kv.layers] == [20, 20, 10, 10, 6, 6]
    kept = {spec.name: spec.shape for spec in manifest.method("prefill").outputs if spec.dtype == "int32"}
    assert kept == {"kept_0": [10], "kept": [6], "order": [6], "filled": [1]}


def test_the_manifest_is_utf_8_whatever_the_locale(folder: Path) -> None:
    """Python can be told to warn where a file is opened in the locale's encoding."""
    script = """
import sys
from pathlib import Path
from vlmp.runtimes.bundle.folder import read_manifest, write_manifest

folder = Path(sys.argv[1])
manifest = read_manifest(folder)
prompt = manifest.prompt.model_copy(update={"first": "\u2013 fr\u00fcher: {prompt}"})
write_manifest(folder, manifest.model_copy(update={"prompt": prompt}))
assert read_manifest(folder).prompt == prompt
"""
    options = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning:vlmp.runtimes.bundle.manifest"]
    subprocess.run([sys.executable, *options, "-c", script, folder], check=True, timeout=60)
    assert "\u2013 fr\u00fcher: {prompt}".encode() in (folder / MANIFEST_NAME).read_bytes()


def test_no_path_or_name_of_the_exporting_machine(folder: Path) -> None:
    text = (folder / MANIFEST_NAME).read_text()
    for trace in (str(ROOT), str(folder), str(Path.home()) + "/", socket.gethostname()):
        assert trace not in text
    assert [word for word in json.loads(text)["files"] if word["path"].startswith("/")] == []


def test_schema_file_is_current() -> None:
    command = "python -c 'from vlmp.runtimes.bundle.manifest import json_schema; print(json_schema(), end=\"\")'"
    written = f"{command} > runtimes/bundle/manifest.schema.json"
    assert SCHEMA.is_file(), f"write it: {written}"
    assert SCHEMA.read_text(encoding="utf-8") == json_schema(), f"stale: {written}"


def test_a_real_manifest_fits_the_schema(folder: Path) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    raw = json.loads((folder / MANIFEST_NAME).read_bytes())
    assert [error.message for error in validator.iter_errors(raw)] == []
    for wrong in ({**raw, "precision": "int8"}, {**raw, "shapes": []}, {**raw, "shapes": [{}]}):
        assert list(validator.iter_errors(wrong))
    del raw["prompt"]
    assert list(validator.iter_errors(raw))


@pytest.mark.parametrize(
    ("value", "better", "passed"),
    [(1, "lower", True), (1.1, "lower", False), (1, "higher", True), (0.9, "higher", False), (NAN, "lower", False),
     (NAN, "higher", False)],
)  # fmt: skip
def test_a_check_passes_at_its_limit_and_never_without_a_number(value: float, better: Any, passed: bool) -> None:
    assert Check(name="x", value=value, limit=1, better=better).passed is passed


# --- What was changed -------------------------------------------------------------------------------------------------


def test_no_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    for path in (folder, tmp_path, tmp_path / "nowhere", folder / "tokenizer.json"):
        with pytest.raises(UserError, match=r"is not a bundle: it has no manifest\.json"):
            read_manifest(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not valid JSON"),
        (b'{"schema_version": 1', "is not valid JSON"),
        (b"\xff\xfe\xfa", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[]", "no schema_version: not a vlmp manifest"),
        (b"null", "no schema_version: not a vlmp manifest"),
        (b"{}", "no schema_version: not a vlmp manifest"),
        (b'{"schema_version": "1"}', "no schema_version: not a vlmp manifest"),
        (b'{"schema_version": 3}', "schema version 3, this vlmp reads 1 to 2: upgrade vlmp"),
        (b'{"schema_version": 0}', "schema version 0, this vlmp reads 1 to 2: export the model again"),
        (b'{"schema_version": 1}', "image: Field required"),
        (b'{"schema_version": 2}', "model: Field required"),
    ],
)
def test_manifests_that_cannot_be_read(folder: Path, content: bytes, says: str) -> None:
    (folder / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_manifest(folder)
    assert says in str(caught.value)
    assert str(folder / MANIFEST_NAME) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw["prompt"].pop("pad_id"), "prompt.pad_id: Field required"),
        (lambda raw: raw.update(precision="int8"), "precision: Input should be"),
        (lambda raw: raw["shapes"].clear(), "shapes: List should have at least 1 item"),
        (lambda raw: raw["shapes"][0]["image"].update(resample="nearest"), "shapes.0.image.resample: Input should be"),
        (lambda raw: raw["shapes"][0]["image"].update(frames=8), "shapes.0.image.frames: Input should be 1"),
        (lambda raw: raw["shapes"][0]["image"]["segments"].clear(), "shapes.0.image.segments: List should have"),
        (lambda raw: raw["shapes"][0]["kv"].update(layers="six"), "shapes.0.kv.layers"),
        (lambda raw: raw["shapes"][0]["stages"][0].update(num_kept=21), "takes 20 and keeps 21 of 20 tokens"),
        (lambda raw: raw["shapes"][0]["stages"][0].update(tokens=19), "takes 19 and keeps 6 of 20 tokens"),
        (lambda raw: raw["shapes"][0]["stages"][0].update(place="vision"), "one in the language model must follow"),
        (lambda raw: raw["shapes"][0]["methods"].pop("decode"), "shapes.0.methods: Value error, decode is missing"),
        (lambda raw: raw["methods"].pop("decode"), "Value error, methods: decode is missing"),
        (lambda raw: raw["files"].clear(), "but does not list it among its files"),
        (lambda raw: raw["files"].pop(1), "manifest uses tokenizer.json but does not list it"),
        (
            lambda raw: raw["methods"]["vision"].update(file="other.onnx"),
            "manifest uses other.onnx but does not list it",
        ),
        (lambda raw: raw["methods"]["vision"].update(file="graph"), "manifest uses graph but does not list it"),
        (lambda raw: raw["files"][0].update(sha256="0" * 64), "graphs/steps.onnx is damaged (sha256 differs)"),
        (lambda raw: raw["files"][0].update(size_bytes=1), "graphs/steps.onnx has 1700 bytes, the manifest says 1"),
    ],
)
def test_manifests_that_do_not_fit(folder: Path, change: Callable[[dict[str, Any]], object], says: str) -> None:
    edit(folder, change)
    with pytest.raises(UserError) as caught:
        read_manifest(folder)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def followed_by(**fields: Any) -> Callable[[dict[str, Any]], object]:
    """The stage before layer 2, which keeps 6 of 20 tokens, has one after it. fields: what is otherwise there."""

    def change(raw: dict[str, Any]) -> None:
        stages = raw["shapes"][0]["stages"]
        stages.append({**stages[0], "index": 4, "tokens": 6, "num_kept": 3} | fields)
        outputs = raw["methods"]["prefill"]["outputs"]
        outputs.append({"name": "kept_0", "shape": [6], "dtype": "int32"})

    return change


def test_stages_follow_one_another(folder: Path) -> None:
    edit(folder, followed_by())
    edit(folder, with_tensors)
    shape = read_manifest(folder).shape
    assert [(stage.index, stage.num_kept) for stage in shape.stages] == [(2, 6), (4, 3)]
    assert (shape.num_kept, shape.pruner, shape.prune_layer) == (3, "vlm-pruner+vlm-pruner", 2)


def test_prefill_tells_what_each_stage_keeps(folder: Path) -> None:
    edit(folder, followed_by())
    edit(folder, lambda raw: raw["methods"]["prefill"]["outputs"].pop())
    with pytest.raises(UserError) as caught:
        read_manifest(folder)
    assert str(caught.value).endswith("manifest.json: Value error, methods: prefill has no output kept_0 of stage 0")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (followed_by(num_kept=7), "stages.1: takes 6 and keeps 7 of 6 tokens"),
        (followed_by(num_kept=0), "stages.1: takes 6 and keeps 0 of 6 tokens"),
        (followed_by(tokens=20), "stages.1: takes 20 and keeps 3 of 6 tokens"),
        (followed_by(tokens=5), "stages.1: takes 5 and keeps 3 of 6 tokens"),
        (followed_by(index=2), "stages.1: index 2 is not after the stage before"),
        (followed_by(index=1), "stages.1: index 1 is not after the stage before"),
        (followed_by(index=6), "stages.1: index 6 must be from 0 to 5"),
        (followed_by(index=-1), "stages.1: index -1 must be from 0 to 5"),
        (followed_by(place="vision", index=9), "stages.1: index 9 is not after the stage before"),
        (followed_by(place="behind"), "stages.1.place: Input should be 'vision' or 'layer'"),
        (lambda raw: raw["shapes"][0]["stages"][0].update(index=6), "stages.0: index 6 must be from 0 to 5"),
    ],
)
def test_stages_that_do_not_follow_one_another(
    folder: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edit(folder, change)
    with pytest.raises(UserError) as caught:
        read_manifest(folder)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_may_name_a_folder_of_listed_files(folder: Path) -> None:
    edit(folder, lambda raw: raw["methods"]["decode"].update(file="graphs"))
    assert read_manifest(folder).methods["decode"].file == "graphs"


@pytest.mark.parametrize("name", FILES)
def test_files_that_were_changed(folder: Path, name: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    for place in (0, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=f"{name} is damaged .sha256 differs.: copy the bundle again"):
            read_manifest(folder)
    read_manifest(folder, check_hashes=False)
    for other in (content[:-1], content + b"x", b""):
        path.write_bytes(other)
        for check_hashes in (True, False):
            with pytest.raises(UserError, match=f"{name} has {len(other)} bytes, the manifest says {len(content)}"):
                read_manifest(folder, check_hashes=check_hashes)
    path.unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        read_manifest(folder)
    path.mkdir()
    with pytest.raises(UserError, match=f"{name} is missing"):
        read_manifest(folder)
    path.rmdir()
    path.write_bytes(content)
    read_manifest(folder)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../other", "graphs/../../other", "/etc/passwd", "//etc/passwd", "..\\other", "graphs\\steps.onnx",
     "C:\\other", "a\0b"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["files", "method", "tokenizer"])
def test_paths_that_leave_the_folder(folder: Path, name: str, where: str) -> None:
    (folder.parent / "other").write_text("x")

    def change(raw: dict[str, Any]) -> None:
        if where == "files":
            raw["files"].append({"path": name, "sha256": "0" * 64, "size_bytes": 1})
        elif where == "method":
            raw["methods"]["prefill"]["file"] = name
        else:
            raw["prompt"]["tokenizer_file"] = name

    edit(folder, change)
    with pytest.raises(UserError, match="which leaves the bundle's folder"):
        read_manifest(folder)
    with pytest.raises(UserError, match="which leaves the bundle's folder"):
        inside(folder, name)


OUTSIDE = [lambda folder: folder.parent / "other", lambda _: Path("../other")]


@pytest.mark.parametrize("target", OUTSIDE, ids=["absolute", "relative"])
@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_link_is_what_it_leads_to(folder: Path, target: Callable[[Path], Path], check_hashes: bool) -> None:
    """Hashes of what lies outside the folder are compared even where others are not."""
    wanted, content = read_manifest(folder), (folder / "vision.onnx").read_bytes()
    (folder / "vision.onnx").unlink()
    (folder.parent / "other").write_bytes(content)
    (folder / "vision.onnx").symlink_to(target(folder))
    assert read_manifest(folder, check_hashes=check_hashes) == wanted
    (folder.parent / "other").write_bytes(bytes(reversed(content)))
    with pytest.raises(UserError, match=r"vision\.onnx is damaged \(sha256 differs\): copy the bundle again"):
        read_manifest(folder, check_hashes=check_hashes)
    (folder.parent / "other").write_bytes(content + b" ")
    with pytest.raises(UserError, match=r"vision\.onnx has \d+ bytes, the manifest says \d+: copy the bundle again"):
        read_manifest(folder, check_hashes=check_hashes)


def test_a_link_inside_the_folder(folder: Path) -> None:
    (folder / "copy").write_bytes((folder / "vision.onnx").read_bytes())
    (folder / "vision.onnx").unlink()
    (folder / "vision.onnx").symlink_to("copy")
    assert read_manifest(folder)


@pytest.mark.parametrize("what", ["circle", "dangling", "folder", "pipe", "link to a pipe", "device"])
def test_what_is_no_file_is_refused(folder: Path, what: str) -> None:
    path = folder / "vision.onnx"
    path.unlink()
    if what == "circle":
        (folder / "copy").symlink_to("vision.onnx")
        path.symlink_to("copy")
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link to a pipe":
        os.mkfifo(folder.parent / "pipe")
        path.symlink_to("../pipe")
    else:
        path.symlink_to("nowhere" if what == "dangling" else "/dev/zero")
    with pytest.raises(UserError) as caught:
        read_manifest(folder)
    assert str(caught.value) == (
        f"{folder}: vision.onnx is missing, what is there is neither a file nor a link to one: copy the bundle again"
    )


@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_folder_of_the_bundle_that_is_a_link(folder: Path, check_hashes: bool) -> None:
    wanted = read_manifest(folder)
    (folder / "graphs").rename(folder.parent / "graphs")
    (folder / "graphs").symlink_to("../graphs")
    assert read_manifest(folder, check_hashes=check_hashes) == wanted
    path = next((folder.parent / "graphs").iterdir())
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with pytest.raises(UserError, match=r"graphs/.* is damaged"):
        read_manifest(folder, check_hashes=check_hashes)


def test_a_bundle_may_be_reached_through_a_link(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert read_manifest(link) == read_manifest(folder)


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_the_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b" / "bundle"
    with new_bundle(output, overwrite=False) as working:
        assert not output.exists()
        assert working.parent == output.parent
        assert working.name.startswith(".bundle.")
        (working / "x").write_text("x")
        assert not output.exists()
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]
    assert (output / "x").read_text() == "x"
    assert output.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(error), new_bundle(tmp_path / "there" / "a" / "b" / "bundle", overwrite=False) as working:  # noqa: PT012
        (working / "deep").mkdir()
        (working / "deep" / "x").write_text("x")
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_failure_leaves_what_others_wrote_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(ValueError), new_bundle(tmp_path / "a" / "bundle", overwrite=False):  # noqa: PT011, PT012
        (tmp_path / "a" / "notes").write_text("mine")
        raise ValueError
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "notes"]


def test_an_earlier_bundle_stays_when_it_cannot_be_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    real = Path.rename

    for failing in (1, 2):
        calls = []

        def rename(path: Path, target: Path, failing: int = failing, calls: list[Path] = calls) -> Path:
            calls.append(path)
            if len(calls) == failing:
                raise KeyboardInterrupt
            return real(path, target)

        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt), new_bundle(folder, overwrite=True) as working:
            (working / "x").write_text("x")
        monkeypatch.setattr(Path, "rename", real)
        assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before
        assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


MARK = '{"schema_version": 1, "methods": {}, "files": []}'


def test_what_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def fill(output: Path, come: Callable[[Path], object]) -> None:
        with new_bundle(output, overwrite=False) as working:
            (working / "x").write_text("second")
            come(output)

    for come in (Path.mkdir, lambda output: output.write_text("mine"), lambda output: write_bundle(output, "first")):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(UserError, match="exists: choose another --output"):
            fill(folder / "bundle", come)
        assert [path.name for path in folder.iterdir()] == ["bundle"]
    assert list((tmp_path / "0" / "bundle").iterdir()) == []
    assert (tmp_path / "1" / "bundle").read_text() == "mine"
    assert (tmp_path / "2" / "bundle" / "x").read_text() == "first"


def test_what_comes_at_the_last_moment_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look and the renaming: the system itself refuses."""
    output, real, calls = tmp_path / "bundle", Path.rename, list[Path]()

    def rename(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == 1:
            write_bundle(output, "first")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(UserError, match="exists: choose another --output"), new_bundle(output, overwrite=False) as at:
        (at / "x").write_text("second")
    assert (output / "x").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def write_bundle(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / MANIFEST_NAME).write_text(MARK)
    (folder / "x").write_text(content)


def test_of_two_that_may_overwrite_the_later_one_wins(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    with new_bundle(output, overwrite=True) as later:
        with new_bundle(output, overwrite=True) as sooner:
            (sooner / MANIFEST_NAME).write_text(MARK)
        (later / "x").write_text("later")
    assert (output / "x").read_text() == "later"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_is_no_bundle_is_not_overwritten_in_the_end(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    with pytest.raises(UserError, match="replaces bundles only"), new_bundle(output, overwrite=True):  # noqa: PT012
        output.mkdir()
        (output / "thesis").write_text("mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "thesis"]


REPLACE = """
import sys
from pathlib import Path
from vlmp.runtimes.bundle.folder import new_bundle

for number in range(60):
    with new_bundle(Path(sys.argv[1]), overwrite=True) as folder:
        (folder / "manifest.json").write_text('{"schema_version": 1, "methods": {}, "files": []}')
        (folder / "x").write_text(sys.argv[2])
"""


def test_many_that_overwrite_at_once_never_lose_all(tmp_path: Path) -> None:
    """Processes that no lock keeps apart, as on some network file systems."""
    output = tmp_path / "bundle"
    processes = [subprocess.Popen([sys.executable, "-c", REPLACE, output, name]) for name in "abc"]
    assert [process.wait(timeout=100) for process in processes] == [0, 0, 0]
    assert (output / "x").read_text() in "abc"
    assert read_names(output) == ["manifest.json", "x"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def read_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_killed_exports_leave_is_removed(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    others = [
        ".bundle.old.2024", ".bundle.other", ".bundle.vlmp-old.notes", ".bundle.vlmp-old.vlmp-part.abcd_123",
        ".bundle2.vlmp-part.abcd_123", "bundle.vlmp-part.abcd_123",
    ]  # fmt: skip
    for name in (".bundle.vlmp-part.abcd_123", ".bundle.vlmp-old.abcd_123", *others):
        write_bundle(tmp_path / name, "")
    write_bundle(output, "mine")
    remove_unfinished(output)
    assert read_names(tmp_path) == sorted(["bundle", *others])
    remove_unfinished(tmp_path / "nowhere" / "bundle")


def test_the_folder_of_a_like_named_output_stays(tmp_path: Path) -> None:
    with new_bundle(tmp_path / "bundle.vlmp-old", overwrite=False) as folder:
        remove_unfinished(tmp_path / "bundle")
        assert folder.is_dir()
        (folder / MANIFEST_NAME).write_text(MARK)
    with new_bundle(tmp_path / "bundle", overwrite=False) as folder:
        remove_unfinished(tmp_path / "bundle")
        assert not folder.exists(), "the names are those that `new_bundle` gives"
        write_bundle(folder, "mine")


def test_a_bundle_that_was_being_replaced_returns(tmp_path: Path) -> None:
    (tmp_path / ".bundle.vlmp-old.abcd_123").mkdir()
    write_bundle(tmp_path / ".bundle.vlmp-old.abcd_123" / "bundle", "mine")
    remove_unfinished(tmp_path / "bundle")
    assert read_names(tmp_path) == ["bundle"]
    assert (tmp_path / "bundle" / "x").read_text() == "mine"


def test_sigterm_unwinds_and_the_handler_returns(tmp_path: Path) -> None:
    def unhandled(*_: object) -> None:
        pytest.fail("SIGTERM would have ended the process")

    before = signal.signal(signal.SIGTERM, unhandled)
    try:
        with pytest.raises(KeyboardInterrupt), new_bundle(tmp_path / "bundle", overwrite=False):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is unhandled
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_interrupt_the_cleaning_up(ends: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in ENDING]
    cleaned = []

    def work() -> None:
        try:
            signal.raise_signal(ends)
        finally:
            for number in ENDING:
                signal.raise_signal(number)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt), terminable():
        work()
    assert cleaned
    assert [signal.getsignal(number) for number in ENDING] == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_works_outside_the_main_thread(tmp_path: Path) -> None:
    def work() -> None:
        with new_bundle(tmp_path / "bundle", overwrite=False) as working:
            (working / "x").write_text("x")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (tmp_path / "bundle" / "x").is_file()


def test_what_may_be_overwritten(folder: Path) -> None:
    with pytest.raises(UserError, match="exists: choose another --output or pass --overwrite"):
        check_output(folder, overwrite=False)
    check_output(folder, overwrite=True)
    check_output(folder.parent / "new", overwrite=False)
    (folder.parent / "empty").mkdir()
    check_output(folder.parent / "empty", overwrite=True)
    edit(folder, lambda raw: raw.update(schema_version=0))
    check_output(folder, overwrite=True)
    for content in ("{}", "[]", "{", '{"schema_version": 1}', '{"manifest_version": 3}'):
        (folder / MANIFEST_NAME).write_text(content)
        with pytest.raises(UserError, match="--overwrite replaces bundles only"):
            check_output(folder, overwrite=True)
