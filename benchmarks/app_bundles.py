"""Exports the bundles that come with the apps, once: vlmp-tiny as int4 for ONNX Runtime, pruned and unpruned.

It prints their folders, one a line. Remove them to have them exported anew.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "build/app-bundles"
BUNDLES: dict[str, list[str]] = {"tiny-pruned": [], "tiny-unpruned": ["--pruner", "none"]}
"""A bundle -> how its export differs."""


def main() -> None:
    """Export what is not there yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("vlmp-export"))]
    command += ["--model", "vlmp-tiny", "--target", "onnx", "--quant", "int4"]
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two apps may be built at the same time
        for name, options in BUNDLES.items():
            output = FOLDER / name
            if not output.is_dir():
                done = subprocess.run([*command, *options, "--output", str(output)], stdout=sys.stderr, check=False)
                if done.returncode:
                    sys.exit(done.returncode)
            print(output)


if __name__ == "__main__":
    main()
