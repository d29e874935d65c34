"""Packages joined as files against coremltools' own joining."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ct = pytest.importorskip("coremltools")
from coremltools.models.utils import load_spec  # noqa: E402
from vlmp.export.targets.coreml.join import WEIGHTS, join  # noqa: E402
from vlmp.runtimes.coreml.interpreter import MilProgram, load_functions  # noqa: E402


class Twice(nn.Module):
    """A shared layer, and one of its own."""

    def __init__(self, shared: nn.Linear, outputs: int) -> None:
        super().__init__()
        self.shared, self.own = shared, nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[L, 64] -> [L, outputs]."""
        return self.own(F.silu(self.shared(x)))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    torch.manual_seed(0)
    shared = nn.Linear(64, 64)
    paths = {}
    for name, rows, outputs in (("prefill", 5, 96), ("decode", 1, 32)):
        traced = torch.jit.trace(Twice(shared, outputs).eval(), (torch.zeros(rows, 64),))
        inputs = [ct.TensorType("x", (rows, 64), dtype=np.float32)]
        model = ct.convert(
            traced, inputs=inputs, minimum_deployment_target=ct.target.iOS18, skip_model_load=True,
            compute_precision=ct.precision.FLOAT32,
        )  # fmt: skip
        paths[name] = folder / f"{name}.mlpackage"
        model.save(str(paths[name]))
    return paths


def test_functions_answer_as_before_and_share_what_is_equal(packages: dict[str, Path], tmp_path: Path) -> None:
    join(packages, "decode", tmp_path / "both.mlpackage")
    joined = load_functions(tmp_path / "both.mlpackage")
    assert MilProgram(tmp_path / "both.mlpackage").function == "decode"
    for name, path in packages.items():
        alone = MilProgram(path)
        (shape, dtype) = alone.inputs["x"]
        given = {"x": np.random.default_rng(0).standard_normal(shape).astype(dtype)}
        assert alone.inputs == joined[name].inputs
        for want, got in zip(alone.predict(given).values(), joined[name].predict(given).values(), strict=True):
            assert np.array_equal(want, got)
            assert np.abs(want).max() > 0
    sizes = [(path / WEIGHTS).stat().st_size for path in (*packages.values(), tmp_path / "both.mlpackage")]
    assert sizes[2] < sizes[0] + sizes[1] - 64 * 64 * 4
    assert not list(tmp_path.glob(".weights.*"))


def test_the_program_is_that_of_coremltools(packages: dict[str, Path], tmp_path: Path) -> None:
    described = ct.utils.MultiFunctionDescriptor()
    for name, path in packages.items():
        described.add_function(str(path), "main", name)
    described.default_function_name = "decode"
    ct.utils.save_multifunction(described, str(tmp_path / "theirs.mlpackage"))
    join(packages, "decode", tmp_path / "ours.mlpackage")
    theirs, ours = (load_spec(str(tmp_path / f"{name}.mlpackage")) for name in ("theirs", "ours"))
    assert ours.specificationVersion == theirs.specificationVersion
    assert ours.description == theirs.description
    assert ours.mlProgram.functions.keys() == theirs.mlProgram.functions.keys()
    for name, function in ours.mlProgram.functions.items():
        other = theirs.mlProgram.functions[name]
        assert (function.opset, function.inputs) == (other.opset, other.inputs)
        blocks = [each.block_specializations[each.opset] for each in (function, other)]
        assert [op.type for op in blocks[0].operations] == [op.type for op in blocks[1].operations]
    assert (tmp_path / "ours.mlpackage" / WEIGHTS).stat().st_size == (
        tmp_path / "theirs.mlpackage" / WEIGHTS
    ).stat().st_size


def test_a_weight_file_of_another_form_is_refused(packages: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    broken = shutil.copytree(packages["decode"], tmp_path / "broken.mlpackage")
    content = bytearray((broken / WEIGHTS).read_bytes())
    content[64:68] = bytes(4)  # the first blob's sentinel
    (broken / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match="has no blob header at 64"):
        join({"decode": broken}, "decode", tmp_path / "out.mlpackage")
    assert not (tmp_path / "out.mlpackage").exists()
