"""Where the conformance files are, and how they are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "files"


def read(name: str) -> Any:
    """A JSON file by its name in the folder."""
    return json.loads((FOLDER / name).read_text(encoding="ascii"))


def write_json(path: Path, **parts: Any) -> None:
    """An object in ASCII; a list in it has a line for each item, so that a change is seen in a diff."""
    fields = []
    for name, value in parts.items():
        if isinstance(value, list) and value:
            lines = ",\n".join(_compact(item) for item in value)
            fields.append(f"{_compact(name)}:[\n{lines}\n]")
        else:
            fields.append(f"{_compact(name)}:{_compact(value)}")
    write_bytes(path, ("{" + ",\n".join(fields) + "}\n").encode("ascii"))


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
