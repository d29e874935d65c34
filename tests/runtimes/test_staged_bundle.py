"""A bundle that prunes twice, as people meet it: what `vlmp-run` says and draws, and how a profile splits prefill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.export.schedule import parse_schedule
from vlmp.runtimes import Chat, load
from vlmp.runtimes.cli import run
from vlmp.runtimes.draw import draw_kept
from vlmp.runtimes.image import open_image
from vlmp.runtimes.profile.schema import REGIONS
from vlmp.runtimes.profile.trace import region_shares, trace

PHOTO = Path(__file__).parents[2] / "runtimes/assets/photo.jpg"
PROMPT = "What is in this picture?"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ExportConfig(
        model="vlmp-tiny", targets=("onnx",), output=tmp_path_factory.mktemp("staged") / "bundle",
        stages=parse_schedule("2:0.5:divprune+4:0.25:fastv"), image_size=(168, 168), max_new_tokens=20, verify=False,
    )  # fmt: skip
    export(config)
    return config.output


def test_vlmp_run_tells_and_draws_what_each_stage_keeps(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "kept.png"
    run([str(bundle), "--image", str(PHOTO), "--prompt", PROMPT, "--prompt", "Why?", "--show-kept", str(picture)])
    told = capsys.readouterr().err
    assert [line for line in told.splitlines() if line.startswith("kept") and "drawn" not in line] == [
        "kept 18, 9 of 36 visual tokens (divprune+fastv)"
    ]
    session = load(bundle)
    answer = Chat(session).ask(PHOTO, PROMPT)
    first, last = answer.stages
    assert (len(first), len(last)) == (18, 9)
    assert set(last.tolist()) < set(first.tolist()) < set(range(36))
    image = session.manifest.shape.image
    wanted, found = draw_kept(open_image(PHOTO), image, answer.order, [first]), Image.open(picture)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
    assert found.tobytes() != draw_kept(open_image(PHOTO), image, answer.order).tobytes()


def test_layers_between_two_stages_count_as_after(bundle: Path) -> None:
    traced = trace(bundle, PHOTO, PROMPT, threads=1, runs=1)
    shares = region_shares(traced.operators, REGIONS)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
    prefill = [operator for operator in traced.operators if operator.method == "prefill"]
    layers = {operator.region: operator.calls for operator in prefill if operator.op == "GroupQueryAttention"}
    assert layers == {"before": 2, "after": 4}
    pruners = {operator.op: operator.calls for operator in prefill if operator.region == "pruner"}
    assert pruners["If"] == 2, "one for each stage"
