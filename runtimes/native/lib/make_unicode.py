"""Writes unicode_tables.h: what the tokenizers library takes for letters, numbers and spaces, and its NFC.

    python runtimes/native/lib/make_unicode.py

Asked of the library itself, since its normalization knows an older Unicode than Python does; combining classes, which
it does not tell, come from Python for the code points that it reorders.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

HEADER = Path(__file__).with_name("unicode_tables.h")
POINTS = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
"""Composed by arithmetic."""
LAST_MARK = "\u0345"
"""Of the highest combining class, so that every other mark moves before it."""


def main() -> None:
    """Ask and write."""
    HEADER.write_text(header(), encoding="ascii")
    print(f"{HEADER}: {HEADER.stat().st_size} bytes")


class Tables(NamedTuple):
    """letters, numbers, spaces: ranges [first, last]; other_numbers: what `Digits` takes for numbers beyond these.

    marks: [first, last, combining class], of those that are not 0. decompositions: [code point, [what it is apart]], of
    the canonical ones but Hangul. compositions: [first, second, both].
    """

    letters: list[tuple[int, int]]
    numbers: list[tuple[int, int]]
    other_numbers: list[tuple[int, int]]
    spaces: list[tuple[int, int]]
    marks: list[tuple[int, int, int]]
    decompositions: list[tuple[int, list[int]]]
    compositions: list[tuple[int, int, int]]


def tables() -> Tables:
    """What the library says."""
    nfc = normalizers.NFC().normalize_str
    nfd = normalizers.NFD().normalize_str
    classes = {point: unicodedata.combining(chr(point)) for point in POINTS if moves(chr(point), nfd)}
    classes[ord(LAST_MARK)] = unicodedata.combining(LAST_MARK)
    if 0 in classes.values():
        raise SystemExit("tokenizers knows marks that this Python does not: run this with a newer Python")
    numbers = matching(r"\p{N}")
    digits = pre_tokenizers.Digits(individual_digits=True)
    cut = [point for point in POINTS if len(digits.pre_tokenize_str(f"a{chr(point)}a")) == 3]
    known = set(numbers)
    if not known <= set(cut):
        raise SystemExit("tokenizers' patterns know numbers that its Digits does not: words_gpt2.cpp relies on none")
    apart = {point: nfd(chr(point)) for point in POINTS if point not in HANGUL and nfd(chr(point)) != chr(point)}
    return Tables(
        letters=list(ranges(matching(r"\p{L}"))),
        numbers=list(ranges(numbers)),
        other_numbers=list(ranges(point for point in cut if point not in known)),
        spaces=list(ranges(matching(r"\s"))),
        marks=list(marks(classes)),
        decompositions=[(point, [ord(part) for part in parts]) for point, parts in sorted(apart.items())],
        compositions=sorted((*halves(point), point) for point in apart if nfc(chr(point)) == chr(point)),
    )


def header() -> str:
    """The C++ header."""
    found = tables()
    apart = {point: "".join(map(chr, parts)) for point, parts in found.decompositions}
    pool = "".join(dict.fromkeys(apart.values()))
    return "\n".join(
        [
            f"// Written by make_unicode.py, asking tokenizers {tokenizers.__version__}. Do not edit.",
            "#pragma once",
            "",
            "namespace vlmp::tables {",
            "",
            "struct Range {",
            "  char32_t first, last;",
            "};",
            "struct Mark {",
            "  char32_t first, last;",
            "  unsigned char combining_class;",
            "};",
            "struct Decomposition {",
            "  char32_t composed;",
            "  unsigned short start, length;  // in kParts",
            "};",
            "struct Composition {",
            "  char32_t first, second, composed;",
            "};",
            "",
            *array("Range", "kLetters", (f"{{{a:#x}, {b:#x}}}" for a, b in found.letters)),
            *array("Range", "kNumbers", (f"{{{a:#x}, {b:#x}}}" for a, b in found.numbers)),
            *array("Range", "kOtherNumbers", (f"{{{a:#x}, {b:#x}}}" for a, b in found.other_numbers)),
            *array("Range", "kSpaces", (f"{{{a:#x}, {b:#x}}}" for a, b in found.spaces)),
            *array("Mark", "kMarks", (f"{{{a:#x}, {b:#x}, {c}}}" for a, b, c in found.marks)),
            *array("char32_t", "kParts", (f"{ord(character):#x}" for character in pool)),
            *array(
                "Decomposition",
                "kDecompositions",
                (f"{{{point:#x}, {pool.index(parts)}, {len(parts)}}}" for point, parts in apart.items()),
            ),
            *array("Composition", "kCompositions", (f"{{{a:#x}, {b:#x}, {c:#x}}}" for a, b, c in found.compositions)),
            "}  // namespace vlmp::tables",
            "",
        ]
    )


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


def array(kind: str, name: str, values: Iterable[str]) -> list[str]:
    """A C++ array, lines of at most 118 characters."""
    lines, line = [f"inline constexpr {kind} {name}[] = {{"], " "
    for value in values:
        if len(line) + len(value) + 2 > 118:
            lines.append(line)
            line = " "
        line += f" {value},"
    return [*lines, line, "};", ""]


if __name__ == "__main__":
    main()
