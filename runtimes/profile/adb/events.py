"""The ETDump of a phone, read in a process of its own: what reads it loads torch, and talks while it does.

python -m vlmp.runtimes.profile.adb.events BUNDLE ETDUMP
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.profile.process import answer_process, ask_process
from vlmp.runtimes.profile.trace import Traced, traced


def missing_reader() -> str:
    """Why an ETDump cannot be read here; empty when it can."""
    if find_spec("executorch") is None:
        return "not split: executorch, whose devtools read an ETDump, is not installed here"
    return ""


def read_events(bundle: Path, dump: Path) -> Traced:
    """Operators and the split of prefill. Raises UserError when the file is damaged."""
    try:
        return ask_process(Traced, __name__, str(bundle), str(dump), what="the process that reads it")
    except UserError as error:
        raise UserError(f"the event trace of {bundle} cannot be read: {error}") from None


def _read(bundle: Path, dump: Path) -> Traced:
    reader = import_module("vlmp.runtimes.profile.executorch")
    return traced(reader.read_dumps([dump.read_bytes()], bundle.name, read_manifest(bundle, check_hashes=False)))


if __name__ == "__main__":
    answer_process(lambda: _read(Path(sys.argv[1]), Path(sys.argv[2])))
