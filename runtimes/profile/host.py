"""Bundles measured on this machine: loads in processes of their own, then timed runs in turns."""

import base64
import io
from pathlib import Path
from typing import Literal

from PIL.Image import Image
from rich.progress import Progress
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import size_bytes
from vlmp.runtimes.draw import draw_kept, shown
from vlmp.runtimes.image import open_image
from vlmp.runtimes.profile.child import Request, Started, ask
from vlmp.runtimes.profile.machine import busy_warning, describe_machine
from vlmp.runtimes.profile.measure import measure, to_phase, to_phases
from vlmp.runtimes.profile.roofline import measure_peaks, with_rooflines
from vlmp.runtimes.profile.schema import BundleProfile, Phase, PhaseName
from vlmp.runtimes.profile.task import Measured, Task, bundle_facts
from vlmp.runtimes.profile.trace import Traced, part_shares
from vlmp.runtimes.prompt import first_ids, load_tokenizer
from vlmp.runtimes.session import Session, load
from vlmp.runtimes.traits import traits_of
from vlmp.runtimes.turn import Timings, first_turn

COLD_ENOUGH = 0.05
"""Share of a bundle's pages that may have stayed in the page cache for a load to be called cold."""


def profile_here(task: Task, progress: Progress) -> Measured:
    """Measure everything. Raises UserError."""
    for folder, manifest in zip(task.folders, task.manifests, strict=True):
        if traits_of(manifest.target).interpreted:
            raise UserError(
                f"{folder}: {manifest.target} is interpreted on this machine, which says nothing of its times: "
                "profile it where its own runtime runs it"
            )
    photo = open_image(task.photo)
    machine = describe_machine([])
    busy = busy_warning(machine)
    if busy:
        progress.console.print(f"vlmp-profile: {busy}", markup=False, soft_wrap=True)
    peaks = measure_peaks(task.threads)
    starts = _starts(task, progress)
    traces = _traces(task, progress)
    sessions = [load(folder, check_hashes=False, threads=task.threads) for folder in task.folders]
    ids = [
        first_ids(load_tokenizer(folder, session.manifest), session.manifest.prompt, task.prompt)
        for folder, session in zip(task.folders, sessions, strict=True)
    ]
    bar = progress.add_task("timed runs", total=len(sessions) * (1 + task.runs))
    timings = measure(
        sessions,
        ids,
        task.photo,
        runs=task.runs,
        decode_tokens=task.decode_tokens,
        on_run=lambda: progress.advance(bar),
    )
    bundles = [
        _bundle(name, folder, session, started, traced, timed, _picture(session, photo, given))
        for name, folder, session, started, traced, timed, given in zip(
            task.names, task.folders, sessions, starts, traces, timings, ids, strict=True
        )
    ]
    runtimes = describe_machine([session.runtime for session in sessions]).runtimes
    return Measured(
        machine=machine.model_copy(update={"runtimes": runtimes}),
        bundles=with_rooflines(bundles, task.manifests, peaks),
        runs=task.runs,
        peaks=peaks,
        warnings=[busy] if busy else [],
    )


def _starts(task: Task, progress: Progress) -> list[list[list[Started]]]:
    """Cold and warm starts of each bundle, in turns; the first warm one fills the cache and does not count.

    After a start that was not known to be cold there are no further ones.
    """
    starts: list[list[list[Started]]] = [[[], []] for _ in task.folders]
    bar = progress.add_task("loads", total=len(task.folders) * (1 + 2 * task.runs))
    for run in range(1 + task.runs):
        for folder, (cold, warm) in zip(task.folders, starts, strict=True):
            if run:
                if all(start.cached_share is not None for start in cold):
                    cold.append(ask(_request("cold", folder, task), Started))
                progress.advance(bar)
            loaded = ask(_request("warm", folder, task), Started)
            if run:
                warm.append(loaded)
            progress.advance(bar)
    return starts


def _traces(task: Task, progress: Progress) -> list[Traced]:
    bar = progress.add_task("operators", total=len(task.folders))
    traces = []
    for folder in task.folders:
        traces.append(ask(_request("trace", folder, task), Traced))
        progress.advance(bar)
    return traces


def _request(kind: Literal["cold", "warm", "trace"], folder: Path, task: Task) -> Request:
    return Request(
        task=kind,
        bundle=folder,
        photo=task.photo,
        prompt=task.prompt,
        threads=task.threads,
        runs=task.runs,
        debug=task.debug,
    )


def _bundle(
    name: str, folder: Path, session: Session, starts: list[list[Started]], traced: Traced, timings: list[Timings],
    picture: str,
) -> BundleProfile:  # fmt: skip
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
        name=name,
        manifest=bundle_facts(manifest),
        runtime=session.runtime,
        size_mib=size_bytes(folder) / 2**20,
        phases=phases | to_phases(timings, part_shares(traced.operators)),
        prefill_split=traced.splits["prefill"],
        vision_split=traced.splits.get("vision", ""),
        cold_cached_share=cached,
        memory=warm[0].memory,
        operators=traced.operators,
        operators_ms=traced.operators_ms,
        kept_picture=picture,
    )


def _picture(session: Session, photo: Image, ids: list[int]) -> str:
    """The kept tokens over the photo, a PNG in base64."""
    filled = first_turn(session, photo, ids, 1).prefilled
    assert filled is not None
    packed = io.BytesIO()
    shape = session.manifest.shape
    drawn = draw_kept(photo, shape.image, *shown(shape, filled.order, filled.stages))
    drawn.save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()
