"""`vlmp-profile`: bundles compared phase by phase, on this machine or on a phone."""

import shlex
import sys
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmp.runtimes.bundle.errors import UserError, check_text
from vlmp.runtimes.bundle.writing import exclusive
from vlmp.runtimes.console.command import OneLineParser, add_debug, check_file, local_folder, local_path, run_command
from vlmp.runtimes.console.signals import terminable
from vlmp.runtimes.console.streams import own_stderr
from vlmp.runtimes.traits import traits_of

if TYPE_CHECKING:
    from rich.progress import Progress
    from vlmp.runtimes.bundle.manifest import Manifest
    from vlmp.runtimes.profile.schema import Profile
    from vlmp.runtimes.profile.task import Measured, Task

PROGRAM = "vlmp-profile"
LEAST_RUNS = 5
PHOTO = Path(__file__).parents[1] / "assets" / "photo.jpg"
PROMPT = "What is in this picture?"
COOL_DOWN_S = 10.0
MOST_COOL_DOWN_S = 3600
PHONE_OPTIONS = ("runner", "cool_down", "keep_files")
"""Of no meaning without `--device adb`."""
TURN_OPTIONS = ("image", "prompt", "runs", "decode_tokens", "threads")
"""Of no meaning with a device of `APPS`, on which nothing is measured from here."""
APPS = ("ios", "android", "browser")
"""Devices on which an app measures itself and writes a file."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `vlmp-profile`."""
    command = shlex.join([PROGRAM, *(sys.argv[1:] if argv is None else argv)])
    run_command(parser(), lambda arguments: _profile(arguments, command), argv)


class PhoneOption(Action):
    """Collects phones of a command line; `list` prints them and exits."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, metavar="PHONE")

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None) -> None:
        """As argparse calls it."""
        if values == "list":
            from vlmp.runtimes.profile.phones import listing

            print(listing())
            parser.exit()
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), values])


def parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(PROGRAM, description="Where the time of a bundle goes, and how others compare with it.")
    parser.add_argument("bundle", type=local_folder, nargs="?")
    parser.add_argument(
        "--compare", type=local_folder, action="append", metavar="BUNDLE", help="another bundle; repeatable"
    )
    parser.add_argument("--different", action="store_true", help="compare bundles that differ in more than pruning")
    parser.add_argument(
        "--image", type=local_path, default=PHOTO, metavar="FILE", help="photo (one that comes with vlmp)"
    )
    parser.add_argument("--prompt", default=PROMPT, metavar="TEXT", help=f"question ({PROMPT})")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help=f"timed runs, at least {LEAST_RUNS} (5)")
    parser.add_argument("--decode-tokens", type=int, default=16, metavar="N", help="tokens decoded in each run (16)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of the runtime (its own choice); not for Core ML"
    )
    parser.add_argument("--estimate", action=PhoneOption, help="guess a phone too; `list` names them; repeatable")
    parser.add_argument("--json", type=local_path, metavar="FILE", help="write all figures, see docs/profile.md")
    parser.add_argument("--html", type=local_path, metavar="FILE", help="write a report to look at")
    phone = parser.add_argument_group("phones, see docs/profile-on-a-phone.md")
    phone.add_argument(
        "--device",
        metavar="DEVICE",
        help=f"adb or adb:SERIAL: measure on an Android phone; {', '.join(APPS)}: read what an app measured there",
    )
    phone.add_argument(
        "--runner", type=local_path, metavar="FILE", help="the native runner for adb (the one built here)"
    )
    phone.add_argument(
        "--cool-down", type=float, metavar="SECONDS", help=f"rest before each run with adb ({COOL_DOWN_S:g}); 0 is none"
    )
    phone.add_argument("--keep-files", action="store_true", help="leave them on the phone: the next push is short")
    phone.add_argument("--import", type=local_path, action="append", dest="imported", metavar="FILE",
                       help="what an app's benchmark wrote on that device; repeatable")  # fmt: skip
    add_debug(parser)
    return parser


def _profile(arguments: Namespace, command: str) -> None:
    _check(arguments)
    check_text("the command line", command)
    with ExitStack() as locks:
        for name in ("json", "html"):
            if path := getattr(arguments, name):
                locks.enter_context(exclusive(path, f"--{name} {path}"))
        _report(arguments, command)


def _report(arguments: Namespace, command: str) -> None:
    """Measure or read, then show and write."""
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from vlmp.runtimes.profile.compare import differences, explain
    from vlmp.runtimes.profile.imported import read_imported
    from vlmp.runtimes.profile.phones import estimates
    from vlmp.runtimes.profile.schema import Profile

    if arguments.device in APPS:
        imported = read_imported(arguments.imported, arguments.device, different=arguments.different)
        _finish(imported.model_copy(update={"command": command}), arguments)
        return
    task = _task(arguments)
    guesses = estimates(arguments.estimate or [], task.names, task.manifests)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(file=own_stderr()), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        measured = _measure(task, arguments, progress)
    profile = Profile(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        machine=measured.machine,
        settings=task.settings(measured.runs),
        bundles=measured.bundles,
        explanation=[
            explain(measured.bundles[0], other, differences(task.manifests[0], manifest))
            for other, manifest in zip(measured.bundles[1:], task.manifests[1:], strict=True)
        ],
        warnings=list(measured.warnings),
        conditions=list(measured.conditions),
        peaks=measured.peaks,
        estimates=guesses,
    )
    _finish(profile, arguments)
    if measured.fault:
        done = f"what was measured before, {measured.runs} of {arguments.runs} rounds, is "
        raise UserError(f"{measured.fault}; {done}{f'in {arguments.json}' if arguments.json else 'above'}")


def _measure(task: "Task", arguments: Namespace, progress: "Progress") -> "Measured":
    """Here, or through adb."""
    if arguments.device is None:
        from vlmp.runtimes.profile.host import profile_here

        with terminable():  # whatever ends this ends the processes that it has started
            return profile_here(task, progress)

    from vlmp.runtimes.profile.adb.phone import Options, profile_phone

    options = Options(
        serial=arguments.device.partition(":")[2] or None,
        runner=arguments.runner,
        cool_down_s=COOL_DOWN_S if arguments.cool_down is None else arguments.cool_down,
        keep_files=arguments.keep_files,
    )
    return profile_phone(task, options, progress)


def _finish(profile: "Profile", arguments: Namespace) -> None:
    """Write what was asked for, and show it.

    In this order, as a terminal may be gone by now or a pipe be closed; and what cannot be written is shown.
    """
    from vlmp.runtimes.profile.schema import write_profile
    from vlmp.runtimes.profile.show import show

    with ExitStack() as ending:  # calls all of them in turn from the last one on, whatever one raises
        ending.callback(show, profile)
        if arguments.html:
            from vlmp.runtimes.profile.report import write_html

            ending.callback(write_html, profile, arguments.html)
        if arguments.json:
            ending.callback(write_profile, profile, arguments.json)
    for what, path in (("figures", arguments.json), ("report", arguments.html)):
        if path:
            print(f"{what} in {path}")


def _task(arguments: Namespace) -> "Task":
    """Read what is to be measured. Raises UserError on bundles that cannot be compared, or not with these options."""
    from vlmp.runtimes.bundle.folder import read_manifest
    from vlmp.runtimes.image import open_image
    from vlmp.runtimes.profile.compare import check_alike, differences
    from vlmp.runtimes.profile.task import Task, for_prompt

    folders = [arguments.bundle, *(arguments.compare or [])]
    size = open_image(arguments.image).size
    manifests = [read_manifest(folder) for folder in folders]
    if not arguments.different:
        unlike = [differences(manifests[0], manifest) for manifest in manifests[1:]]
        check_alike([str(folder) for folder in folders], unlike)
    for folder, manifest in zip(folders, manifests, strict=True):
        _check_bundle(folder, manifest, arguments)
    return Task(
        folders=folders,
        manifests=[
            for_prompt(folder, manifest, arguments.prompt) for folder, manifest in zip(folders, manifests, strict=True)
        ],
        photo=arguments.image,
        photo_size=size,
        prompt=arguments.prompt,
        runs=arguments.runs,
        decode_tokens=arguments.decode_tokens,
        threads=arguments.threads,
        debug=arguments.debug,
    )


def _check_bundle(folder: Path, manifest: "Manifest", arguments: Namespace) -> None:
    """Whether it does what the options ask for."""
    room = manifest.prompt.max_new_tokens
    if arguments.decode_tokens > room:
        raise UserError(f"--decode-tokens {arguments.decode_tokens}: {folder} has room for {room}")
    if arguments.threads is not None and traits_of(manifest.target).chooses_threads:
        raise UserError(
            f"--threads {arguments.threads}: {folder} is for {manifest.target}, which chooses its threads itself"
        )


def _check(arguments: Namespace) -> None:
    """What argparse does not, before anything is read."""
    _check_device(arguments)
    least = {"runs": LEAST_RUNS, "decode_tokens": 1, "threads": 1, "cool_down": 0}
    for name, limit in least.items():
        value = getattr(arguments, name)
        if value is not None and not limit <= value:
            raise UserError(f"{option(name)} {value}: must be at least {limit}")
    if arguments.cool_down is not None and arguments.cool_down > MOST_COOL_DOWN_S:
        raise UserError(f"--cool-down {arguments.cool_down}: must be at most {MOST_COOL_DOWN_S} seconds")
    check_text("--prompt", arguments.prompt)
    outputs: dict[str, Path] = {name: path for name in ("json", "html") if (path := getattr(arguments, name))}
    for name, path in outputs.items():
        try:
            _check_output(f"--{name} {path}", path)
        except OSError as error:
            raise UserError(f"--{name} {path} cannot be written: {error.strerror}") from None
    if len({path.resolve() for path in outputs.values()}) < len(outputs):
        raise UserError(f"--json and --html name the same file {arguments.json}")
    check_file("image", arguments.image)


def _check_output(what: str, path: Path) -> None:
    """Raises UserError or OSError when a file could not be written there in the end."""
    if path.is_dir():
        raise UserError(f"{what} is a folder: name a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{what} is no ordinary file, which could be replaced")
    if not path.parent.is_dir():
        raise UserError(f"{what}: there is no folder {path.parent}")
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part"):
        pass  # as it will be written: the system alone knows all that may hinder it


def _check_device(arguments: Namespace) -> None:
    """Which options belong together."""
    kind = None if arguments.device is None else arguments.device.partition(":")[0]
    if kind not in (None, "adb", *APPS) or (kind in APPS and arguments.device != kind):
        raise UserError(f"--device {arguments.device}: {', '.join(('adb', 'adb:SERIAL', *APPS[:-1]))} or {APPS[-1]}")
    defaults = parser()
    given = {name for name, value in vars(arguments).items() if value != defaults.get_default(name)}
    if kind != "adb" and (named := first_of(PHONE_OPTIONS, given)):
        raise UserError(f"{option(named)} is for --device adb")
    if kind in APPS:
        if named := first_of(TURN_OPTIONS, given):
            raise UserError(f"--device {kind} measures nothing: {option(named)} is of no use with it")
        if not arguments.imported:
            raise UserError(f"--device {kind} reads what an app's benchmark wrote: name it by --import FILE")
        if arguments.bundle or arguments.compare or arguments.estimate:
            raise UserError(
                f"--device {kind} takes no bundle and no estimate: all that it shows is in the imported file"
            )
    elif arguments.imported:
        raise UserError(f"--import is for --device {', '.join(APPS[:-1])} or {APPS[-1]}")
    elif arguments.bundle is None:
        raise UserError("the following arguments are required: bundle")


def first_of(names: Sequence[str], given: Set[str]) -> str | None:
    """The first name that is among them."""
    return next((name for name in names if name in given), None)


def option(name: str) -> str:
    """As it is written on a command line."""
    return f"--{name.replace('_', '-')}"
