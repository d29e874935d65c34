"""The classes of an APK, as Debian's dexdump tells them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass
class Dex:
    """What dexdump tells of the classes. Members are `Lowner;.name:descriptor`."""

    classes: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    direct: set[str] = field(default_factory=set)
    virtual: set[str] = field(default_factory=set)
    calls: set[tuple[str, str, str]] = field(default_factory=set)
    """The class in which an instruction is, its name, the member that it uses."""


@cache
def read_dex(apk: Path) -> Dex:
    dump = subprocess.run(["dexdump", "-d", "-l", "plain", apk], capture_output=True, text=True, check=True).stdout
    dex, inside, methods, name, kind = Dex(), "", "", "", ""
    for line in dump.splitlines():
        if found := re.search(r"Class descriptor  : '(\S+)'", line):
            inside = found[1]
            dex.classes.add(inside)
        elif found := re.match(r"  (Static fields|Instance fields|Direct methods|Virtual methods)", line):
            methods = found[1]
        elif found := re.match(r"      name          : '(.*)'", line):
            name = found[1]
        elif found := re.match(r"      type          : '(.*)'", line):
            kind = found[1]
            dex.named |= descriptors(kind)
        elif found := re.match(r"      access        : (0x\w+)", line):
            member = f"{inside}.{name}:{kind}"
            if int(found[1], 16) & 0x0002:
                dex.private.add(member)
            if "methods" in methods:
                (dex.direct if methods.startswith("Direct") else dex.virtual).add(member)
        elif found := re.search(r"\|[0-9a-f]{4}: ([\w/-]+).*?(\[*L\S+;\.[\w$<>-]+:\S+) // (?:method|field)@", line):
            dex.calls.add((inside, found[1], found[2]))
            dex.named |= descriptors(found[2])
        elif re.search(r"// type@|Superclass  |^    #\d+ +: 'L", line):
            dex.named |= descriptors(line.replace("'", " "))
    return dex


def descriptors(text: str) -> set[str]:
    return set(re.findall(r"L[\w/$-]+;", text))
