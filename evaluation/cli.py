"""`vlmp-eval`: accuracy of a model or of bundles on questions with known answers."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vlmp.evaluation.data import DATASETS, SCENE_QUESTIONS, DataSet, open_dataset
from vlmp.evaluation.metrics import METRICS
from vlmp.export.config import ExportConfig, parse_image_size
from vlmp.export.models import model_entry
from vlmp.export.schedule import DEFAULT_KEEP, FORM, SCHEDULES, joined, named_schedule
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.writing import exclusive
from vlmp.runtimes.console.command import OneLineParser, add_debug, check_folder, local_folder, run_command
from vlmp.runtimes.console.streams import is_url, own_stderr, say

if TYPE_CHECKING:
    from vlmp.evaluation.report import Row
    from vlmp.evaluation.run import Answered
    from vlmp.evaluation.subjects import Subject

DEFAULT_PRUNERS = ("none", "vlm-pruner")
DEFAULT_KEEPS = (DEFAULT_KEEP,)
SHORTEST_TEXT = 24
"""Text bucket to begin with; it grows with the longest question."""
PROGRAM = "vlmp-eval"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `vlmp-eval`."""
    command = shlex.join([PROGRAM, *(sys.argv[1:] if argv is None else argv)])
    run_command(parser(), lambda arguments: _evaluate(arguments, command), argv)


def parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(PROGRAM, description="Accuracy of a model in PyTorch, or of bundles on their runtimes.")
    who = parser.add_argument_group("what is asked")
    who.add_argument("--model", metavar="NAME", help="a model as vlmp-export takes it, in PyTorch")
    who.add_argument("--checkpoint", type=local_folder, metavar="DIR", help="weights of your own for --model")
    who.add_argument(
        "--bundle", type=local_folder, action="append", metavar="DIR", help="a bundle; repeat it to compare several"
    )
    who.add_argument("--pruner", action="append", metavar="NAME", help="method, repeatable (none and vlm-pruner)")
    who.add_argument(
        "--keep", type=float, action="append", metavar="SHARE", help=f"kept share, repeatable ({DEFAULT_KEEP})"
    )
    who.add_argument("--prune-layer", type=int, metavar="K", help="prune before layer K (each method's own place)")
    who.add_argument(
        "--schedule", action="append", metavar="NAME",
        help=f"several stages, repeatable: {', '.join(SCHEDULES)}, or stages with + between, each {FORM}",
    )  # fmt: skip
    who.add_argument("--image-size", metavar="SIDE|HxW", help="pixels (the model's default)")
    who.add_argument("--random-seeds", type=int, default=3, metavar="N", help="seeds that random is averaged over (3)")
    what = parser.add_argument_group("questions")
    names = ", ".join(f"{name}:..." for name in DATASETS)
    what.add_argument("--dataset", required=True, help=f"FILE.jsonl, or {names} (scenes:test, pope:DIR)")
    what.add_argument(
        "--questions", type=int, metavar="N", help=f"the first so many (all; of scenes {SCENE_QUESTIONS})"
    )
    what.add_argument(
        "--seed", type=int, default=0, metavar="N", help="draws other scenes; other data sets take no notice (0)"
    )
    what.add_argument(
        "--metric", choices=METRICS, help="how an answer is scored (as in the data set's paper; JSONL: exact)"
    )
    what.add_argument("--max-new-tokens", type=int, default=16, metavar="N", help="longest answer (16)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the runtime (its own choice)")
    parser.add_argument(
        "--output", type=local_folder, required=True, metavar="DIR", help="answers and results; run again to resume"
    )
    parser.add_argument("--overwrite", action="store_true", help="ask again what --output has answers to")
    add_debug(parser)
    return parser


def _evaluate(arguments: Namespace, command: str) -> None:
    _check(arguments)

    from vlmp.evaluation.report import summarize, write_report
    from vlmp.evaluation.run import known_answers

    data = open_dataset(arguments.dataset, seed=arguments.seed, questions=arguments.questions)
    if arguments.metric:
        data = replace(data, metric=arguments.metric, kind_metrics={})
    subjects = _bundles(arguments, data) if arguments.bundle else _eager(arguments, data)
    answers = arguments.output / "answers"
    with exclusive(answers, f"--output {arguments.output}"):
        if not arguments.overwrite:  # hours of answers would come before the last refusal otherwise
            for subject in subjects:
                known_answers(subject, data, answers, max_new_tokens=arguments.max_new_tokens)
        answered = _answers(subjects, data, answers, arguments)
        rows = summarize(answered, data)
        files = write_report(rows, arguments.output, command)
    for row in rows:
        print(line(row))
    print("written: " + ", ".join(str(file) for file in files))
    for note in dict.fromkeys(note for one in answered for note in one.manifest.notes):
        say(f"note: {note}")


def _answers(subjects: "Sequence[Subject]", data: DataSet, folder: Path, arguments: Namespace) -> "list[Answered]":
    """Ask all subjects, with a bar for each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from vlmp.evaluation.run import VisionCache, ask

    answered: list[Answered] = []
    cache = VisionCache()
    name = TextColumn("{task.description}", markup=False)  # a bundle may be called [x]
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=own_stderr())
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as progress:
        for subject in subjects:
            task = progress.add_task(subject.key, total=len(data.examples))
            answered.append(
                ask(
                    subject,
                    data,
                    folder,
                    max_new_tokens=arguments.max_new_tokens,
                    cache=cache,
                    overwrite=arguments.overwrite,
                    on_answer=lambda done, task=task: progress.update(task, completed=done),  # type: ignore[misc]
                )
            )
    return answered


def line(row: "Row") -> str:
    """One row for a terminal."""
    from vlmp.evaluation.report import listed  # numpy is there by then

    kinds = ", ".join(f"{kind} {value:.1%}" for kind, value in row.by_type.items())
    return (
        f"{row.model} {row.pruner}, {listed(row.kept)} of {row.visual_tokens} tokens: {row.accuracy:.1%} "
        f"({row.low:.1%} to {row.high:.1%}, n = {row.n}) - {kinds}"
    )


def _check(arguments: Namespace) -> None:
    """What argparse does not, before anything is read."""
    if bool(arguments.model) == bool(arguments.bundle):
        raise UserError("give --model NAME or --bundle DIR, one of the two")
    for name in ("threads", "max_new_tokens", "random_seeds"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be at least 1")
    if arguments.bundle:
        fixed = ("pruner", "keep", "prune_layer", "schedule", "image_size", "checkpoint")
        given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(arguments, name) is not None]
        if given:
            raise UserError(f"{given[0]}: a bundle's own is inside it; it goes with --model")
    if arguments.model:
        _check_model(arguments)
    if is_url(arguments.dataset) or is_url(arguments.dataset.partition(":")[2]):
        raise UserError(f"--dataset {arguments.dataset} is a URL: download it first, and name what is on this machine")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output {arguments.output} is not a folder")
    if find_spec("matplotlib") is None:
        raise UserError("the plot needs matplotlib: pip install 'vlmp[eval]'")


def _check_model(arguments: Namespace) -> None:
    """What can be told of --model and the settings before torch is loaded."""
    pruners = _pruners(arguments)
    for option in ("keep", "prune_layer"):
        if not pruners and getattr(arguments, option) is not None:
            raise UserError(f"--{option.replace('_', '-')}: --schedule says that itself, it goes with --pruner")
    for name in pruners:
        _ = replace(_config(arguments), pruner=name).schedule  # which checks it
    for text in arguments.schedule or ():
        named_schedule(text)
    if arguments.keep and pruners == ["none"]:
        raise UserError(
            f"--keep {arguments.keep[0]:g}: --pruner none keeps all visual tokens, leave one of the two out"
        )
    for keep in arguments.keep or ():
        replace(_config(arguments), pruner="vlm-pruner", keep=keep)
    _config(arguments)
    if arguments.checkpoint is not None:
        check_folder("checkpoint folder", arguments.checkpoint)
    model_entry(arguments.model, arguments.checkpoint)  # last: it may have to ask the hub


def _pruners(arguments: Namespace) -> list[str]:
    """The methods of the short form; with schedules only those that are asked for."""
    return list(dict.fromkeys(arguments.pruner or (() if arguments.schedule else DEFAULT_PRUNERS)))


def _bundles(arguments: Namespace, data: DataSet) -> "list[Subject]":
    """The bundles, in which every question and answer fits."""
    from vlmp.evaluation.subjects import bundle_subjects, check_bundles

    subjects = bundle_subjects(arguments.bundle, arguments.threads)
    check_bundles(arguments.bundle, data, arguments.max_new_tokens)
    return subjects


def _eager(arguments: Namespace, data: DataSet) -> "list[Subject]":
    """The grid of pruners and kept shares of --model."""
    import torch
    from vlmp.evaluation.subjects import eager_subjects, fit_text

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keeps = list(dict.fromkeys(arguments.keep or DEFAULT_KEEPS))
    schedules = {joined(stages): stages for stages in map(named_schedule, arguments.schedule or ())}
    config = fit_text(_config(arguments), data)
    return eager_subjects(config, _pruners(arguments), keeps, arguments.random_seeds, list(schedules.values()))


def _config(arguments: Namespace) -> ExportConfig:
    """What all settings have in common."""
    return ExportConfig(
        model=arguments.model,
        targets=(),
        output=arguments.output,
        checkpoint=arguments.checkpoint,
        pruner="none",
        prune_layer=arguments.prune_layer,
        image_size=parse_image_size(arguments.image_size) if arguments.image_size else None,
        text_len=SHORTEST_TEXT,
        max_new_tokens=arguments.max_new_tokens,
    )
