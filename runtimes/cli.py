"""`vlmp-run` and `vlmp-verify`: answer a question with a bundle, and check a bundle."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import OneLineParser, add_debug, check_file, local_folder, local_path, run_command
from vlmp.runtimes.console.signals import terminable
from vlmp.runtimes.console.streams import say

if TYPE_CHECKING:
    from vlmp.runtimes.chat import Answer
    from vlmp.runtimes.session import Session
    from vlmp.runtimes.turn import Timings


def run(argv: Sequence[str] | None = None) -> None:
    """Entry point of `vlmp-run`."""
    parser = OneLineParser("vlmp-run", description="Answer questions about an image with a bundle.")
    parser.add_argument("bundle", type=local_folder)
    parser.add_argument(
        "--image", type=local_path, required=True, metavar="FILE", help="photo, in any format of Pillow"
    )
    parser.add_argument(
        "--prompt", action="append", required=True, metavar="TEXT", help="question; repeat it for further turns"
    )
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer; the bundle's room otherwise")
    parser.add_argument(
        "--control-tokens",
        action="store_true",
        help="take control tokens in a prompt, as <|im_end|>, for what they are to the model; otherwise they are text",
    )
    parser.add_argument(
        "--show-kept", type=local_path, metavar="PNG", help="draw the kept visual tokens over the photo"
    )
    add_debug(parser)
    run_command(parser, _run, argv)


def verify(argv: Sequence[str] | None = None) -> None:
    """Entry point of `vlmp-verify`; exit code 1 when a limit is exceeded."""
    parser = OneLineParser("vlmp-verify", description="Compare a bundle on this machine with PyTorch's answers in it.")
    parser.add_argument("bundle", type=local_folder)
    add_debug(parser)
    run_command(parser, lambda arguments: _verify(arguments.bundle), argv)


def _run(arguments: Namespace) -> None:
    check_file("image", arguments.image)
    if arguments.max_new_tokens is not None and arguments.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {arguments.max_new_tokens}: must be at least 1")
    if not all(prompt.strip() for prompt in arguments.prompt):
        raise UserError("the prompt is empty: ask something about the image")

    from vlmp.runtimes.chat import Chat
    from vlmp.runtimes.draw import check_can_save, draw_kept, save, shown
    from vlmp.runtimes.image import open_image
    from vlmp.runtimes.session import load

    if arguments.show_kept:
        check_can_save(arguments.show_kept)
    image = open_image(arguments.image)  # before the bundle, which may take long to load
    chat = Chat(load(arguments.bundle))
    session = chat.session
    first, *others = arguments.prompt
    control: bool = arguments.control_tokens
    answer = chat.ask(image, first, arguments.max_new_tokens, on_text=_stream, control_tokens=control)
    _finish(session, answer)
    if arguments.show_kept:
        with terminable():
            shape = session.manifest.shape
            drawn = draw_kept(image, shape.image, *shown(shape, answer.order, answer.stages))
            save(drawn, arguments.show_kept)
        say(f"kept tokens drawn in {arguments.show_kept}")
    for prompt in others:
        answer = chat.reply(prompt, arguments.max_new_tokens, on_text=_stream, control_tokens=control)
        _finish(session, answer)


def _verify(bundle: Path) -> None:
    from vlmp.runtimes.prompt import load_tokenizer
    from vlmp.runtimes.session import load
    from vlmp.runtimes.verify import describe, verify_bundle

    session = load(bundle)
    load_tokenizer(bundle, session.manifest)  # which nothing below reads, but any app
    parity = verify_bundle(bundle, session)
    print(describe(session.manifest, parity))
    if parity.status != "passed":
        raise SystemExit(1)


def _stream(piece: str) -> None:
    print(piece, end="", flush=True)


def _finish(session: "Session", answer: "Answer") -> None:
    print(flush=True)
    if len(answer.kept):
        shape = session.manifest.shape
        kept = ", ".join(str(len(each)) for each in answer.stages)
        say(f"kept {kept} of {shape.image.visual_tokens} visual tokens ({shape.pruner})")
    say(timing_line(answer.timings))


def timing_line(timings: "Timings") -> str:
    """The phases in milliseconds, and the decode rate."""
    return (
        f"load {timings.load_ms:.0f} ms, preprocess {timings.preprocess_ms:.0f} ms, vision {timings.vision_ms:.0f} ms, "
        f"prefill {timings.prefill_ms:.0f} ms, decode {timings.decode_ms:.0f} ms "
        f"({timings.decoded_tokens} tokens, {timings.decode_tok_s:.1f} tok/s)"
    )
