"""`vlmp-profile --import` takes what apps write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conformance_files import FOLDER, read
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.schema import json_schema, read_profile


@pytest.mark.parametrize(
    "case", read("profile/cases.json")["cases"], ids=lambda case: f"{case['file']} {case['device']}"
)
def test_profiles(case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = FOLDER / "profile" / case["file"], tmp_path / "out.json"
    argv = ["--device", case["device"], "--import", str(path), "--json", str(out), "--html", str(tmp_path / "out.html")]
    if case["says"] is None:
        jsonschema.validate(json.loads(path.read_bytes()), json.loads(json_schema()))
        main(argv)
        assert [bundle.name for bundle in read_profile(out).bundles] == ["unpruned", "pruned"]
        assert "1.50" in capsys.readouterr().out
        return
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"vlmp-profile: {path.parent}/{case['says']}\n"
