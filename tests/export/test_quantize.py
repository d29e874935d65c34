"""Quantized layers: their codes, what they compute against the real kernels, and whole exports of every preset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import build_methods, export
from vlmp.export.plan import make_plan, open_source
from vlmp.export.quantize import Preset, Quantizer, QuantLinear, Scheme, compute_in_parts, quantize_weight
from vlmp.export.targets import TARGETS, open_target
from vlmp.runtimes import Chat, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import REFERENCE_NAME, read_manifest
from vlmp.runtimes.bundle.manifest import Manifest, TensorSpec
from vlmp.runtimes.pytorch import TorchSession
from vlmp.runtimes.verify import NUDGE, NUDGES, Reference, keeps_top, limits_of, relative_error

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "runtimes/assets/photo.jpg"
SCHEMES = (
    Scheme(bits=8), Scheme(bits=8, group=32), Scheme(bits=4, group=32), Scheme(bits=4, group=64),
    Scheme(bits=4, group=32, scale_dtype="bfloat16"), Scheme(bits=8, scale_dtype="float16"),
)  # fmt: skip


def random_weight(seed: int = 0, outputs: int = 48, inputs: int = 128) -> Tensor:
    """A few outliers, as trained weights have them."""
    generator = torch.Generator().manual_seed(seed)
    weight_OI = torch.randn(outputs, inputs, generator=generator)
    weight_OI[:, 5] *= 6
    return weight_OI


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_codes_stand_for_the_weight_to_half_a_step(scheme: Scheme) -> None:
    weight_OI = random_weight()
    codes_OI, scale_OG = quantize_weight(weight_OI, scheme)
    assert codes_OI.dtype == torch.int8
    assert int(codes_OI.abs().max()) == scheme.largest
    assert torch.equal(scale_OG, scale_OG.to(getattr(torch, scheme.scale_dtype)).float())
    assert scale_OG.shape == (48, 128 // (scheme.group or 128))
    step_OI = scale_OG.repeat_interleave(scheme.group or 128, 1)
    error_OI = (codes_OI * step_OI - weight_OI).abs()
    clipped_OI = codes_OI.abs() == scheme.largest
    assert (error_OI <= step_OI * 0.5001)[~clipped_OI].all()


def test_four_bit_scales_are_chosen_for_the_smallest_error() -> None:
    weight_OI = random_weight()
    codes_OI, scale_OG = quantize_weight(weight_OI, Scheme(bits=4, group=32))
    found = (codes_OI * scale_OG.repeat_interleave(32, 1) - weight_OI).square().sum()
    widest_OI = weight_OI.unflatten(1, (-1, 32)).abs().amax(-1).repeat_interleave(32, 1) / 7
    plain = ((weight_OI / widest_OI).round() * widest_OI - weight_OI).square().sum()
    assert found < 0.95 * plain


def test_a_row_of_zeros_stays_zero() -> None:
    codes_OI, scale_OG = quantize_weight(torch.zeros(3, 64), Scheme(bits=4, group=32))
    assert not codes_OI.any()
    assert scale_OG.isfinite().all()


def test_palettes_hold_the_values_of_least_error() -> None:
    from vlmp.export.targets.coreml.palette import palettize

    few = torch.tensor([-3.0, -1.5, -0.25, 0.0, 0.5, 1.0, 2.0, 7.0])
    picked = few[torch.randint(8, (32, 64), generator=torch.Generator().manual_seed(1))]
    codes_OI, values_PV = palettize(picked, 16)
    assert (codes_OI.dtype, values_PV.dtype, values_PV.shape) == (torch.int8, torch.float16, (2, 16))
    assert torch.equal(values_PV.float().gather(1, codes_OI.reshape(2, -1).long()).reshape(32, 64), picked)

    weight_OI = random_weight()
    layer = open_target("coreml").quantized(weight_OI, Scheme(bits=4, palette=16))
    codes_OI, scale_OG = quantize_weight(weight_OI, Scheme(bits=4))
    steps = (codes_OI * scale_OG - weight_OI).square().sum()
    assert (layer.weight() - weight_OI).square().sum() < 0.8 * steps  # of even steps, a scale for each row
    assert torch.equal(layer.rows(torch.tensor([40, 3])), layer.weight()[[40, 3]])
    hidden_LI = torch.randn(3, 128)
    assert torch.allclose(layer(hidden_LI), hidden_LI @ layer.weight().T, atol=1e-4)


def test_palettes_of_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmp.export.targets.coreml import palette

    whole = palette.PaletteLinear(random_weight(), Scheme(bits=4, palette=16))
    monkeypatch.setattr(palette, "CHUNK", 128 * 16 + 5)
    parts = palette.PaletteLinear(random_weight(), Scheme(bits=4, palette=16))
    assert torch.equal(parts.codes, whole.codes)
    assert torch.equal(parts.scale, whole.scale)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_target_packs_what_it_unpacks(target: str, scheme: Scheme) -> None:
    weight_OI = random_weight()
    codes_OI, scale_OG = quantize_weight(weight_OI, scheme)
    wanted_OI = codes_OI * scale_OG.repeat_interleave(scheme.group or 128, 1)
    layer = open_target(target).quantized(weight_OI, scheme)
    assert torch.allclose(layer.weight(), wanted_OI, rtol=1e-6)
    some = torch.tensor([7, 0, 7, 47], dtype=torch.int32)
    assert torch.allclose(layer.rows(some), wanted_OI[some.long()], rtol=1e-6)


class Layer(nn.Module):
    """One quantized layer as a graph."""

    def __init__(self, layer: QuantLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> Tensor:
        """[L, I] -> [L, O]."""
        return self.layer(hidden)


def on_onnx(module: nn.Module, hidden_LI: Tensor, folder: Path) -> Tensor:
    import onnx_ir
    from vlmp.export.targets.onnx.graphs import trace

    model = trace(module, {"hidden": hidden_LI}, ["out"])
    onnx_ir.save(model, folder / "layer.onnx")
    session = ort.InferenceSession(str(folder / "layer.onnx"), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"hidden": hidden_LI.numpy()})[0])


def on_executorch(module: nn.Module, hidden_LI: Tensor, folder: Path) -> Tensor:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    program = torch.export.export(module, (hidden_LI,), strict=False)
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    left = [node.name for node in edge.exported_program().graph.nodes if "aten" in str(node.target)]
    assert left == []  # all of it is one delegate
    (folder / "layer.pte").write_bytes(edge.to_executorch().buffer)
    method = Runtime.get().load_program(folder / "layer.pte").load_method("forward")
    assert method is not None
    return method.execute([hidden_LI])[0]


def on_coreml(module: nn.Module, hidden_LI: Tensor, folder: Path) -> Tensor:
    from vlmp.export.targets.coreml import convert
    from vlmp.runtimes.coreml.interpreter import MilProgram

    inputs = [TensorSpec(name="hidden", shape=list(hidden_LI.shape), dtype="float32")]
    outputs = [TensorSpec(name="out", shape=[len(hidden_LI), 48], dtype="float32")]
    convert(module, inputs, inputs, outputs, "float32", folder / "layer.mlpackage")
    return torch.from_numpy(MilProgram(folder / "layer.mlpackage").predict({"hidden": hidden_LI.numpy()})["out"])


RUN: dict[str, Callable[[nn.Module, Tensor, Path], Tensor]] = {
    "onnx": on_onnx, "executorch": on_executorch, "coreml": on_coreml,
}  # fmt: skip
KERNELS = [
    (target, scheme)
    for target in TARGETS
    for scheme in {scheme for preset in open_target(target).presets.values() for scheme in preset.parts.values()}
]
"""Every way in which a target stores a part of a model."""


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize(("target", "scheme"), sorted(KERNELS, key=str), ids=str)
@torch.no_grad()
def test_layers_compute_what_the_kernels_do(target: str, scheme: Scheme, rows: int, bias: bool, tmp_path: Path) -> None:
    layer = open_target(target).quantized(random_weight(), scheme)
    if bias:
        layer.bias = nn.Parameter(torch.linspace(-9, 9, 48), requires_grad=False)
    hidden_LI = torch.randn(rows, 128, generator=torch.Generator().manual_seed(1))
    hidden_LI[:, 3] += 8  # activations are not centred either
    module = Layer(layer).eval()
    found_LO, wanted_LO = RUN[target](module, hidden_LI, tmp_path), module(hidden_LI)
    assert (found_LO - wanted_LO).abs().max() <= 2e-5 * wanted_LO.abs().max()
    # What is compared is the rounding of activations too: without it the values are others.
    exact_LO = hidden_LI @ layer.weight().T + (layer.bias if bias else 0)
    rounds = (found_LO - exact_LO).abs().max() > 1e-3 * wanted_LO.abs().max()
    assert rounds == (target != "coreml")


def test_groups_that_do_not_fit_give_way_to_smaller_ones() -> None:
    scheme = Scheme(bits=4, group=64, smaller_groups=(32, 16))
    quantizer = Quantizer(preset=Preset(description="", parts={"late": scheme}), kernels=QuantLinear)
    groups = []
    for inputs in (128, 96, 48, 80, 96):
        layer = quantizer.layer("late", "layers.3.up", torch.ones(4, inputs))
        assert layer is not None
        groups.append(layer.group)
    assert groups == [64, 32, 16, 16, 32]
    assert quantizer.notes == [
        f"weights of {inputs} inputs are in groups of {group}, since 64 does not divide {inputs}"
        for inputs, group in ((96, 32), (48, 16), (80, 16))
    ]
    with pytest.raises(UserError, match="has 40 inputs, which groups of 64 or 32 or 16 do not divide"):
        quantizer.layer("late", "layers.3.up", torch.ones(4, 40))


def test_groups_that_do_not_fit_are_refused() -> None:
    preset = Preset(description="", parts={"late": Scheme(bits=4, group=32)})
    quantizer = Quantizer(preset=preset, kernels=QuantLinear)
    assert quantizer.layer("vision", "a", torch.ones(4, 40)) is None
    with pytest.raises(UserError, match=r"layers\.3\.up has 40 inputs, which groups of 32 do not divide"):
        quantizer.layer("late", "layers.3.up", torch.ones(4, 40))
    tables = Quantizer(preset=Preset(description="", parts={"late": Scheme(bits=4, palette=16)}), kernels=QuantLinear)
    with pytest.raises(
        UserError, match=r"layers\.3\.up has 24 outputs, which tables of 16 rows do not divide: use --quant int4"
    ):
        tables.layer("late", "layers.3.up", torch.ones(24, 40))


# --- Whole exports ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """A quantized bundle and the same graphs in PyTorch."""

    folder: Path
    manifest: Manifest
    eager: Chat


def quantized_config(target: str, preset: str, output: Path) -> ExportConfig:
    return ExportConfig(
        model="vlmp-tiny", targets=(target,), output=output, image_size=(168, 168), keep=0.333, text_len=16,
        max_new_tokens=8, quant=preset,
    )  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[(t, p) for t in TARGETS for p in open_target(t).presets],
    ids=lambda case: "-".join(case),
)
def quantized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    name, preset = request.param
    folder = tmp_path_factory.mktemp("quantized") / "bundle"
    config = quantized_config(name, preset, folder)
    export(config)
    manifest = read_manifest(folder)
    plan = make_plan(config, open_source(config), open_target(name))
    with torch.no_grad():
        methods = build_methods(plan, manifest.precision)
    for module in methods.values():
        compute_in_parts(module)  # as verification does: float16 sums depend on their order
    return Exported(folder, manifest, Chat(TorchSession(manifest, methods), plan.source.prompt.tokenizer))


def test_quantized_bundles_verify_and_answer_as_quantized_pytorch(quantized: Exported) -> None:
    assert quantized.manifest.parity.status == "passed"
    found = Chat(load(quantized.folder)).ask(PHOTO, "Is there a red circle?", max_new_tokens=4)
    wanted = quantized.eager.ask(PHOTO, "Is there a red circle?", max_new_tokens=4)
    assert np.isin(found.kept, wanted.kept).mean() >= 0.9
    assert found.token_ids == wanted.token_ids


def test_the_reference_says_how_far_rounding_carries_pytorch_from_itself(quantized: Exported) -> None:
    reference = Reference.read(quantized.folder / REFERENCE_NAME)
    visual, noise = reference.visual, np.random.default_rng(0)
    changes = []
    for _ in range(NUDGES):
        moved = visual.astype(np.float64) * (
            1 + NUDGE[quantized.manifest.precision] * noise.standard_normal(visual.shape)
        )
        nudged = quantized.eager.session.prefill(reference.ids, moved.astype(visual.dtype)).logits
        changes.append(relative_error(nudged, reference.prefill_logits))
    assert reference.own_change == pytest.approx(max(changes), abs=1e-6)
    assert max(changes) > 0
    assert reference.own_change < 0.05


@pytest.mark.parametrize(
    ("found", "tie", "kept"),
    [
        ([1.0, 4.0, 3.0], 0.0, True),
        ([1.0, 3.0, 3.1], 0.0, False),
        ([1.0, 3.0, 3.1], 0.02, True),  # the reference's two best are 1 % apart
        ([5.0, 3.0, 3.1], 0.02, False),
        ([1.0, 4.0, 3.0, 9.0], 0.02, False),
    ],
)
def test_only_a_near_tie_of_the_reference_may_be_another_token(found: list[float], tie: float, kept: bool) -> None:
    wanted = np.array([1.0, 4.0, 3.96], dtype=np.float32)
    assert keeps_top(np.array(found, dtype=np.float32), wanted, tie) == kept


def test_choices_are_compared_in_four_arrangements_of_the_picture(quantized: Exported) -> None:
    reference, manifest = Reference.read(quantized.folder / REFERENCE_NAME), quantized.manifest
    (whole,) = manifest.shape.image.segments
    height, width = whole.rows, whole.columns
    picture = reference.visual.reshape(height, width, -1)
    turned = (picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1])
    given = [np.ascontiguousarray(tokens).reshape(reference.visual.shape) for tokens in turned]
    wanted = [quantized.eager.session.prefill(reference.ids, tokens).kept for tokens in given]
    assert np.array_equal(reference.choices, wanted)
    assert len({tuple(kept) for kept in wanted}) == 4
    found = load(quantized.folder)
    chosen = [found.prefill(reference.ids, tokens).kept for tokens in given]
    shares = [np.isin(kept, other).mean() for kept, other in zip(wanted, chosen, strict=True)]
    checks = {check.name: check.value for check in manifest.parity.checks}
    assert checks["kept tokens in common"] == pytest.approx(np.mean(shares))


def test_limits_follow_what_rounding_does_to_pytorch_itself(quantized: Exported) -> None:
    limits = [limits_of(quantized.manifest, change).relative for change in (0.0, 0.005, 0.015, 0.2)]
    assert limits == [0.02, 0.02, 0.03, 0.05]
    exact = quantized.manifest.model_copy(update={"quantization": "none", "precision": "float32"})
    assert limits_of(exact, 0.2).relative == 1e-4


def test_each_part_is_quantized_as_the_preset_says(quantized: Exported) -> None:
    manifest, methods = quantized.manifest, quantized.eager.session.methods
    parts = open_target(manifest.target).presets[manifest.quantization].parts
    decoder, seen = methods["decode"].decoder, set()
    for index, layer in enumerate(decoder.layers):
        part = "early" if index < manifest.shape.prune_layer else "late"
        for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down):
            assert next(m for m in matrix.modules() if isinstance(m, QuantLinear)).scheme == parts[part]
        seen.add(part)
    assert seen == {"early", "late"}
    assert decoder.head.scheme == decoder.embed.linear.scheme == parts["table"]
    vision = [m for m in methods["vision"].modules() if isinstance(m, QuantLinear)]
    assert {m.scheme for m in vision} == {parts["vision"]}
    assert len(vision) == 4 * 4 + 2  # four matrices in each of four blocks, and the merger's


def test_files_hold_the_bits_that_the_preset_says(quantized: Exported) -> None:
    held: dict[int, int] = {}
    for method in quantized.eager.session.methods.values():
        held |= {id(p): p.numel() * p.itemsize for p in method.parameters()}
        held |= {id(t): n for m in method.modules() if isinstance(m, QuantLinear) for t, n in m.kernel_bytes()}
    weights = sum(file.size_bytes for file in quantized.manifest.files if "weight" in file.path)
    assert 0.95 < weights / sum(held.values()) < 1.1  # masks, rotary rows, and scales that a kernel widens


def test_the_work_counts_codes_as_kernels_read_them(quantized: Exported) -> None:
    manifest = quantized.manifest
    parts = open_target(manifest.target).presets[manifest.quantization].parts
    number = 2 if manifest.precision == "float16" else 4

    def stored(scheme: Scheme, outputs: int, inputs: int) -> int:
        scale = {"float32": 4, "float16": 2, "bfloat16": 2}[scheme.scale_dtype]
        values = 16 * outputs // scheme.palette if scheme.palette else outputs * inputs // (scheme.group or inputs)
        return outputs * inputs * scheme.bits // 8 + values * scale

    wanted = stored(parts["table"], 2048, 256) + 256 * number
    for index in range(6):
        scheme = parts["early" if index < manifest.shape.prune_layer else "late"]
        shapes = ((512, 256), (256, 256), (1536, 256), (256, 768))
        wanted += sum(stored(scheme, *shape) for shape in shapes) + (512 + 2 * 256) * number
    assert manifest.methods["decode"].work["decode"].weight_bytes == wanted


def test_the_pruner_and_norms_are_not_quantized(quantized: Exported) -> None:
    pruners = list(quantized.eager.session.methods["prefill"].pruners.modules())
    assert {type(module).__name__ for module in pruners} == {"ModuleList", "VlmPruner"}
    norm = quantized.eager.session.methods["prefill"].decoder.norm
    assert norm.weight.dtype in (torch.float32, torch.float16)


def test_the_interpreter_knows_what_core_ml_bundles_hold_and_nothing_more(quantized: Exported) -> None:
    """The pruner and the layers hold all its operators; tables are `palette4`'s alone, and some those of weights."""
    if quantized.manifest.target != "coreml":
        pytest.skip("of Core ML only")
    from vlmp.runtimes.coreml.interpreter import load_functions
    from vlmp.runtimes.coreml.ops import OPS

    functions = load_functions(quantized.folder / quantized.manifest.methods["prefill"].file).values()
    found = {op for function in functions for op in function.op_counts} - {"const"}
    tables = set() if quantized.manifest.quantization == "palette4" else {"constexpr_lut_to_dense"}
    # Of bundles that weigh what they keep, or have a stage in the vision tower: test_targets.py, test_families.py
    others = {"exp", "log", "identity"}
    assert found == set(OPS) - tables - others


def test_presets_stand_in_the_documentation() -> None:
    text = " ".join((ROOT / "docs/quantization.md").read_text(encoding="utf-8").split())
    for target in TARGETS:
        for name, preset in open_target(target).presets.items():
            assert f"| {target} | `{name}` | {preset.description} |" in text
