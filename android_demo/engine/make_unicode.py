"""Writes UnicodeTables.kt from the conformance files' table of Unicode classes."""

import json
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase, digits

HERE = Path(__file__).resolve().parent
TABLE = HERE.parents[1] / "tests/conformance/files/unicode/unicode.json"
OUTPUT = HERE / "src/main/kotlin/dev/vlmp/engine/UnicodeTables.kt"
WIDTH = 108
HEADER = """\
// Written by make_unicode.py from tests/conformance/files/unicode/unicode.json.
package dev.vlmp.engine

/** Entries of numbers to the base of 36: as Kotlin, so that an app needs no resources of the engine. */
internal object UnicodeTables {
"""
NAMES = {
    "letters": "First and last code point.",
    "numbers": "The same.",
    "other_numbers": "The same.",
    "spaces": "The same.",
    "marks": "First and last code point, and their combining class; 0 elsewhere.",
    "decompositions": "A code point and its parts.",
    "compositions": "Two code points and what they make.",
}


def main() -> None:
    """Write the file."""
    OUTPUT.write_text(tables(), encoding="ascii", newline="\n")


def tables() -> str:
    """What the file has to hold."""
    found = json.loads(TABLE.read_text(encoding="ascii"))
    parts = []
    for name, says in NAMES.items():
        entries = ",".join(" ".join(base36(number) for number in flat(entry)) for entry in found[name])
        lines = '" +\n        "'.join(entries[start : start + WIDTH] for start in range(0, len(entries), WIDTH))
        parts.append(f"    /** {says} */\n    val {name.upper()} = (\n        \"{lines}\"\n        ).split(',')\n")
    return HEADER + "\n".join(parts) + "}\n"


def flat(entry: Iterable[int | list[int]]) -> list[int]:
    """An entry of the table as one row of numbers."""
    return [number for part in entry for number in (part if isinstance(part, list) else [part])]


def base36(number: int) -> str:
    """As Kotlin's `toInt(36)` reads it."""
    rest, figure = divmod(number, 36)
    return (base36(rest) if rest else "") + (digits + ascii_lowercase)[figure]


if __name__ == "__main__":
    main()
