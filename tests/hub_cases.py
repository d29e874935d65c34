"""A bundle as the Hugging Face cache lays it out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

REVISION = "5" * 40


def as_in_a_cache(bundle: Path, root: Path, name: str = "us/bundle") -> Path:
    """Copy a bundle or a checkpoint to root/models--us--bundle.

    Contents lie in blobs/, relative links to them in snapshots/REVISION/.

    Returns the snapshot's folder.
    """
    model = root / f"models--{name.replace('/', '--')}"
    snapshot, blobs = model / "snapshots" / REVISION, model / "blobs"
    for folder in (snapshot, blobs, model / "refs"):
        folder.mkdir(parents=True)
    (model / "refs/main").write_text(REVISION)
    for path in sorted(bundle.rglob("*")):
        if path.is_dir():
            continue
        content = path.read_bytes()
        blob = blobs / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / path.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def swap(link: Path) -> None:
    """Let a link lead to other content of the same size."""
    blob = link.resolve()
    other = blob.with_name("other")
    other.write_bytes(bytes(reversed(blob.read_bytes())))
    link.unlink()
    link.symlink_to(os.path.relpath(other, link.parent))
