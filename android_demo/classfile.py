"""Java class files, as far as the APK's build needs them: which members a class has, and which it uses of others.

From Java 11 on, classes that are nested in one another use each other's private members as they are. dx and Android
before 14 know nothing of this: `widen` takes `private` off such members.
"""

import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

JAVA_11 = 55
"""Major version of class files up to which dx's and ProGuard's input may go."""
PRIVATE = 0x0002
_CONSTANT_SIZES = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
"""Bytes of a constant by its tag; text (1) says its own."""

Member = tuple[str, str, str]
"""Owner (`java/lang/String`), name, descriptor."""


@dataclass
class ClassFile:
    """One class. Offsets are those of the member's access flags in `data`."""

    data: bytearray
    name: str = ""
    private: dict[Member, int] = field(default_factory=dict)
    used: set[Member] = field(default_factory=set)

    @property
    def major(self) -> int:
        """Version: 52 is Java 8, 55 Java 11, 61 Java 17."""
        return int(struct.unpack_from(">H", self.data, 6)[0])

    @major.setter
    def major(self, value: int) -> None:
        struct.pack_into(">H", self.data, 6, value)


def parse(data: bytes) -> ClassFile:
    """Read one class file (JVM specification, chapter 4)."""
    read = ClassFile(bytearray(data))
    (count,) = struct.unpack_from(">H", data, 8)
    constants: list[tuple[int, int]] = [(0, 0)]  # tag, offset of what follows it
    place = 10
    while len(constants) < count:
        tag = data[place]
        constants.append((tag, place + 1))
        size = 2 + _u2(data, place + 1) if tag == 1 else _CONSTANT_SIZES[tag]
        place += 1 + size
        if tag in (5, 6):  # long and double take two numbers
            constants.append((0, 0))

    def text(number: int) -> str:
        start = constants[number][1]
        return data[start + 2 : start + 2 + _u2(data, start)].decode("utf-8", "surrogatepass")

    def class_name(number: int) -> str:
        return text(_u2(data, constants[number][1]))

    read.name = class_name(_u2(data, place + 2))
    for tag, start in constants:
        if tag in (9, 10, 11):
            pair = constants[_u2(data, start + 2)][1]
            read.used.add((class_name(_u2(data, start)), text(_u2(data, pair)), text(_u2(data, pair + 2))))
    place += 8 + 2 * _u2(data, place + 6)  # access, name, parent, interfaces
    for _ in ("fields", "methods"):
        members = _u2(data, place)
        place += 2
        for _ in range(members):
            if _u2(data, place) & PRIVATE:
                read.private[read.name, text(_u2(data, place + 2)), text(_u2(data, place + 4))] = place
            attributes = _u2(data, place + 6)
            place += 8
            for _ in range(attributes):
                place += 6 + struct.unpack_from(">I", data, place + 2)[0]
    return read


def borrowed(classes: list[ClassFile]) -> set[Member]:
    """Private members that a class other than their own uses."""
    private = {member for each in classes for member in each.private}
    return {member for each in classes for member in each.used & private if member[0] != each.name}


def widen(source: Path, output: Path) -> set[Member]:
    """Copy a jar of Java 17 as one that dx takes after ProGuard. Returns the members that are no longer private."""
    with zipfile.ZipFile(source) as jar:
        names = [name for name in jar.namelist() if name.endswith(".class") and not name.startswith("META-INF/")]
        classes = {name: parse(jar.read(name)) for name in names if name != "module-info.class"}
    found = borrowed(list(classes.values()))
    with zipfile.ZipFile(output, "w") as jar:
        for name, each in classes.items():
            each.major = min(each.major, JAVA_11)
            for member in each.private.keys() & found:
                place = each.private[member]
                struct.pack_into(">H", each.data, place, _u2(each.data, place) & ~PRIVATE)
            jar.writestr(name, bytes(each.data))
    return found


def _u2(data: bytes | bytearray, place: int) -> int:
    return int.from_bytes(data[place : place + 2], "big")
