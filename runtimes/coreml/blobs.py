"""The weight file of a Core ML package, as coremltools 9 writes it: a header, then blobs, each after its own header."""

import struct
from mmap import mmap
from typing import NamedTuple

ALIGNMENT = 64
"""Of headers and data, in bytes; the file's own header and that of each blob have as many."""
VERSION = 2
SENTINEL = 0xDEADBEEF
"""Begins the header of a blob."""
FILE_HEADER = struct.Struct("<II")  # blobs, version
_BLOB_HEADER = struct.Struct("<IIQQ")  # sentinel, data type, bytes, offset of the data


class Blob(NamedTuple):
    """What a blob's header says: data type by its number there, bytes, and where they begin in the file."""

    data_type: int
    size: int
    start: int


def read_header(data: bytes | mmap, offset: int) -> Blob:
    """The header at `offset` of a weight file. Raises ValueError when there is none."""
    if offset + _BLOB_HEADER.size <= len(data):
        sentinel, *facts = _BLOB_HEADER.unpack_from(data, offset)
        if sentinel == SENTINEL:
            return Blob(*facts)
    raise ValueError(f"no blob header at {offset}")


def write_header(header: bytearray, blob: Blob) -> None:
    """Put what `blob` says into a header."""
    _BLOB_HEADER.pack_into(header, 0, SENTINEL, *blob)
