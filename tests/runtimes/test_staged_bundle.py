"""Bundles with several stages, as people meet them: what `vlmp-run` says and draws, and what a profile splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from step_bundles import shared_folder, step_bundle
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.export.schedule import parse_schedule
from vlmp.runtimes import Chat, load
from vlmp.runtimes.bundle.manifest import MethodName
from vlmp.runtimes.cli import run
from vlmp.runtimes.draw import draw_kept
from vlmp.runtimes.image import open_image
from vlmp.runtimes.profile.schema import PARTS
from vlmp.runtimes.profile.trace import Traced, part_shares, trace

PHOTO = Path(__file__).parents[2] / "runtimes/assets/photo.jpg"
PROMPT = "What is in this picture?"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ExportConfig(
        model="vlmp-tiny", targets=("onnx",), output=tmp_path_factory.mktemp("staged") / "bundle",
        image_size=(168, 168), max_new_tokens=20, verify=False,
        stages=parse_schedule("vision.2:0.75:local,weigh=1+2:0.5:divprune+4:0.25:fastv"),
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
        "kept 27, 18, 9 of 36 visual tokens (local+divprune+fastv)"
    ]
    session = load(bundle)
    answer = Chat(session).ask(PHOTO, PROMPT)
    tower, first, last = answer.stages
    assert (len(tower), len(first), len(last)) == (27, 18, 9)
    assert set(last.tolist()) < set(first.tolist()) < set(range(36))
    image = session.manifest.shape.image
    wanted, found = draw_kept(open_image(PHOTO), image, answer.order, [tower, first]), Image.open(picture)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
    assert found.tobytes() != draw_kept(open_image(PHOTO), image, answer.order).tobytes()


def check_shares(traced: Traced) -> None:
    """Both methods are split, each into parts that are all of it."""
    assert {method: how[:8] for method, how in traced.splits.items()} == {"vision": "split by", "prefill": "split by"}
    shares = part_shares(traced.operators)
    assert all(shares[part] > 0 for parts in PARTS.values() for part in parts)
    for parts in PARTS.values():
        assert sum(shares[part] for part in parts) == pytest.approx(1)


def calls_by_part(traced: Traced, method: MethodName, kind: str) -> dict[str | None, int]:
    """How often operators whose name begins so run in each part."""
    calls: Counter[str | None] = Counter()
    for operator in traced.operators:
        if operator.method == method and operator.op.startswith(kind):
            calls[operator.region] += operator.calls
    return dict(calls)


def test_layers_between_two_stages_count_as_after(bundle: Path) -> None:
    traced = trace(bundle, PHOTO, PROMPT, threads=1, runs=1)
    check_shares(traced)
    prefill = [operator for operator in traced.operators if operator.method == "prefill"]
    assert calls_by_part(traced, "prefill", "GroupQueryAttention") == {"before": 2, "after": 4}
    pruners = {operator.op: operator.calls for operator in prefill if operator.region == "pruner"}
    assert pruners["If"] == 2, "one for each stage"
    # Four linear layers a block, and the connector's two; the dropped patches come back just before these.
    assert calls_by_part(traced, "vision", "Gemm") == {"vision_before": 8, "vision_after": 10}
    assert calls_by_part(traced, "vision", "Conv") == {"vision_before": 1}
    assert set(calls_by_part(traced, "vision", "TopK")) == {"vision_pruner"}
    assert set(calls_by_part(traced, "vision", "MatMul")) == {"vision_pruner", "vision_after"}


def test_executorch_tells_the_parts_of_vision(tmp_path_factory: pytest.TempPathFactory) -> None:
    traced = trace(step_bundle(shared_folder(tmp_path_factory), "executorch-staged"), PHOTO, PROMPT, threads=1, runs=1)
    check_shares(traced)
    assert calls_by_part(traced, "vision", "Fully Connected") == {"vision_before": 8, "vision_after": 10}
    assert calls_by_part(traced, "vision", "Convolution") == {"vision_before": 1}
    assert set(calls_by_part(traced, "vision", "topk")) == {"vision_pruner"}
