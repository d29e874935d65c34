"""What the native build is made against."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from native_cases import ROOT


def test_a_folder_of_the_same_name_is_not_taken_for_the_package(tmp_path: Path) -> None:
    (tmp_path / "executorch").mkdir()
    ask = "import build; print(build._executorch('host'))"
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "runtimes/native")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", ask], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (Path(done.stdout.strip()) / "share/cmake/executorch-config.cmake").is_file()
