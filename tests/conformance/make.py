"""Writes the conformance files: `python tests/conformance/make.py`. README.md beside it says what they are.

The manifests of exported bundles are used again as they are here, unless `--bundles FOLDER` names where to take them
from, and to export the bundles to that are not there yet.
"""

from __future__ import annotations

import hashlib
import os
from argparse import ArgumentParser
from importlib.metadata import version
from pathlib import Path

from conformance_files import FOLDER, write_json
from make_dialogs import make_dialogs
from make_manifests import make_manifests
from make_pictures import make_pictures
from make_profiles import make_profiles
from make_samples import make_samples
from make_texts import make_texts

LIBRARIES = ("tokenizers", "pillow", "numpy", "torch")
"""On whose versions the files depend."""


def make_cheap(folder: Path, bundles: Path | None = None) -> None:
    """All but the steps, within half a minute."""
    make_texts(folder)
    make_pictures(folder)
    make_dialogs(folder)
    make_manifests(folder, bundles)
    make_samples(folder)
    make_profiles(folder)


def write_index(folder: Path) -> None:
    """Every file with its hash, and what made them."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in paths if path != "index.json"}
    write_json(folder / "index.json", made_with={name: version(name) for name in LIBRARIES}, files=files)


def main() -> None:
    parser = ArgumentParser(description="Write the conformance files.")
    parser.add_argument("--bundles", type=Path, metavar="FOLDER", help="export the bundles, and take their manifests")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: sums in one order
    from make_steps import export_bundles, make_steps

    if arguments.bundles:
        export_bundles(arguments.bundles)
    make_cheap(FOLDER, arguments.bundles)
    make_steps(FOLDER)
    write_index(FOLDER)


if __name__ == "__main__":
    main()
