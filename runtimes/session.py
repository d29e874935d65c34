"""A bundle in memory: the four methods, the KV caches, and the same bookkeeping whatever the runtime. Tensors only.

Most graphs are pure functions: a step reads the caches and returns the new rows, which are stored here. So a runtime
only has to run a method on arrays. Where graphs update the caches in place, its session binds their buffers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from threading import RLock
from time import perf_counter
from types import MappingProxyType
from typing import ClassVar, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.console.streams import is_url
from vlmp.runtimes.traits import Traits, traits_of

Array = NDArray[np.generic]
Given = ParamSpec("Given")
Made = TypeVar("Made")

RUNTIMES: dict[str, str] = {
    "onnx": "vlmp.runtimes.onnx:OnnxSession",
    "executorch": "vlmp.runtimes.executorch:ExecuTorchSession",
    "coreml": "vlmp.runtimes.coreml.session:CoreMLSession",
}
"""Target -> "module:class", made with (folder, manifest, threads), imported when a bundle is loaded."""


class Seen(NamedTuple):
    """What vision tells of a picture.

    visual [N, D], fewer where the vision tower has dropped some. Of a bundle with a stage in it places int32 [S], which
    visual tokens went through all of it; bias [S] if the language model is told what each counts for.
    """

    visual: Array
    places: Array | None = None
    bias: Array | None = None


class Prefilled(NamedTuple):
    """What prefill tells beside filling the caches. logits [V], kept, order int32 [S], filled int.

    stages: int32, kept of each stage; the last is `kept`.
    """

    logits: Array
    kept: Array
    order: Array
    filled: int
    stages: list[Array]


class Progress(NamedTuple):
    """How far a conversation is. One value, which is replaced as a whole: no interruption leaves half of a change.

    number: of the conversation, which tells it from an earlier one. past: text tokens after the image that the caches
    hold; rows after them are never read. states: what layers without keys have made of these tokens, by the name of the
    input; those that are not there are zeros.
    """

    number: int = 0
    past: int = 0
    states: Mapping[str, Array] = MappingProxyType({})


class Stopped(Exception):
    """A call of a turn that was asked to stop. What the caches hold is as it was before the call."""


class Stop:
    """By which any thread may end one turn's calls at any time. It takes no lock, and does nothing after the turn."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """Let the call that runs raise Stopped, at once where the runtime can end it, and all later ones."""
        self.asked = True


def alone(
    method: "Callable[Concatenate[Session, Given], Made]",
) -> "Callable[Concatenate[Session, Given], Made]":
    """A call that has the session to itself until it is over: other threads wait, and a callback may not make it."""

    @wraps(method)
    def call(session: "Session", *given: Given.args, **named: Given.kwargs) -> Made:
        with session._held():
            return method(session, *given, **named)

    return call


class Session(ABC):
    """One loaded bundle and the caches of one conversation. It runs one call at a time; other threads wait.

    folder: the bundle's; None where there is none.
    """

    stop_kind: ClassVar[type[Stop]] = Stop
    """How a turn is stopped: another kind where the runtime can end a call."""

    def __init__(self, manifest: Manifest, folder: Path | None = None) -> None:
        self.manifest = manifest
        self.folder = folder
        self.load_ms = 0.0
        self.progress = Progress()
        self._stop: Stop | None = None  # of the turn that runs
        self._lock = RLock()
        self._calling_back = False
        self._caches, self._no_states = self._empty("key_", "value_", "bias_"), self._empty("state_")

    @property
    def traits(self) -> Traits:
        """Of what runs the graphs."""
        return traits_of(self.manifest.target)

    @abstractmethod
    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one method on named arrays of the manifest's shapes and dtypes. It may raise Stopped, if it was."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """Name and version of what runs the graphs."""

    @alone
    def see(self, pixels: Array) -> Seen:
        """pixels [1, 3, height, width] RGB 0..255 -> what `prefill` takes of the picture."""
        outputs = self._run("vision", {"image": pixels.astype(self._dtype("vision", "image"), copy=False)})
        return Seen(outputs["visual"], outputs.get("places"), outputs.get("bias_0"))

    def vision(self, pixels: Array) -> Array:
        """pixels [1, 3, height, width] RGB 0..255 -> visual tokens [N, D]."""
        return self.see(pixels).visual

    @alone
    def prefill(self, ids: list[int], seen: Array | Seen) -> Prefilled:
        """Fill the caches with prefix, image and the first text.

        seen: visual tokens alone will do where no stage is in the vision tower. Raises UserError when `ids` exceed the
        bucket, or there is such a stage and it is not told what that has kept.
        """
        visual, places, bias = seen if isinstance(seen, Seen) else Seen(seen)
        if places is None and self.manifest.shape.tower is not None:
            raise UserError(
                "this bundle prunes in the vision tower: prefill takes all that see() tells, with the places"
            )
        inputs = self._bucket(ids)
        self.reset()
        given = {"visual": visual} if places is None else {"visual": visual, "places": places}
        if bias is not None:
            self._caches["bias_cache_0"][:] = bias
        outputs = self._call("prefill", {**inputs, **given}, len(ids))
        earlier = [
            places if stage.place == "vision" and places is not None else outputs[f"kept_{number}"]
            for number, stage in enumerate(self.manifest.shape.stages[:-1])
        ]
        stages = [*earlier, outputs["kept"]]
        return Prefilled(outputs["logits"], outputs["kept"], outputs["order"], int(outputs["filled"][0]), stages)

    @alone
    def decode(self, token: int) -> Array:
        """Append one token. Returns logits [V] for the next one. Raises UserError when the caches are full."""
        self.check_room(1)
        ids = np.array([[token]], dtype=np.int32)
        return self._call("decode", {"ids": ids, "text_len": np.ones(1, np.int32)}, 1)["logits"]

    @alone
    def extend(self, ids: list[int]) -> Array:
        """Append up to T tokens at once, for the next turn. Returns logits [V]. Raises UserError when full."""
        inputs = self._bucket(ids)
        self.check_room(len(ids))
        return self._call("extend", inputs, len(ids))["logits"]

    @alone
    def reset(self) -> None:
        """Forget the conversation. Old rows stay in the caches, masked until they are overwritten."""
        self.progress = Progress(self.progress.number + 1)

    @alone
    def rewind(self, before: Progress) -> None:
        """Go back to where this conversation was. Raises UserError when it never was there."""
        if before.number != self.progress.number or before.past > self.past:
            raise UserError(f"cannot go back to {before.past} text tokens: the caches hold {self.past}")
        self.progress = before

    @contextmanager
    def turn(self) -> Iterator[Stop]:
        """Have the session to oneself for several calls. What it yields ends them early, from any thread."""
        with self._held():
            before, self._stop = self._stop, self.stop_kind()
            try:
                yield self._stop
            finally:
                self._stop = before

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other threads waiting. Raises UserError in a callback: half of the turn that it is in is not done."""
        with self._lock:
            if self._calling_back:
                raise UserError("on_text called what is answering: wait for the answer; only stop() may be called")
            yield

    @contextmanager
    def calling_back(self) -> Iterator[None]:
        """While somebody's callback runs, which may not call the session."""
        try:
            self._calling_back = True
            yield
        finally:
            self._calling_back = False

    @property
    def past(self) -> int:
        """Text tokens after the image that the caches hold."""
        return self.progress.past

    @property
    def room(self) -> int:
        """Text tokens that still fit."""
        return self.manifest.prompt.text_len + self.manifest.prompt.max_new_tokens - self.past

    def check_room(self, tokens: int) -> None:
        """Raises UserError unless so many text tokens can be appended."""
        if self.past == 0:
            raise UserError("no image yet: prefill comes before decode and extend")
        if tokens > self.room:
            raise UserError(f"the conversation is full: {tokens} more tokens, room for {self.room}; start a new one")

    def _run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`run`, unless the turn was asked to stop by the time it is over."""
        self._check_stop()
        outputs = self.run(method, inputs)
        self._check_stop()
        return outputs

    def _check_stop(self) -> None:
        if self._stop is not None and self._stop.asked:
            raise Stopped

    def _call(self, method: MethodName, inputs: dict[str, Array], tokens: int) -> dict[str, Array]:
        """Run a method that puts `tokens` text tokens into the caches, and keep its rows where the host has to."""
        past = np.array([self.past], dtype=np.int32)
        outputs = self._run(method, {**inputs, "past": past, **self._caches, **self._no_states, **self.progress.states})
        kv = self.manifest.shape.kv
        if kv.update == "rows":
            for layer, cache in kv.keyed.items():
                end = cache.base + self.past + tokens
                first = 0 if method == "prefill" else cache.base + self.past
                for kind in ("key", "value"):
                    rows = outputs[f"{kind}_{layer}"]
                    self._caches[f"{kind}_cache_{layer}"][:, first:end] = rows[:, : end - first]
            if method == "prefill":
                for stage in self.manifest.shape.weighed:
                    if f"bias_{stage}" in outputs:  # that of the vision tower is there already
                        self._caches[f"bias_cache_{stage}"][:] = outputs[f"bias_{stage}"]
        # Copies, since a runtime may hand out its own memory; and new ones, so that an earlier progress keeps its own.
        states = {f"state_cache_{layer}": np.array(outputs[f"state_{layer}"]) for layer in kv.states}
        self.progress = self.progress._replace(past=self.past + tokens, states=states)
        return outputs

    def _bucket(self, ids: list[int]) -> dict[str, Array]:
        bucket = self.manifest.prompt.text_len
        if not 0 < len(ids) <= bucket:
            raise UserError(f"{len(ids)} text tokens: this bundle takes 1 to {bucket} at once")
        if max(ids) >= self.manifest.vocab_size:
            raise UserError(f"token {max(ids)} is not in the model's vocabulary")
        padded = ids + [self.manifest.prompt.pad_id] * (bucket - len(ids))
        return {"ids": np.array([padded], dtype=np.int32), "text_len": np.array([len(ids)], dtype=np.int32)}

    def _dtype(self, method: MethodName, name: str) -> str:
        specs = self.manifest.method(method).inputs
        return next(spec.dtype for spec in specs if spec.name == name)

    def _empty(self, *kinds: str) -> dict[str, Array]:
        caches = [spec for spec in self.manifest.method("decode").inputs if "_cache_" in spec.name]
        return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in caches if spec.name.startswith(kinds)}


def load(bundle: Path | str, *, check_hashes: bool = True, threads: int | None = None) -> Session:
    """Open a bundle with the runtime that its manifest names.

    threads: None is the runtime's own choice. ExecuTorch has one pool for the process, so that the last number given
    counts from then on; of no effect where the runtime always `chooses_threads`.

    Raises UserError on a damaged bundle or a runtime that is not installed.
    """
    if threads is not None and threads < 1:
        raise UserError(f"threads={threads}: must be at least 1")
    if is_url(str(bundle)):
        raise UserError(f"bundle {bundle} is a URL: download it first")
    folder = Path(bundle)
    return open_session(folder, read_manifest(folder, check_hashes=check_hashes), threads)


def open_session(folder: Path, manifest: Manifest, threads: int | None) -> Session:
    """As `load`, of a bundle whose manifest and files have been checked."""
    kind = import_runtime(folder, manifest)
    started = perf_counter()  # the graphs, not the import of the runtime's library
    session = kind(folder, manifest, threads)
    session.load_ms = (perf_counter() - started) * 1e3
    return session


def import_runtime(folder: Path, manifest: Manifest) -> Callable[[Path, Manifest, int | None], Session]:
    """The class of a bundle's sessions, with all libraries that they need imported.

    Raises UserError on a target without a runtime here, or a library that is not installed.
    """
    if manifest.target not in RUNTIMES:
        raise UserError(f"{folder}: target {manifest.target!r} is unknown: this vlmp runs {', '.join(RUNTIMES)}")
    module, attribute = RUNTIMES[manifest.target].split(":")
    try:
        kind: Callable[[Path, Manifest, int | None], Session] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vlmp"):
            raise
        raise UserError(
            f"{folder} needs {error.name}, which is not installed: pip install 'vlmp[{manifest.target}]'"
        ) from error
    return kind
