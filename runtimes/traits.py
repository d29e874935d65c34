"""What can be told of a target's runtime without its library, or numpy: a command asks before it loads anything."""

import sys
from typing import NamedTuple


class Traits(NamedTuple):
    """Of a target's runtime.

    chooses_threads: how many it uses is its own choice, always. interpreted: on this machine our interpreter stands in
    for it, whose times say nothing. multiplies_integers: with quantized weights; otherwise they become floats first.
    part_of_system: it comes with the operating system, whose version is its own.
    """

    chooses_threads: bool = False
    interpreted: bool = False
    multiplies_integers: bool = True
    part_of_system: bool = False


TRAITS: dict[str, Traits] = {
    "coreml": Traits(
        chooses_threads=True,
        interpreted=sys.platform != "darwin",
        multiplies_integers=False,
        part_of_system=True,
    ),
}
"""By target; all others have those of `Traits()`."""


def traits_of(target: str) -> Traits:
    """The traits of a target's runtime."""
    return TRAITS.get(target, Traits())
