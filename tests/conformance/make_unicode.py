"""What the tokenizers library takes for letters, numbers and spaces, and its NFC: `unicode.json`, and tables from it.

    python tests/conformance/make_unicode.py

writes the table of each reader that has one, as source code in its own language. `make.py` writes `unicode.json`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from string import ascii_lowercase, digits
from textwrap import wrap
from typing import Any

from conformance_files import ROOT, read
from tokenizers import Regex, normalizers, pre_tokenizers

Tables = Mapping[str, list[Any]]
"""As README.md says: name -> entries."""
SAYS = {
    "letters": "First and last code point.",
    "numbers": "First and last code point.",
    "other_numbers": "The same, of what newer tables than the others call numbers.",
    "spaces": "First and last code point.",
    "marks": "First and last code point, and their combining class; 0 elsewhere.",
    "decompositions": "A code point and its parts.",
    "compositions": "Two code points and what they make.",
}
"""Of each table, what an entry of it is."""
WRITTEN = "// Written by tests/conformance/make_unicode.py from unicode.json. Do not edit."
POINTS = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
"""Composed by arithmetic."""
LAST_MARK = "\u0345"
"""Of the highest combining class, so that every other mark moves before it."""


def main() -> None:
    """Write the sources."""
    tables = read("unicode/unicode.json")
    for path, source in SOURCES.items():
        path.write_text(source(tables), encoding="ascii", newline="\n")
        print(path.relative_to(ROOT))


# --- What the library says --------------------------------------------------------------------------------------------


@cache
def unicode_tables() -> Tables:
    """Asked of the library itself, since its normalization knows an older Unicode than Python does.

    Combining classes, which it does not tell, come from Python for the code points that it reorders.
    """
    nfc = normalizers.NFC().normalize_str
    nfd = normalizers.NFD().normalize_str
    classes = {point: unicodedata.combining(chr(point)) for point in POINTS if moves(chr(point), nfd)}
    classes[ord(LAST_MARK)] = unicodedata.combining(LAST_MARK)
    if 0 in classes.values():
        raise SystemExit("tokenizers knows marks that this Python does not: run this with a newer Python")
    numbers = matching(r"\p{N}")
    alone = pre_tokenizers.Digits(individual_digits=True)
    cut = [point for point in POINTS if len(alone.pre_tokenize_str(f"a{chr(point)}a")) == 3]
    known = set(numbers)
    if not known <= set(cut):
        raise SystemExit("tokenizers' patterns know numbers that its Digits does not: no reader looks for any")
    apart = {point: nfd(chr(point)) for point in POINTS if point not in HANGUL and nfd(chr(point)) != chr(point)}
    return {
        "letters": list(ranges(matching(r"\p{L}"))),
        "numbers": list(ranges(numbers)),
        "other_numbers": list(ranges(point for point in cut if point not in known)),
        "spaces": list(ranges(matching(r"\s"))),
        "marks": list(marks(classes)),
        "decompositions": [(point, [ord(part) for part in parts]) for point, parts in sorted(apart.items())],
        "compositions": sorted((*halves(point), point) for point in apart if nfc(chr(point)) == chr(point)),
    }


def matching(pattern: str) -> list[int]:
    """Code points that a pattern of one character matches."""
    strip = normalizers.Replace(Regex(pattern), "").normalize_str
    return [point for point in POINTS if not strip(chr(point))]


def moves(mark: str, nfd: Callable[[str], str]) -> bool:
    """Whether NFD puts it before the last mark: its combining class is not 0."""
    return mark != LAST_MARK and nfd(LAST_MARK + mark) == mark + LAST_MARK


def halves(point: int) -> tuple[int, int]:
    """The canonical decomposition, one step."""
    first, second = unicodedata.decomposition(chr(point)).split()
    return int(first, 16), int(second, 16)


def ranges(points: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Consecutive code points together."""
    return ((first, last) for first, last, _ in marks(dict.fromkeys(points, 0)))


def marks(classes: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """Consecutive code points of equal class together."""
    run: list[int] = []
    for point in [*sorted(classes), -1]:
        if run and (point != run[-1] + 1 or classes[point] != classes[run[-1]]):
            yield run[0], run[-1], classes[run[0]]
            run = []
        run.append(point)


# --- C++ --------------------------------------------------------------------------------------------------------------

CPP_TYPES = """\
#pragma once

namespace vlmp::tables {

struct Range {
  char32_t first, last;
};
struct Mark {
  char32_t first, last;
  unsigned char combining_class;
};
struct Decomposition {
  char32_t composed;
  unsigned short start, length;  // in kParts
};
struct Composition {
  char32_t first, second, composed;
};
"""


def cpp(tables: Tables) -> str:
    """Arrays that the compiler puts into the library as they are."""
    apart = {point: "".join(map(chr, parts)) for point, parts in tables["decompositions"]}
    pool = "".join(dict.fromkeys(apart.values()))
    lines = [WRITTEN, CPP_TYPES]
    for name in ("letters", "numbers", "other_numbers", "spaces"):
        entries = (f"{{{first:#x}, {last:#x}}}" for first, last in tables[name])
        lines += cpp_array("Range", f"k{name.title().replace('_', '')}", entries)
    lines += cpp_array("Mark", "kMarks", (f"{{{a:#x}, {b:#x}, {c}}}" for a, b, c in tables["marks"]))
    lines += cpp_array("char32_t", "kParts", (f"{ord(character):#x}" for character in pool))
    parts = (f"{{{point:#x}, {pool.index(parts)}, {len(parts)}}}" for point, parts in apart.items())
    lines += cpp_array("Decomposition", "kDecompositions", parts)
    pairs = (f"{{{a:#x}, {b:#x}, {c:#x}}}" for a, b, c in tables["compositions"])
    lines += cpp_array("Composition", "kCompositions", pairs)
    return "\n".join([*lines, "}  // namespace vlmp::tables", ""])


def cpp_array(kind: str, name: str, values: Iterable[str]) -> list[str]:
    """An array, lines of at most 118 characters."""
    lines, line = [f"inline constexpr {kind} {name}[] = {{"], " "
    for value in values:
        if len(line) + len(value) + 2 > 118:
            lines.append(line)
            line = " "
        line += f" {value},"
    return [*lines, line, "};", ""]


# --- Kotlin, Swift, TypeScript: texts, since compilers take minutes for lists so long ---------------------------------


def kotlin(tables: Tables) -> str:
    """As Kotlin and no resource, so that an app needs none of the engine's."""
    head = f"{WRITTEN}\npackage dev.vlmp.engine\n\n/** Entries of numbers to the base of 36. */\n"
    parts = []
    for name, says in SAYS.items():
        text = ",".join(written(tables[name]))
        lines = '" +\n        "'.join(text[start : start + 108] for start in range(0, len(text), 108))
        parts.append(f"    /** {says} */\n    val {name.upper()} = (\n        \"{lines}\"\n        ).split(',')\n")
    return head + "internal object UnicodeTables {\n" + "\n".join(parts) + "}\n"


def swift(tables: Tables) -> str:
    """A backslash joins each line, which ends between entries, with the next."""
    head = f"{WRITTEN}\n\n/// Entries of numbers to the base of 36.\nenum UnicodeTables {{\n"
    indent = " " * 8
    parts = []
    for name, says in SAYS.items():
        text = ", ".join(entry.replace(" ", "_") for entry in written(tables[name]))  # `wrap` parts lines at spaces
        lines = "\\\n".join(wrap(text, 110, initial_indent=indent, subsequent_indent=indent))
        lines = lines.replace(", ", ",").replace("_", " ")
        first, *others = name.split("_")
        constant = first + "".join(map(str.capitalize, others))
        parts.append(f'    /// {says}\n    static let {constant} = """\n{lines}\n{indent}"""\n')
    return head + "\n".join(parts) + "}\n"


def typescript(tables: Tables) -> str:
    """One line for each table."""
    head = f"{WRITTEN}\n// Entries of numbers to the base of 36, with commas between them.\n"
    parts = []
    for name, says in SAYS.items():
        parts.append(f'/** {says} */\nexport const {name.upper()} =\n  "{",".join(written(tables[name]))}";\n')
    return "\n".join([head, *parts])


def written(entries: Iterable[Iterable[int | list[int]]]) -> list[str]:
    """Each entry as a row of numbers to the base of 36."""
    return [" ".join(base36(number) for number in flat(entry)) for entry in entries]


def flat(entry: Iterable[int | list[int]]) -> list[int]:
    """An entry as one row of numbers."""
    return [number for part in entry for number in (part if isinstance(part, list) else [part])]


def base36(number: int) -> str:
    """Its digits to the base of 36."""
    rest, figure = divmod(number, 36)
    return (base36(rest) if rest else "") + (digits + ascii_lowercase)[figure]


SOURCES: dict[Path, Callable[[Tables], str]] = {
    ROOT / "runtimes/native/lib/unicode_tables.h": cpp,
    ROOT / "android_demo/engine/src/main/kotlin/dev/vlmp/engine/UnicodeTables.kt": kotlin,
    ROOT / "ios_demo/Sources/VlmpCore/UnicodeTables.swift": swift,
    ROOT / "web_demo/vlmp-web/src/unicode-tables.ts": typescript,
}
"""A reader's table -> what it has to hold."""

if __name__ == "__main__":
    main()
