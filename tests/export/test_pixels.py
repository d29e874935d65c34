"""What is read of a checkpoint's image processor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from vlmp.export.config import ExportConfig
from vlmp.export.eager import open_eager
from vlmp.export.pixels import read_resample
from vlmp.runtimes.bundle.errors import UserError

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"


@pytest.mark.parametrize(("number", "name"), [(1, "lanczos"), (2, "bilinear"), (3, "bicubic")])
def test_the_filter(tmp_path: Path, number: int, name: str) -> None:
    assert read_resample(tmp_path, "lanczos") == "lanczos"
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert read_resample(tmp_path, "bilinear") == "bilinear"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": number}))
    assert read_resample(tmp_path, "bicubic") == name
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"resample": 2}}))
    assert read_resample(tmp_path, "bicubic") == "bilinear"


@pytest.mark.parametrize("value", [0, 4, 3.5, True, "3", None, [3]])
def test_filters_that_readers_do_not_compute(tmp_path: Path, value: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": value}))
    with pytest.raises(UserError, match=r"preprocessor_config.json: resample is .*, only 1 \(lanczos\), 2 "):
        read_resample(tmp_path, "bicubic")


def test_the_manifest_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(TINY, folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resample": 1}))
    config = ExportConfig(model="vlmp-tiny", targets=(), checkpoint=folder, output=tmp_path, pruner="none")
    assert open_eager(config).session.manifest.shapes[0].image.resample == "lanczos"
