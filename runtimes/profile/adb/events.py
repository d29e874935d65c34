"""The ETDump of a phone, read in a process of its own: what reads it loads torch, and talks while it does.

    python -m vlmp.runtimes.profile.adb.events BUNDLE ETDUMP

The last line on stdout is the answer as JSON.
"""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.console.command import exit_with_one_line
from vlmp.runtimes.profile.trace import Traced, traced


def missing_reader() -> str:
    """Why an ETDump cannot be read here; empty when it can."""
    if find_spec("executorch") is None:
        return "not split: executorch, whose devtools read an ETDump, is not installed here"
    return ""


def read_events(bundle: Path, dump: Path) -> Traced:
    """Operators and the split of prefill. Raises UserError when the file is damaged."""
    command = [sys.executable, "-m", __name__, str(bundle), str(dump)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"the event trace of {bundle} cannot be read: {lines[-1].removeprefix('vlmp-profile: ')}")
    return Traced.model_validate_json(done.stdout.splitlines()[-1])


def _print(bundle: Path, dump: Path) -> None:
    reader = import_module("vlmp.runtimes.profile.executorch")
    found = reader.read_dumps([dump.read_bytes()], bundle.name, read_manifest(bundle, check_hashes=False))
    print(traced(found).model_dump_json(), flush=True)


if __name__ == "__main__":
    exit_with_one_line("vlmp-profile", lambda: _print(Path(sys.argv[1]), Path(sys.argv[2])))
