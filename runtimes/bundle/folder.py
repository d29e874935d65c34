"""The bundle on disk: a folder with graphs, tokenizer files and the manifest that describes them all.

A bundle appears whole or not at all, and is read only when every file is the one that was written.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError
from vlmp.runtimes.bundle import schema_1
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import SCHEMA_VERSION, FileSpec, Manifest, from_json
from vlmp.runtimes.bundle.tensors import check_tensors
from vlmp.runtimes.console.signals import terminable

MANIFEST_NAME = "manifest.json"
MOST_MANIFEST_BYTES = 1 << 26
"""What is larger is no manifest, and is not read."""
REFERENCE_NAME = "reference.safetensors"
UNFINISHED, REPLACED = "vlmp-part", "vlmp-old"
"""In the names of folders beside a bundle that is being written, and beside one that is being replaced."""
READERS: dict[int, Callable[[dict[str, Any]], Manifest]] = {
    1: schema_1.upgraded,
    SCHEMA_VERSION: from_json,
}
"""Schema version -> what makes a manifest of such a file."""


@contextmanager
def new_bundle(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `output` that becomes `output` when the block ends well, and vanishes otherwise.

    Raises UserError when `output` exists and `overwrite` is false, at first or in the end, or when it is no bundle and
    would be replaced.
    """
    check_output(output, overwrite=overwrite)
    made = [parent for parent in output.parents if not parent.exists()]
    with terminable():
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.{UNFINISHED}.", dir=output.parent))
            try:
                yield folder
                _readable(folder)
                _put(folder, output, overwrite=overwrite)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except BaseException:
            for parent in made:
                with suppress(OSError):  # never made, or somebody else's file is in it by now
                    parent.rmdir()
            raise


def _put(folder: Path, output: Path, *, overwrite: bool) -> None:
    """Rename `folder` to `output`; of two that do so at once the later one wins, if it may overwrite.

    A bundle that is there goes, but stays if anything fails before it is replaced. Raises UserError when what is there
    must not be replaced.
    """
    while True:
        if not overwrite:
            check_output(output, overwrite=False)
        with _set_aside(output) if overwrite else nullcontext():
            try:
                folder.rename(output)
                return
            except OSError:  # a folder replaces an empty one only
                if not os.path.lexists(output):
                    raise


@contextmanager
def _set_aside(output: Path) -> Iterator[None]:
    """Make room for another bundle. When the block ends, the earlier one goes, or returns if none has come.

    Raises UserError when what is there now is no bundle.
    """
    earlier = Path(tempfile.mkdtemp(prefix=f".{output.name}.{REPLACED}.", dir=output.parent)) / "bundle"
    try:
        with suppress(FileNotFoundError):  # there is none, or somebody else has moved it away
            output.rename(earlier)
            if not earlier.is_symlink():  # what a link points to stays as it is
                _check_replaceable(earlier, output)
        yield
    finally:
        if earlier.exists() and not output.exists():
            earlier.rename(output)
        shutil.rmtree(earlier.parent, ignore_errors=True)


def remove_unfinished(output: Path) -> None:
    """Remove what killed exports to `output` have left beside it. Only for who holds the lock of `output`.

    A bundle that one of them was replacing returns to its place.
    """
    if not output.parent.is_dir():
        return
    # As mkdtemp names them, so that those of an output called NAME.vlmp-old are not taken for NAME's.
    ours = re.compile(rf"\.{re.escape(output.name)}\.({UNFINISHED}|{REPLACED})\.[a-z0-9_]{{8}}")
    for path in list(output.parent.iterdir()):
        found = ours.fullmatch(path.name)
        if found is None:
            continue
        if found[1] == REPLACED and not os.path.lexists(output):
            with suppress(OSError):  # it was not moved there yet
                (path / "bundle").rename(output)
        shutil.rmtree(path, ignore_errors=True)


def _readable(folder: Path) -> None:
    """Some writers make files that only their owner may read; a bundle is there to be copied."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raises UserError unless a bundle may be written to `output`."""
    seen = _identity(output)
    if seen is None:
        return
    if not overwrite:
        raise UserError(f"output {output} exists: choose another --output or pass --overwrite")
    try:
        _check_replaceable(output, output)
    except (UserError, FileNotFoundError):
        if seen == _identity(output):  # or it is being replaced just now, and is looked at again in the end
            raise


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a folder, file or link from another one that takes its place; None where there is nothing."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def _check_replaceable(folder: Path, output: Path) -> None:
    """Raises UserError unless a folder, which people know as `output`, is a bundle or empty."""
    if not folder.is_dir() or (any(folder.iterdir()) and not _has_manifest(folder)):
        raise UserError(
            f"output {output} is not a bundle (no {MANIFEST_NAME} of vlmp): --overwrite replaces bundles only"
        )


def _has_manifest(folder: Path) -> bool:
    """Whether there is a manifest of ours, of any version; browser extensions and web apps have files of that name."""
    try:
        raw = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and {"schema_version", "methods", "files"} <= raw.keys()


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Add size and sha256 of every file in `folder` to the manifest and write it. Returns the completed manifest."""
    files = [
        FileSpec(path=path.relative_to(folder).as_posix(), sha256=sha256(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    ]
    complete = manifest.model_copy(update={"files": files})
    text = complete.model_dump_json(indent=2) + "\n"
    temporary = folder / f"{MANIFEST_NAME}.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(folder / MANIFEST_NAME)
    return complete


def read_manifest(bundle: Path, *, check_hashes: bool = True) -> Manifest:
    """Read and check a bundle's manifest. A file that a link brings from outside the folder is hashed in any case.

    Raises UserError naming the bundle and what is wrong: no manifest, a newer schema, a field that does not fit, a name
    that leaves the folder, a file that is missing, no file, or whose size or sha256 differs.
    """
    path = bundle / MANIFEST_NAME
    if not path.is_file():
        raise UserError(f"{bundle} is not a bundle: it has no {MANIFEST_NAME}")
    if path.stat().st_size > MOST_MANIFEST_BYTES:
        raise UserError(f"{path} has {path.stat().st_size} bytes: a manifest has at most {MOST_MANIFEST_BYTES}")
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise UserError(f"{path} has no schema_version: not a vlmp manifest")
    if version not in READERS:
        hint = "upgrade vlmp" if version > SCHEMA_VERSION else "export the model again"
        raise UserError(
            f"{path} has schema version {version}, this vlmp reads {min(READERS)} to {SCHEMA_VERSION}: {hint}"
        )
    try:
        manifest = READERS[version](raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(": ".join(part for part in (str(path), where, first["msg"]) if part)) from None
    try:
        check_tensors(manifest)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    _check_files(bundle, manifest, check_hashes=check_hashes)
    return manifest


def inside(bundle: Path, relative: str) -> Path:
    """The path of a bundle's file. Raises UserError when its name would leave the folder.

    Links may: what they lead to has the manifest's hash. Caches, such as the Hugging Face hub's, lay bundles out so.
    """
    pure = PurePosixPath(relative)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in relative or "\0" in relative:
        raise UserError(f"{bundle}: manifest names {relative!r}, which leaves the bundle's folder")
    return bundle / pure


def _check_files(bundle: Path, manifest: Manifest, *, check_hashes: bool) -> None:
    listed = {entry.path for entry in manifest.files}
    graphs = [method.file for method in manifest.methods.values()]
    data = [method.data_file for method in manifest.methods.values() if method.data_file]
    for named in [manifest.prompt.tokenizer_file, *graphs, *data]:
        path = inside(bundle, named)
        if named not in listed and not any(entry.startswith(f"{named}/") for entry in listed):
            raise UserError(f"{bundle}: manifest uses {path.name} but does not list it among its files")
    for entry in manifest.files:
        path = inside(bundle, entry.path)
        if not path.is_file():
            there = ", what is there is neither a file nor a link to one" if os.path.lexists(path) else ""
            raise UserError(f"{bundle}: {entry.path} is missing{there}: copy the bundle again")
        if path.stat().st_size != entry.size_bytes:
            raise UserError(
                f"{bundle}: {entry.path} has {path.stat().st_size} bytes, the manifest says {entry.size_bytes}: "
                "copy the bundle again"
            )
        # Not Path.resolve: it raises RuntimeError on links in a circle.
        from_outside = not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(bundle))
        if (check_hashes or from_outside) and sha256(path) != entry.sha256:
            raise UserError(f"{bundle}: {entry.path} is damaged (sha256 differs): copy the bundle again")


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_bytes(folder: Path) -> int:
    """Bytes of all files under `folder`."""
    return sum(os.stat(path).st_size for path in folder.rglob("*") if path.is_file())
