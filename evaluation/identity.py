"""What an answer depends on, as digests: files of checkpoints and pictures, and the program itself."""

import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from vlmp.export.checkpoint import weight_files
from vlmp.runtimes.traits import traits_of
from vlmp.runtimes.versions import package_version

CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "additional_chat_templates/*.jinja")
"""Whatever a model, its tokenizer, its chat template and its preprocessor may be read from."""
EAGER_SOURCES = ("vlmp.pruner", "vlmp.export", "vlmp.export.models", "vlmp.runtimes")
BUNDLE_SOURCES = ("vlmp.runtimes",)
EAGER_PACKAGES = ("numpy", "pillow", "tokenizers", "torch", "transformers")
BUNDLE_PACKAGES = ("numpy", "pillow", "tokenizers")
RUNTIME_SOURCES = {"coreml": ("vlmp.runtimes.coreml",)}
"""Where a target's session has a folder of its own."""
RUNTIME_PACKAGES = {"onnx": ("onnxruntime",), "executorch": ("executorch", "torch"), "coreml": ("coremltools",)}


def file_digest(path: Path) -> str:
    """sha256 of a file, which is read once for as long as it stays the same. Raises OSError."""
    status = path.stat()
    return _digest_of(path, status.st_size, status.st_mtime_ns, status.st_ino)


@cache
def _digest_of(path: Path, *_status: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checkpoint_digests(folder: Path) -> dict[str, str]:
    """Digest of each file of a checkpoint that has a say in its answers. Raises UserError where it has no weights."""
    paths = {path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern) if path.is_file()}
    paths |= set(weight_files(folder))  # the index may name files in folders below
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(paths)}


def eager_program() -> dict[str, str]:
    """What computes the answers of a model in PyTorch: our sources, and the packages that they call."""
    return program(EAGER_SOURCES, EAGER_PACKAGES)


def bundle_program(target: str) -> dict[str, str]:
    """What computes the answers of a bundle beside its own graphs."""
    sources = (*BUNDLE_SOURCES, *RUNTIME_SOURCES.get(target, ()))
    found = program(sources, (*BUNDLE_PACKAGES, *RUNTIME_PACKAGES.get(target, ())))
    return found | ({"macos": platform.mac_ver()[0] or "none"} if traits_of(target).part_of_system else {})


def program(sources: Iterable[str], packages: Iterable[str]) -> dict[str, str]:
    """Versions, and a digest of whole folders of our sources: too much of them rather than too little.

    Another version of a package may mend a kernel or read a picture otherwise: its answers are not those of the old.
    """
    digest = hashlib.sha256()
    own = [Path(__file__).with_name("run.py")]
    for path in [*own, *(path for source in sources for path in sorted(Path(str(files(source))).glob("*.py")))]:
        digest.update(f"{path.name} {file_digest(path)}\n".encode())
    versions = {name: package_version(name) for name in packages}
    return {"vlmp": package_version("vlmp"), "sources": digest.hexdigest(), **versions}
