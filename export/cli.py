"""`vlmp-export`: from a checkpoint to verified bundles."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vlmp.export.config import (
    PRESETS,
    UNQUANTIZED,
    ExportConfig,
    check_precision,
    check_preset,
    parse_image_size,
)
from vlmp.export.models import HUB_ID, MODELS, file_label, model_entry
from vlmp.export.schedule import (
    DEFAULT_KEEP,
    DEFAULT_PRUNER,
    FORM,
    SCHEDULES,
    Stage,
    check_schedule,
    layer_of,
    least_layer,
    named_schedule,
    parse_stage,
    settings_of,
)
from vlmp.export.targets import OFFERS, TARGETS, check_single_file
from vlmp.pruner import PRUNERS
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import (
    OneLineParser,
    add_debug,
    check_folder,
    local_folder,
    refuse_repetition,
    run_command,
)
from vlmp.runtimes.console.streams import own_stderr, say

if TYPE_CHECKING:
    from vlmp.export.pipeline import Result


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `vlmp-export`."""
    parser = OneLineParser("vlmp-export", description=__doc__)
    add_arguments(parser)
    run_command(parser, run, argv)


def add_arguments(parser: ArgumentParser) -> None:
    """The options; `optimum-cli export vlmp` has the same."""
    refuse_repetition(parser)
    parser.add_argument(
        "-m", "--model", metavar="NAME",
        help=f"what to export: {', '.join(MODELS)}, a Hugging Face id like Qwen/Qwen2-VL-2B-Instruct, or a folder",
    )  # fmt: skip
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a Hugging Face id")
    parser.add_argument("--target", action="append", metavar="NAME", help=f"{', '.join(TARGETS)}, or all; repeatable")
    parser.add_argument(
        "--checkpoint", type=local_folder, metavar="DIR", help="local checkpoint folder instead of a download"
    )
    parser.add_argument(
        "--schedule", metavar="NAME", help=f"where and how far to prune: {', '.join(SCHEDULES)}, or STAGE+STAGE"
    )
    parser.add_argument("--stage", action="append", metavar="STAGE", help=f"one stage of pruning, repeatable: {FORM}")
    parser.add_argument(
        "--pruner", metavar="NAME[,SETTING=VALUE]",
        help=f"of a single stage: {', '.join(PRUNERS)} ({DEFAULT_PRUNER}); settings=published is the paper's",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=float, metavar="SHARE",
        help=f"kept share of the visual tokens (1 - pruning ratio); {DEFAULT_KEEP} when not given",
    )  # fmt: skip
    parser.add_argument(
        "--prune-layer", type=int, metavar="K",
        help="prune before this decoder layer, 0 is before the language model; the pruner's own place when not given",
    )  # fmt: skip
    parser.add_argument("--image-size", metavar="SIDE|HxW", help="pixels; the model's default when not given")
    parser.add_argument(
        "--image-fit", choices=["pad", "stretch"], default="pad", help="how a photo is fitted to it (%(default)s)"
    )
    parser.add_argument("--system-prompt", metavar="TEXT", help="baked into the export; the template's own otherwise")
    parser.add_argument(
        "--text-len", type=int, default=64, metavar="T", help="token bucket of one turn's text (%(default)s)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=256, metavar="G", help="cache room for answers (%(default)s)"
    )
    parser.add_argument("--precision", choices=["float32", "float16"], help="the target's default when not given")
    parser.add_argument("--quant", metavar="PRESET", help=f"{', '.join(PRESETS)}; the model's default when not given")
    parser.add_argument(
        "--output", type=local_folder, metavar="DIR", help="bundle folder; DIR/<target> for several targets"
    )
    parser.add_argument(
        "--single-file",
        action="store_true",
        help="executorch: put the weights into model.pte, for Android's Java Module",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    parser.add_argument("--no-verify", action="store_true", help="skip verification; recorded in the manifest")
    parser.add_argument(
        "--list", choices=["models", "targets", "pruners", "schedules"], help="print the choices and exit"
    )
    add_debug(parser)


def run(arguments: Namespace) -> None:
    """Export as the options say. Raises UserError."""
    if arguments.list:
        print(*listed(arguments.list), sep="\n")
        return
    config = read_config(arguments)
    check(config)

    from vlmp.export.pipeline import export  # loads torch and transformers: only once the options are known to be good

    results: list[Result] = []
    try:
        with progress_line() as report:
            export(config, report, results.append)
    finally:
        for result in results:
            print(summary(result))
        for note in dict.fromkeys(note for result in results for note in result.manifest.notes):
            say(f"note: {note}")


def listed(what: str) -> list[str]:
    """The choices of --list, a line each."""
    match what:
        case "models":
            from vlmp.export.listing import described_model  # loads torch and transformers

            return [described_model(name) for name in MODELS]
        case "targets":
            return list(TARGETS)
        case "pruners":
            return [described(name) for name in PRUNERS]
        case _:
            return [f"{name:<8}{stages}" for name, stages in SCHEDULES.items()]


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """What takes a line on what is being done: beside a spinner on a terminal, one below the other elsewhere."""
    if not own_stderr().isatty():
        yield say
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    console = Console(file=own_stderr())
    spinner = Spinner("dots" if console.encoding.startswith("utf") else "line", "starting", style="status.spinner")
    # Rich would show what libraries print to sys.stderr and sys.stdout above it.
    with Live(
        spinner, console=console, transient=True, refresh_per_second=12.5, redirect_stdout=False, redirect_stderr=False
    ):
        yield lambda line: spinner.update(text=line)


def described(pruner: str) -> str:
    """A pruner, its place and its settings."""
    layer = layer_of(pruner)
    where = f"before decoder layer {layer}" if layer else "before the language model"
    takes = settings_of(pruner)
    settings = f"; takes {', '.join(takes)}" if takes else ""
    return f"{pruner:<12}{where} (--prune-layer {layer}, at least {least_layer(pruner)}){settings}"


def check(config: ExportConfig) -> None:
    """What can be told of the settings before torch is loaded, which takes seconds. Raises UserError.

    The exporter checks all of it again, and what depends on the checkpoint.
    """
    _ = config.schedule  # which checks it
    for name in config.targets:
        if name in OFFERS:
            check_single_file(name, config.single_file)
            check_precision(name, OFFERS[name].precisions, config.precision)
            check_preset(name, OFFERS[name].presets, UNQUANTIZED if config.quant is None else config.quant)
    if config.checkpoint is not None:
        check_folder("checkpoint folder", config.checkpoint)
    entry = model_entry(config.model, config.checkpoint)  # last: it may have to ask the hub
    for name in config.targets:
        if name in OFFERS:
            check_preset(name, OFFERS[name].presets, entry.quant if config.quant is None else config.quant)

    from vlmp.runtimes.bundle.folder import check_output  # and with it pydantic

    for output in config.outputs.values():
        check_output(output, overwrite=config.overwrite)


def model_of(arguments: Namespace) -> str:
    """The model's name with the revision that is asked for. Raises UserError where it can have none."""
    if not arguments.revision:
        return str(arguments.model)
    if not HUB_ID.fullmatch(arguments.model) or "@" in arguments.model:
        raise UserError(
            f"--revision {arguments.revision}: goes with a Hugging Face id, {arguments.model} is none or has one"
        )
    return f"{arguments.model}@{arguments.revision}"


def read_config(arguments: Namespace) -> ExportConfig:
    """Options -> ExportConfig. Raises UserError."""
    if not arguments.model:
        raise UserError(f"--model is missing: choose one of {', '.join(MODELS)}")
    if not arguments.target:
        raise UserError(f"--target is missing: choose one of {', '.join(TARGETS)}, all")
    for name in arguments.target:
        if name not in (*TARGETS, "all"):
            raise UserError(f"unknown target {name!r}: choose one of {', '.join(TARGETS)}, all")
    targets = tuple(TARGETS) if "all" in arguments.target else tuple(dict.fromkeys(arguments.target))
    stages = read_stages(arguments)
    pruned = arguments.schedule or ("stages" if stages else arguments.pruner or DEFAULT_PRUNER)
    name = f"{file_label(arguments.model)}-{pruned.replace(':', '-')}-{'-'.join(targets)}"
    return ExportConfig(
        model=model_of(arguments),
        targets=targets,
        output=arguments.output or Path("bundles") / name,
        checkpoint=arguments.checkpoint,
        stages=stages,
        pruner=arguments.pruner or DEFAULT_PRUNER,
        keep=arguments.keep,
        prune_layer=arguments.prune_layer,
        image_size=parse_image_size(arguments.image_size) if arguments.image_size is not None else None,
        image_fit=arguments.image_fit,
        system_prompt=arguments.system_prompt,
        text_len=arguments.text_len,
        max_new_tokens=arguments.max_new_tokens,
        precision=arguments.precision,
        quant=arguments.quant,
        overwrite=arguments.overwrite,
        verify=not arguments.no_verify,
        single_file=arguments.single_file,
    )


def read_stages(arguments: Namespace) -> tuple[Stage, ...]:
    """The stages of --stage or --schedule; none where the short form stands. Raises UserError."""
    names = ("schedule", "stage", "pruner", "keep", "prune_layer")
    given = [name for name in names if getattr(arguments, name) is not None]
    long = [name for name in given if name in ("schedule", "stage")]
    if long and len(given) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in given[:2])
        raise UserError(f"{first} and {second}: both say where and how far to prune, leave one of them out")
    if arguments.schedule is not None:
        return named_schedule(arguments.schedule)
    stages = tuple(parse_stage(text) for text in arguments.stage or ())
    check_schedule(stages)
    return stages


def summary(result: "Result") -> str:
    """The last line of an export: where it is, its size, parity, seconds and peak memory."""
    manifest = result.manifest
    errors = {check.name: check.value for check in manifest.parity.checks}
    parity: str = manifest.parity.status
    shape = manifest.shape
    kept = ", ".join(str(stage.num_kept) for stage in shape.stages)
    quantized = "" if manifest.quantization == UNQUANTIZED else f" {manifest.quantization}"
    if errors:
        parity += f", logits within {max(v for k, v in errors.items() if k.endswith('logits relative error')):.1e}"
    return (
        f"{result.output}: {manifest.target} {manifest.precision}{quantized}, {kept} of "
        f"{shape.image.visual_tokens} visual tokens, {result.size_bytes / 2**20:.1f} MiB, verification {parity}, "
        f"{result.seconds:.0f} s, peak memory {result.peak_memory_mib:.0f} MiB"
    )
