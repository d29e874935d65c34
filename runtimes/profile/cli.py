"""`vlmp-profile`: bundles compared phase by phase on this machine."""

import base64
import io
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Literal

from PIL.Image import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from vlmp.export.bundle import Manifest, read_manifest, size_bytes
from vlmp.export.errors import OneLineParser, UserError, check_text, exit_with_one_line, quiet_libraries

from ..draw import draw_kept
from ..generate import Timings, prompt_ids
from ..image import open_image, to_pixels
from ..session import Session, load
from .child import Request, Started, ask
from .compare import check_alike, differences, explain
from .machine import busy_warning, describe_machine
from .measure import measure, to_phase, to_phases
from .phones import PhoneOption, estimates
from .roofline import measure_peaks, with_rooflines
from .schema import REGIONS, BundleFacts, BundleProfile, Phase, PhaseName, Profile, Settings, write_profile
from .table import estimate_table, operator_table, phase_table, roofline_table
from .trace import Traced, region_shares

PROGRAM = "vlmp-profile"
LEAST_RUNS = 5
PHOTO = Path(__file__).parents[1] / "assets" / "photo.jpg"
PROMPT = "What is in this picture?"
COLD_ENOUGH = 0.05
"""Share of a bundle's pages that may have stayed in the page cache for a load to be called cold."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `vlmp-profile`."""
    arguments = parser().parse_args(argv)
    command = shlex.join([PROGRAM, *(sys.argv[1:] if argv is None else argv)])
    exit_with_one_line(PROGRAM, lambda: _profile(arguments, command))


def parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(PROGRAM, description="Where the time of a bundle goes, and how others compare with it.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--compare", type=Path, action="append", metavar="BUNDLE", help="another bundle; repeatable")
    parser.add_argument("--different", action="store_true", help="compare bundles that differ in more than pruning")
    parser.add_argument("--image", type=Path, default=PHOTO, metavar="FILE", help="photo (one that comes with vlmp)")
    parser.add_argument("--prompt", default=PROMPT, metavar="TEXT", help=f"question ({PROMPT})")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help=f"timed runs, at least {LEAST_RUNS} (5)")
    parser.add_argument("--decode-tokens", type=int, default=16, metavar="N", help="tokens decoded in each run (16)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the runtime (its own choice)")
    parser.add_argument("--estimate", action=PhoneOption, help="guess a phone too; `list` names them; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, see docs/profile.md")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report to look at")
    return parser


def _profile(arguments: Namespace, command: str) -> None:
    quiet_libraries()
    _check(arguments)
    folders = [arguments.bundle, *(arguments.compare or [])]
    photo = open_image(arguments.image)
    manifests = [read_manifest(folder) for folder in folders]
    _check_bundles(folders, manifests, arguments)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    machine = describe_machine([])
    if warning := busy_warning(machine):
        print(f"{PROGRAM}: {warning}", file=sys.stderr)
    guesses = estimates(arguments.estimate or [], [folder.resolve().name for folder in folders], manifests)
    peaks = measure_peaks(arguments.threads)
    with Progress(*columns, console=console, transient=True) as progress:
        starts = _starts(folders, arguments, progress)
        traces = _traces(folders, arguments, progress)
        sessions = [load(folder, check_hashes=False, threads=arguments.threads) for folder in folders]
        task = progress.add_task("timed runs", total=len(folders) * (1 + arguments.runs))
        timings = measure(
            sessions,
            arguments.image,
            arguments.prompt,
            runs=arguments.runs,
            decode_tokens=arguments.decode_tokens,
            on_run=lambda: progress.advance(task),
        )
    bundles = [
        _bundle(folder, session, started, traced, timed, _picture(session, photo, arguments.prompt))
        for folder, session, started, traced, timed in zip(folders, sessions, starts, traces, timings, strict=True)
    ]
    runtimes = describe_machine([session.runtime for session in sessions]).runtimes
    profile = Profile(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        machine=machine.model_copy(update={"runtimes": runtimes}),
        settings=Settings(
            runs=arguments.runs,
            decode_tokens=arguments.decode_tokens,
            threads=arguments.threads,
            prompt=arguments.prompt,
            photo=arguments.image.name,
            photo_size=photo.size,
        ),
        bundles=with_rooflines(bundles, manifests, peaks),
        explanation=[
            explain(bundles[0], other, differences(manifests[0], manifest))
            for other, manifest in zip(bundles[1:], manifests[1:], strict=True)
        ],
        peaks=peaks,
        estimates=guesses,
    )
    _show(profile)
    if arguments.json:
        write_profile(profile, arguments.json)
        print(f"figures in {arguments.json}")
    if arguments.html:
        import_module("vlmp.runtimes.profile.report").write_html(profile, arguments.html)
        print(f"report in {arguments.html}")


def _check(arguments: Namespace) -> None:
    """What argparse does not, before anything is read."""
    least = {"runs": LEAST_RUNS, "decode_tokens": 1, "threads": 1}
    for name, limit in least.items():
        value = getattr(arguments, name)
        if value is not None and value < limit:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be at least {limit}")
    check_text("--prompt", arguments.prompt)
    for name in ("json", "html"):
        path: Path | None = getattr(arguments, name)
        if path is None:
            continue
        if path.is_dir():
            raise UserError(f"--{name} {path} is a folder: name a file")
        if not path.parent.is_dir():
            raise UserError(f"--{name} {path}: there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"--{name} {path}: the folder {path.parent} may not be written to")


def _check_bundles(folders: Sequence[Path], manifests: Sequence[Manifest], arguments: Namespace) -> None:
    if not arguments.different:
        check_alike([str(folder) for folder in folders], manifests)
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest.target == "coreml" and sys.platform != "darwin":
            raise UserError(f"{folder}: Core ML runs on a Mac only; times of our interpreter would say nothing")
        room = manifest.prompt.max_new_tokens
        if arguments.decode_tokens > room:
            raise UserError(f"--decode-tokens {arguments.decode_tokens}: {folder} has room for {room}")


def _starts(folders: Sequence[Path], arguments: Namespace, progress: Progress) -> list[list[list[Started]]]:
    """Cold and warm starts of each bundle, in turns; the first warm one fills the cache and does not count."""
    starts: list[list[list[Started]]] = [[[], []] for _ in folders]
    task = progress.add_task("loads", total=len(folders) * (1 + 2 * arguments.runs))
    for run in range(1 + arguments.runs):
        for folder, (cold, warm) in zip(folders, starts, strict=True):
            if run:
                cold.append(ask(_request("cold", folder, arguments), Started))
                progress.advance(task)
            loaded = ask(_request("warm", folder, arguments), Started)
            if run:
                warm.append(loaded)
            progress.advance(task)
    return starts


def _traces(folders: Sequence[Path], arguments: Namespace, progress: Progress) -> list[Traced]:
    task = progress.add_task("operators", total=len(folders))
    traces = []
    for folder in folders:
        traces.append(ask(_request("trace", folder, arguments), Traced))
        progress.advance(task)
    return traces


def _request(task: Literal["cold", "warm", "trace"], folder: Path, arguments: Namespace) -> Request:
    return Request(
        task=task,
        bundle=folder,
        photo=arguments.image,
        prompt=arguments.prompt,
        threads=arguments.threads,
        runs=arguments.runs,
    )


def _bundle(
    folder: Path, session: Session, starts: list[list[Started]], traced: Traced, timings: list[Timings], picture: str
) -> BundleProfile:
    """All that was measured of one bundle."""
    manifest, (cold, warm) = session.manifest, starts
    shares = [start.cached_share for start in cold if start.cached_share is not None]
    cached = max(shares) if len(shares) == len(cold) else None
    phases: dict[PhaseName, Phase] = {}
    if cached is not None and cached <= COLD_ENOUGH:
        phases["load_cold"] = to_phase([start.load_ms for start in cold])
        phases["first_token_cold"] = to_phase([start.first_token_ms for start in cold])
    phases["load_warm"] = to_phase([start.load_ms for start in warm])
    return BundleProfile(
        name=folder.resolve().name,
        manifest=_facts(manifest),
        runtime=session.runtime,
        size_mib=size_bytes(folder) / 2**20,
        phases=phases | to_phases(timings, region_shares(traced.operators, REGIONS)),
        prefill_split=traced.split,
        cold_cached_share=cached,
        memory=warm[0].memory,
        operators=traced.operators,
        operators_ms=traced.operators_ms,
        kept_picture=picture,
    )


def _facts(manifest: Manifest) -> BundleFacts:
    pruner = manifest.pruner
    return BundleFacts(
        model=manifest.model,
        checkpoint=manifest.checkpoint,
        target=manifest.target,
        precision=manifest.precision,
        quantization=manifest.quantization,
        image=(manifest.image.height, manifest.image.width),
        text_len=manifest.prompt.text_len,
        layers=manifest.kv.layers,
        pruner=pruner.name,
        prune_layer=pruner.layer,
        visual_tokens=pruner.visual_tokens,
        kept_tokens=pruner.kept_tokens,
    )


def _picture(session: Session, photo: Image, prompt: str) -> str:
    """The kept tokens over the photo, a PNG in base64."""
    ids = prompt_ids(session, session.manifest.prompt.first, prompt)
    order_S = session.prefill(ids, session.vision(to_pixels(photo, session.manifest.image))).order
    packed = io.BytesIO()
    draw_kept(photo, session.manifest.image, order_S).save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def _show(profile: Profile) -> None:
    """Tables, then sentences."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    machine = profile.machine
    console.print(
        f"{machine.cpu}, {machine.cores} cores ({' '.join(machine.flags) or 'features unknown'}), "
        f"{machine.memory_mib / 1024:.1f} GiB, {machine.os}, "
        + ", ".join(f"{name} {version}" for name, version in machine.runtimes.items()),
        markup=False,
    )
    console.print(phase_table(profile))
    if any(bundle.roofline for bundle in profile.bundles):
        console.print(roofline_table(profile))
    for bundle in profile.bundles:
        if bundle.operators:
            console.print(operator_table(bundle))
    for bundle in profile.bundles:
        console.print(f"{bundle.name}: prefill {bundle.prefill_split}.", markup=False)
        if "load_cold" not in bundle.phases:
            why = "this system drops no files from its cache"
            if bundle.cold_cached_share is not None:
                why = f"{bundle.cold_cached_share:.0%} of its files stayed in the page cache"
            console.print(f"{bundle.name}: no cold load, {why}.", markup=False)
    for line in profile.explanation:
        console.print(line, markup=False)
    if profile.estimates:
        console.print(estimate_table(profile.estimates))
