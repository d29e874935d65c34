"""One readable function: plan, build, trace, lower, verify, write."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from vlmp.export.config import ExportConfig, Precision
from vlmp.export.describe import TOKENIZER_NAME, describe
from vlmp.export.memory import PeakMemory, Steps, give_back
from vlmp.export.plan import Plan, make_plans, open_targets
from vlmp.export.tracing import forgotten_traces, shared_provenance
from vlmp.export.verify import verify_export
from vlmp.export.work import with_work
from vlmp.runtimes.bundle.folder import check_output, new_bundle, remove_unfinished, size_bytes, write_manifest
from vlmp.runtimes.bundle.manifest import CostSpec, Manifest, MethodName, ParitySpec
from vlmp.runtimes.bundle.writing import check_free_above, exclusive, told_if_full

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one export made."""

    output: Path
    manifest: Manifest
    size_bytes: int
    seconds: float
    peak_memory_mib: float


def export(
    config: ExportConfig,
    report: Callable[[str], None] = lambda _: None,
    done: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Export one model for each target of the config; a bundle appears only when it is complete and verified.

    report gets what begins, done each bundle as it is there: the next target may fail. Raises UserError on settings or
    input that cannot be served, before anything is written, or when verification fails.
    """
    targets = open_targets(config)
    with alone(config):
        report("checkpoint")
        results = []
        for plan in make_plans(config, targets):
            results.append(export_bundle(plan, report))
            done(results[-1])
            give_back()
    return results


@contextmanager
def alone(config: ExportConfig) -> Iterator[None]:
    """Keep other exports off the outputs of this one, and remove what killed ones have left there.

    Raises UserError when another process writes one of them, or when one must not be written.
    """
    check_free_above(config.output, f"output {config.output}")
    with ExitStack() as locks:
        # Of several targets the folder above them, too: nobody may begin a bundle in its place.
        for output in dict.fromkeys([config.output, *config.outputs.values()]):
            if locks.enter_context(exclusive(output, f"output {output}")):
                remove_unfinished(output)
        for output in config.outputs.values():
            check_output(output, overwrite=config.overwrite)  # somebody may just have written it
        yield


def export_bundle(plan: Plan, report: Callable[[str], None]) -> Result:
    """Build, trace, lower, verify and write the bundle of one target."""
    started = perf_counter()
    config, target, geometry = plan.config, plan.target, plan.source.geometry
    output = config.outputs[target.name]
    with (
        torch.no_grad(),
        forgotten_traces(),
        PeakMemory() as memory,
        told_if_full(output),
        new_bundle(output, overwrite=config.overwrite) as folder,
    ):
        steps = Steps(memory, report)
        steps(f"{target.name}: weights")
        methods = build_methods(plan, "float32", holds=plan.precision)
        with shared_provenance():
            specs = target.lower(methods, geometry, plan.precision, folder, steps)
        specs = with_work(specs, methods, geometry, plan.precision, target.cuts_text)
        (folder / TOKENIZER_NAME).write_text(plan.source.prompt.tokenizer.to_str(pretty=True), encoding="utf-8")
        manifest = describe(plan, specs)
        if config.verify:
            steps(f"{target.name}: verify")
            if plan.precision != "float32":
                methods.clear()
                methods = build_methods(plan, plan.precision)
            parity = verify_export(folder, manifest, plan.source.prompt, methods, steps)
        else:
            steps(f"{target.name}: verification skipped")
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


def build_methods(plan: Plan, precision: Precision, *, holds: Precision | None = None) -> "dict[MethodName, nn.Module]":
    """The four graphs with the pruners inside prefill; they compute in float32 in any precision.

    holds: the precision that they will be lowered to, where that is another one.
    """
    source = plan.source
    dtype, smaller = getattr(torch, precision), getattr(torch, holds or precision)
    methods = source.family.build(
        source.geometry, plan.pruners, source.prompt.prefix_ids, dtype, plan.quantizer, smaller
    )
    if plan.quantizer:
        plan.quantizer.swap_attention(methods["vision"])
    return methods
