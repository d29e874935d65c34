"""One readable function: load, build graphs, insert the pruner, trace, lower, verify, write."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from vlmp.export import checkpoint as checkpoints
from vlmp.export.config import (
    DEFAULT_KEEP,
    ExportConfig,
    Precision,
    check_precision,
    check_pruner,
    layer_of,
    least_layer,
)
from vlmp.export.geometry import Geometry
from vlmp.export.memory import PeakMemory, Steps, give_back
from vlmp.export.models import Family, model_entry, model_label, open_family
from vlmp.export.prompt import ChatPrompt, read_prompt
from vlmp.export.quantize import Quantizer, find_preset
from vlmp.export.targets import Target, open_target
from vlmp.export.tracing import forgotten_traces, shared_provenance
from vlmp.export.verify import verify_export
from vlmp.export.work import with_work
from vlmp.pruner import DEFAULT_PIVOTS, PrunerConfig, build_pruner, method
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import (
    MANIFEST_NAME,
    check_output,
    new_bundle,
    remove_unfinished,
    size_bytes,
    write_manifest,
)
from vlmp.runtimes.bundle.manifest import (
    METHODS,
    CostSpec,
    ImageSpec,
    KvLayerSpec,
    KvSpec,
    Manifest,
    MethodName,
    MethodSpec,
    ParitySpec,
    SegmentSpec,
    ShapeSpec,
    StageSpec,
)
from vlmp.runtimes.bundle.writing import check_free_above, exclusive, told_if_full
from vlmp.runtimes.prompt import encode_turn
from vlmp.runtimes.versions import package_version

if TYPE_CHECKING:
    from torch import nn

TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one export made."""

    output: Path
    manifest: Manifest
    size_bytes: int
    seconds: float
    peak_memory_mib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A checkpoint that has been opened and checked against the settings."""

    name: str
    family: Family
    prompt: ChatPrompt
    geometry: Geometry
    pruner: PrunerConfig


def export(
    config: ExportConfig,
    report: Callable[[str], None] = lambda _: None,
    done: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Export one model for each target of the config; a bundle appears only when it is complete and verified.

    report gets what begins, done each bundle as it is there: the next target may fail. Raises UserError on settings or
    input that cannot be served, before anything is written for the target, or when verification fails.
    """
    model_entry(config.model, config.checkpoint)
    check_pruner(config.pruner)
    targets = {name: open_target(name) for name in config.targets}
    if len(targets) > 1 and (config.output / MANIFEST_NAME).exists():
        raise UserError(f"output {config.output} is itself a bundle, not a folder for several: choose another --output")
    for name, output in config.outputs.items():
        check_precision(name, targets[name].precisions, config.precision)
        find_preset(quantization(config), name, targets[name].presets)
        check_output(output, overwrite=config.overwrite)
    check_free_above(config.output, f"output {config.output}")
    with ExitStack() as locks:
        # Of several targets the folder above them, too: nobody may begin a bundle in its place.
        for output in dict.fromkeys([config.output, *config.outputs.values()]):
            if locks.enter_context(exclusive(output, f"output {output}")):
                remove_unfinished(output)
        for output in config.outputs.values():
            check_output(output, overwrite=config.overwrite)  # somebody may just have written it
        report("checkpoint")
        source = open_source(config)
        results = []
        for name, target in targets.items():
            results.append(export_target(config, source, name, target, config.outputs[name], report))
            done(results[-1])
            give_back()
    return results


def export_target(
    config: ExportConfig, source: Source, name: str, target: Target, output: Path, report: Callable[[str], None]
) -> Result:
    """Export for one target."""
    started = perf_counter()
    precision = config.precision or target.precisions[0]
    with (
        torch.no_grad(),
        forgotten_traces(),
        PeakMemory() as memory,
        told_if_full(output),
        new_bundle(output, overwrite=config.overwrite) as folder,
    ):
        steps = Steps(memory, report)
        steps(f"{name}: weights")
        methods = build_methods(source, config, target, "float32", holds=precision)
        with shared_provenance():
            specs = target.lower(methods, source.geometry, precision, folder, steps)
        specs = with_work(specs, methods, source.geometry, precision, target.cuts_text)
        (folder / TOKENIZER_NAME).write_text(source.prompt.tokenizer.to_str(pretty=True), encoding="utf-8")
        manifest = describe(config, source, name, target, precision, specs)
        steps(f"{name}: verify" if config.verify else f"{name}: verification skipped")
        if config.verify:
            if precision != "float32":
                methods.clear()
                methods = build_methods(source, config, target, precision)
            parity = verify_export(folder, manifest, source.prompt, methods, steps)
        else:
            parity = ParitySpec(status="skipped", runtime="")
        steps.end()
        seconds = perf_counter() - started
        cost = CostSpec(seconds=round(seconds, 1), peak_memory_mib=round(memory.peak_mib(), 1), steps=steps.done)
        manifest = write_manifest(folder, manifest.model_copy(update={"parity": parity, "cost": cost}))
    return Result(
        output=output,
        manifest=manifest,
        size_bytes=size_bytes(output),
        seconds=seconds,
        peak_memory_mib=cost.peak_memory_mib,
    )


def open_source(config: ExportConfig) -> Source:
    """Find and read the checkpoint, and check the settings against it. Raises UserError."""
    entry = model_entry(config.model, config.checkpoint)
    folder = config.checkpoint or checkpoints.locate(entry.checkpoint)
    family = open_family(str(checkpoints.read_config(folder).get("model_type")), folder)
    height, width = config.image_size or entry.image_size
    side = family.merge_px
    if height < side or width < side or height % side or width % side:
        raise UserError(f"--image-size {height}x{width}: both sides must be multiples of {side} pixels")
    layer = prune_layer(config, family)
    visual = (height // side) * (width // side)
    pruner = pruner_config(config, visual)
    prompt = read_prompt(folder, family.image_token, config.system_prompt)
    check_text_len(config, prompt)
    geometry = family.geometry(
        height=height, width=width, prefix=len(prompt.prefix_ids), kept=pruner.keep, text=config.text_len,
        room=config.max_new_tokens, prune_layer=layer,
    )  # fmt: skip
    check_lengths(geometry, family, prompt)
    local = config.checkpoint is not None or entry.checkpoint.startswith("folder:")
    name = checkpoints.identity(folder) if local else checkpoints.hub_identity(entry.checkpoint, folder)
    return Source(name=name, family=family, prompt=prompt, geometry=geometry, pruner=pruner)


def prune_layer(config: ExportConfig, family: Family) -> int:
    """K, as asked for or the method's own place. Raises UserError where the method or the model has no such place."""
    layer = layer_of(config.pruner, config.prune_layer)
    if layer >= family.layers:
        raise UserError(
            f"--prune-layer {layer}: this model has {family.layers} layers, so "
            f"{least_layer(config.pruner)} to {family.layers - 1}"
        )
    return layer


def pruner_config(config: ExportConfig, visual: int) -> PrunerConfig:
    """The pruner's settings with S = keep * N rounded half up.

    Raises UserError when S lies outside [pivots, N], or [1, N] for methods without pivots.
    """
    least = DEFAULT_PIVOTS if "pivots" in method(config.pruner).settings else 1
    if visual < least:
        raise UserError(
            f"this image size gives {visual} visual tokens, pruner {config.pruner} starts from {least}: "
            "choose a larger --image-size, or --pruner none"
        )
    share = config.keep
    if share is None:
        share = 1 if config.pruner == "none" else DEFAULT_KEEP
    kept = int(share * visual + 0.5)
    if kept < least:
        raise UserError(
            f"--keep {share:.4g} keeps {kept} of {visual} visual tokens: at least {least} are needed, "
            f"so --keep must be at least {least / visual:.4g}"
        )
    return PrunerConfig(keep=kept, pivots=min(DEFAULT_PIVOTS, kept))


def check_text_len(config: ExportConfig, prompt: ChatPrompt) -> None:
    """Raises UserError when the bucket cannot hold the template and a word."""
    around = max(len(encode_turn(prompt.tokenizer, template, "")) for template in (prompt.first, prompt.following))
    if config.text_len < around + 2:
        raise UserError(
            f"--text-len {config.text_len}: the chat template alone takes {around} tokens; use at least {around + 2}"
        )


def check_lengths(geometry: Geometry, family: Family, prompt: ChatPrompt) -> None:
    """Raises UserError when the whole chat is longer than the model was made for, or the tokenizer is another's."""
    longest = geometry.early_base + geometry.text_room
    if longest > family.max_positions:
        raise UserError(
            f"{geometry.visual} visual tokens, --text-len {geometry.text} and --max-new-tokens {geometry.room} make up "
            f"to {longest} positions, this model has {family.max_positions}: choose less of one of them"
        )
    known = prompt.tokenizer.get_vocab_size()
    if known > geometry.vocab:
        raise UserError(
            f"the checkpoint's tokenizer has {known} tokens, its config says vocab_size {geometry.vocab}: the files of "
            "two models are mixed"
        )
    image_id = prompt.tokenizer.token_to_id(family.image_token)
    if image_id != family.image_token_id:
        raise UserError(
            f"the checkpoint's tokenizer has {family.image_token} as {image_id}, its config says image_token_id "
            f"{family.image_token_id}: the files of two models are mixed"
        )


def quantization(config: ExportConfig) -> str:
    """The preset's name, as asked for or the model's default."""
    return model_entry(config.model, config.checkpoint).quant if config.quant is None else config.quant


def build_methods(
    source: Source, config: ExportConfig, target: Target, precision: Precision, *, holds: Precision | None = None
) -> "dict[MethodName, nn.Module]":
    """The four graphs with the pruner inside prefill; the pruner computes in float32 in any precision.

    holds: the precision that they will be lowered to, where that is another one.
    """
    pruner = build_pruner(config.pruner, source.geometry.grid, source.pruner, target.loop)
    preset = find_preset(quantization(config), "this target", target.presets)
    quantizer = Quantizer(preset=preset, kernels=target.quantized) if preset else None
    dtype, smaller = getattr(torch, precision), getattr(torch, holds or precision)
    return source.family.build(source.geometry, pruner, source.prompt.prefix_ids, dtype, quantizer, smaller)


def describe(
    config: ExportConfig,
    source: Source,
    name: str,
    target: Target,
    precision: Precision,
    specs: dict[MethodName, MethodSpec],
) -> Manifest:
    """The manifest without parity, cost and files."""
    geometry, pruner = source.geometry, source.pruner
    built = build_pruner(config.pruner, geometry.grid, pruner, target.loop)
    rows, columns = geometry.grid
    whole = (0, 0, geometry.width, geometry.height)
    image = ImageSpec(
        height=geometry.height, width=geometry.width, fit=config.image_fit, pad_rgb=source.family.pad_rgb,
        resample="bicubic", visual_tokens=geometry.visual,
        segments=[SegmentSpec(rows=rows, columns=columns, first=0, stride=columns, box=whole)],
    )  # fmt: skip
    stage = StageSpec(
        place="layer", index=geometry.prune_layer, method=config.pruner, tokens=geometry.visual, num_kept=geometry.kept,
        settings={setting: getattr(pruner, setting) for setting in built.settings}, loop=target.loop,
        by_prompt="attention" in built.needs, exact=built.exact,
    )  # fmt: skip
    layers = [
        KvLayerSpec(
            kv_heads=geometry.kv_heads, head_dim=geometry.head_dim, base=geometry.base(i), slots=geometry.slots(i)
        )
        for i in range(geometry.layers)
    ]
    kv = KvSpec(update=target.kv_update, dtype=precision, layers=layers)
    return Manifest(
        model=model_label(config.model),
        checkpoint=source.name,
        target=name,
        precision=precision,
        quantization=quantization(config),
        vocab_size=geometry.vocab,
        prompt=source.prompt.spec(
            text_len=config.text_len, max_new_tokens=config.max_new_tokens, tokenizer_file=TOKENIZER_NAME
        ),
        shapes=[ShapeSpec(image=image, stages=[stage], kv=kv, methods={method: method for method in METHODS})],
        methods={method: specs[method] for method in METHODS},
        parity=ParitySpec(status="skipped", runtime=""),
        notes=[*source.prompt.notes, *source.family.notes],
        tools={name: package_version(name) for name in ("vlmp", "torch")} | target.tools(),
    )  # fmt: skip
