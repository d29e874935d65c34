"""The registry of methods, and that the pruner stands on torch alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from vlmp.pruner import PRUNERS, Pruner, PrunerConfig, build_pruner

IMPORTS = """
import json, sys
import torch
before = set(sys.modules)
import vlmp.pruner
for name in vlmp.pruner.PRUNERS:
    vlmp.pruner.pruner_class(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""

USE = """
import json, sys
import torch
from vlmp.pruner import PrunerConfig, build_pruner, prune
prune(torch.randn(16, 8), torch.randn(16, 4), (4, 4), PrunerConfig(num_kept=6))
build_pruner("none", (4, 4), PrunerConfig(num_kept=16))(torch.randn(16, 8), torch.randn(16, 4))
print(json.dumps(sorted(sys.modules)))
"""

HEAVY = {
    "PIL", "coremltools", "executorch", "huggingface_hub", "jinja2", "onnx", "onnxruntime", "onnxscript", "optimum",
    "pydantic", "rich", "safetensors", "tokenizers", "torchao", "transformers", "vlmp.export", "vlmp.runtimes",
}  # fmt: skip


def modules(program: str) -> list[str]:
    """What a fresh interpreter reports having imported."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_method_can_be_built_and_called(name: str) -> None:
    pruner = build_pruner(name, (2, 3), PrunerConfig(num_kept=6))
    assert isinstance(pruner, Pruner)
    result = pruner(torch.randn(6, 8), torch.randn(6, 4), torch.rand(6))
    assert result.kept_S.tolist() == list(range(6))


def test_names_are_the_documented_ones() -> None:
    names = "vlm-pruner none random uniform fastv divprune dart local contrast"
    assert list(PRUNERS) == names.split()


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ValueError, match=r"^unknown pruner 'vlmpruner': choose one of vlm-pruner, none, random"):
        build_pruner("vlmpruner", (4, 4), PrunerConfig(num_kept=6))


def test_importing_the_pruner_brings_nothing_but_torch() -> None:
    brought = modules(IMPORTS)
    roots = {name.split(".")[0] for name in brought} - set(sys.stdlib_module_names)
    assert {"vlmp.pruner.vlm_pruner", "vlmp.pruner.dart"} <= set(brought)
    assert roots <= {"vlmp", "torch"}


def test_using_the_pruner_brings_no_heavy_package() -> None:
    brought = set(modules(USE))
    assert "vlmp.pruner.none" in brought
    assert not brought & HEAVY
