"""Writes src/unicode-tables.ts from the conformance files' table of Unicode classes."""

import json
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase, digits

HERE = Path(__file__).resolve().parent
TABLE = HERE.parents[1] / "tests/conformance/files/unicode/unicode.json"
OUTPUT = HERE / "src/unicode-tables.ts"
HEADER = """\
// Written by make_unicode.py from tests/conformance/files/unicode/unicode.json: numbers to the base of 36, entries with
// commas between them.
"""
NAMES = {
    "letters": "First and last code point.",
    "numbers": "First and last code point.",
    "other_numbers": "The same, of what newer tables than the others call numbers.",
    "spaces": "First and last code point.",
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
    parts = [HEADER]
    for name, says in NAMES.items():
        entries = ",".join(" ".join(base36(number) for number in flat(entry)) for entry in found[name])
        parts.append(f'/** {says} */\nexport const {name.upper()} =\n  "{entries}";\n')
    return "\n".join(parts)


def flat(entry: Iterable[int | list[int]]) -> list[int]:
    """An entry of the table as one row of numbers."""
    return [number for part in entry for number in (part if isinstance(part, list) else [part])]


def base36(number: int) -> str:
    """As JavaScript's `parseInt(text, 36)` reads it."""
    rest, figure = divmod(number, 36)
    return (base36(rest) if rest else "") + (digits + ascii_lowercase)[figure]


if __name__ == "__main__":
    main()
