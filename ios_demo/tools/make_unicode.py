"""Writes UnicodeTables.swift from the conformance files' table of Unicode classes."""

import json
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase, digits
from textwrap import wrap

HERE = Path(__file__).resolve().parent
TABLE = HERE.parents[1] / "tests/conformance/files/unicode/unicode.json"
OUTPUT = HERE.parent / "Sources/VlmpCore/UnicodeTables.swift"
HEADER = """\
// Written by make_unicode.py from tests/conformance/files/unicode/unicode.json.

/// Entries of numbers to the base of 36, in texts: the compiler takes minutes for lists so long.
enum UnicodeTables {
"""
INDENT = " " * 8
NAMES = {
    "letters": "First and last code point.",
    "numbers": "The same.",
    "other_numbers": "The same, of what tokenizers that cut out digits take for numbers, too.",
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
        entries = ("_".join(base36(number) for number in flat(entry)) for entry in found[name])
        # Lines end between entries; a backslash joins each with the next.
        lines = "\\\n".join(wrap(", ".join(entries), 110, initial_indent=INDENT, subsequent_indent=INDENT))
        lines = lines.replace(", ", ",").replace("_", " ")
        first, *others = name.split("_")
        swift = first + "".join(map(str.capitalize, others))
        parts.append(f'    /// {says}\n    static let {swift} = """\n{lines}\n{INDENT}"""\n')
    return HEADER + "\n".join(parts) + "}\n"


def flat(entry: Iterable[int | list[int]]) -> list[int]:
    """An entry of the table as one row of numbers."""
    return [number for part in entry for number in (part if isinstance(part, list) else [part])]


def base36(number: int) -> str:
    """Its digits to the base of 36."""
    rest, figure = divmod(number, 36)
    return (base36(rest) if rest else "") + (digits + ascii_lowercase)[figure]


if __name__ == "__main__":
    main()
