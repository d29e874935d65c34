"""What tests of several ports do with the conformance files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from conformance_files import FOLDER, read
from vlmp.runtimes.session import Array

STEP = 23
"""Every 23rd code point is in `code_points.bin`."""
SAYS = {
    "version": "schema",
    "stages": "stages",
    "tensors": "follows from the sizes|is unknown|must be there once|has no output",
    "name": "leaves the bundle's folder",
    "unlisted": "does not list it",
    "missing": "is missing",
    "size": "bytes, the manifest says",
    "hash": r"is damaged \(sha256 differs\)",
}
"""What Python and C++ say of a class of hostile manifests; of class `field` the name of the field."""
REFUSED = {
    "shape": "at most 200 times as long", "size": "at most 100 megapixels",
    "unreadable": "not in a format|cannot be read|neither PNG nor JPEG",
}  # fmt: skip
"""The same of pictures."""


def code_points(name: str) -> list[tuple[str, list[int]]]:
    """Code points with the ids of their text; none where a tokenizer has no such file."""
    path = FOLDER / f"tokenizer/{name}/code_points.bin"
    numbers = iter(np.fromfile(path, "<u2").tolist() if path.exists() else [])
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000][::STEP]
    return [(point, [next(numbers) for _ in range(count)]) for point, count in zip(points, numbers, strict=False)]


def refused_tokenizers() -> list[tuple[str, dict[str, Any]]]:
    """Each with the tokenizer that it changes."""
    found = read("tokenizer/refused.json")
    others = [(base, case) for base, cases in found["other_bases"].items() for case in cases]
    return [*((found["base"], case) for case in found["cases"]), *others]


def grouped(cases: Sequence[dict[str, Any]]) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Prompts of the same tokenizer, template, control tokens and meaning."""

    def key(case: dict[str, Any]) -> tuple[Any, ...]:
        return case["tokenizer"], case["template"], tuple(case["control_tokens"]), case["meant"]

    return ((name, list(some)) for name, some in groupby(sorted(cases, key=key), key))


def changed(manifest: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """A base with what makes it hostile."""
    manifest = deepcopy(manifest)
    for change in case["change"]:
        *way, last = change["at"]
        part: Any = manifest
        for step in way:
            part = part[step]
        if "value" in change:
            part[last] = change["value"]
        else:
            del part[last]
    return manifest


def bundle_of(folder: Path, manifest: dict[str, Any], files: dict[str, str | None]) -> Path:
    """A folder with a manifest and the files that the bases name."""
    for name, content in (read("manifest/cases.json")["contents"] | files).items():
        if content is not None:
            (folder / name).write_text(content, encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def expected_logits(expected: dict[str, Any], row: int, count: int) -> Array:
    """`count` rows of logits from one on, [rows, V]."""
    path, width = FOLDER / "steps" / expected["logits"], expected["vocab_size"]
    return np.fromfile(path, "<f4", count * width, offset=row * width * 4).reshape(count, width)


def check_logits(expected: dict[str, Any], row: int, found: Array) -> None:
    """Each row within the bundle's limit of its largest logit."""
    wanted = expected_logits(expected, row, len(found))
    error = np.abs(found - wanted).max(axis=1) / np.abs(wanted).max(axis=1)
    assert error.max() <= expected["relative"]
