"""Packages of one function each into one package of several, as files: no weight is decoded, equal ones are kept once.

coremltools does the same through its own representation of a program, which takes ten times the weights in memory.
"""

import errno
import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from vlmp.runtimes.coreml.blobs import ALIGNMENT, FILE_HEADER, VERSION, Blob, read_header, write_header

WEIGHTS = Path("Data") / "com.apple.CoreML" / "weights" / "weight.bin"


def join(packages: Mapping[str, Path], default: str, output: Path) -> None:
    """Write the `main` functions of `packages` into `output`, each under its name. default: the one that runs unnamed.

    Raises ValueError when a package's weight file is not of the form that coremltools 9 writes, OSError when it or what
    is written is cut off: coremltools does not notice every write that fails.
    """
    # Not above: coremltools prints when it is imported, which the target keeps quiet.
    from coremltools.models.utils import load_spec, save_spec

    with TemporaryDirectory(dir=output.parent, prefix=".weights.") as scratch:
        whole: Any = None
        with (Path(scratch) / WEIGHTS.name).open("wb") as file:
            weights = _Weights(file)
            for name, path in packages.items():
                spec = load_spec(str(path))
                weights.take(spec.mlProgram, path / WEIGHTS)
                whole = whole or _without_functions(spec)
                whole.mlProgram.functions[name].CopyFrom(spec.mlProgram.functions["main"])
                whole.description.functions.add(name=name, input=spec.description.input, output=spec.description.output)
            weights.end()
        whole.description.defaultFunctionName = default
        save_spec(whole, str(output), weights_dir=scratch)
        written = Path(scratch) / WEIGHTS.name
        if load_spec(str(output)) != whole or (output / WEIGHTS).stat().st_size != written.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))


def _without_functions(spec: Any) -> Any:
    """What all packages have in common."""
    whole = type(spec)()
    whole.CopyFrom(spec)
    whole.mlProgram.functions.clear()
    whole.description.Clear()
    return whole


class _Weights:
    """A weight file that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.places: dict[tuple[int, str], int] = {}
        """Data type and hash of a blob's content -> offset of its header."""
        file.write(bytes(ALIGNMENT))

    def take(self, program: Any, source: Path) -> None:
        """Copy the blobs that a program refers to, and point it to the copies."""
        if not source.exists():  # no weight is large enough
            return
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for reference in _blobs(program):
                reference.offset = self._copy(data, reference.offset, source)

    def _copy(self, data: mmap.mmap, offset: int, source: Path) -> int:
        try:
            data_type, size, start = read_header(data, offset)
        except ValueError as error:
            raise ValueError(f"{source} has {error}") from None
        content = memoryview(data)[start : start + size]
        try:
            if len(content) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
            key = data_type, hashlib.sha256(content).hexdigest()
            if key not in self.places:
                place = self.places[key] = self.file.tell()
                header = bytearray(data[offset : offset + ALIGNMENT])
                write_header(header, Blob(data_type, size, place + ALIGNMENT))
                self.file.write(header)
                self.file.write(content)
                self.file.write(bytes(-size % ALIGNMENT))
        finally:
            content.release()  # or the file could not be closed
        return self.places[key]

    def end(self) -> None:
        """Complete the file."""
        self.file.seek(0)
        self.file.write(FILE_HEADER.pack(len(self.places), VERSION))


def _blobs(message: Any) -> Iterator[Any]:
    """All references to the weight file inside a protobuf message."""
    if message.DESCRIPTOR.name == "BlobFileValue":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = [each for each in value.values() if hasattr(each, "ListFields")]
        else:
            inner = list(value) if field.is_repeated else [value]
        for each in inner:
            yield from _blobs(each)
