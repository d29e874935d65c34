"""What Optimum's users write, said in our options: `optimum-cli export vlmp --model ID --task TASK OUTPUT`."""

from argparse import ArgumentParser, Namespace

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import local_path
from vlmp.runtimes.console.streams import say

TASK = "image-text-to-text"
DEFAULT_TARGET = "onnx"
"""Optimum's users name none."""
DTYPES = {"fp32": "float32", "fp16": "float16", "float32": "float32", "float16": "float16"}


def add_optimum_arguments(parser: ArgumentParser) -> None:
    """The options of Optimum's own exports that make sense here, beside those of `vlmp-export`."""
    group = parser.add_argument_group("as in other exports of Optimum")
    group.add_argument(
        "output_dir", type=local_path, nargs="?", metavar="OUTPUT", help="the same as --output; --target is onnx then"
    )
    group.add_argument("--task", default="auto", metavar="TASK", help=f"{TASK}, the only one")
    group.add_argument("--dtype", choices=DTYPES, help="the same as --precision")
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu, the only one")
    group.add_argument(
        "--trust-remote-code", action="store_true", help="of no effect: code of a checkpoint is never run"
    )


def as_ours(arguments: Namespace) -> Namespace:
    """The same as options of `vlmp-export`. Raises UserError on what is said twice, or cannot be done."""
    if arguments.task not in ("auto", TASK):
        raise UserError(f"--task {arguments.task}: the only task is {TASK}")
    if arguments.device != "cpu":
        raise UserError(f"--device {arguments.device}: an export computes on the cpu")
    if arguments.output_dir and arguments.output:
        raise UserError(f"--output {arguments.output} and {arguments.output_dir}: give one of the two")
    if arguments.dtype and arguments.precision:
        raise UserError(f"--dtype {arguments.dtype} and --precision {arguments.precision}: give one of the two")
    if arguments.trust_remote_code:
        say("note: --trust-remote-code has no effect: code of a checkpoint is never run")
    return Namespace(
        **{
            **vars(arguments),
            "output": arguments.output or arguments.output_dir,
            "precision": DTYPES[arguments.dtype] if arguments.dtype else arguments.precision,
            "target": arguments.target or [DEFAULT_TARGET],
        }
    )
