"""A bundle in memory: the four methods, the KV caches, and the same bookkeeping whatever the runtime.

Most graphs are pure functions: a step reads the caches and returns the new rows, which are stored here. So a runtime
only has to run a method on arrays. Where graphs update the caches in place, its session binds their buffers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from pathlib import Path
from threading import RLock
from time import perf_counter
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import inside, read_manifest
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.console.streams import is_url

if TYPE_CHECKING:
    from PIL.Image import Image
    from tokenizers import Tokenizer
    from vlmp.runtimes.generate import Answer

Array = NDArray[np.generic]
Given = ParamSpec("Given")
Made = TypeVar("Made")

RUNTIMES: dict[str, str] = {
    "onnx": "vlmp.runtimes.onnx:OnnxSession",
    "executorch": "vlmp.runtimes.executorch:ExecuTorchSession",
    "coreml": "vlmp.runtimes.coreml.session:CoreMLSession",
}
"""Target -> "module:class", made with (folder, manifest, tokenizer, threads), imported when a bundle is loaded."""


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

    past: text tokens after the image that the caches hold; rows after them are never read. unfed: tokens of the last
    answer that the caches do not hold yet.
    """

    past: int = 0
    unfed: tuple[int, ...] = ()


def alone(
    method: "Callable[Concatenate[Session, Given], Made]",
) -> "Callable[Concatenate[Session, Given], Made]":
    """A call that has the session to itself until it is over: other threads wait, and on_text may not make it."""

    @wraps(method)
    def call(session: "Session", *given: Given.args, **named: Given.kwargs) -> Made:
        with session.lock:
            if session.telling:
                raise UserError("on_text called the session that is answering: call it when the answer is there")
            return method(session, *given, **named)

    return call


class Session(ABC):
    """One loaded bundle and one conversation. It runs one call at a time, a whole turn; other threads wait."""

    def __init__(self, manifest: Manifest, tokenizer: "Tokenizer") -> None:
        self.manifest = manifest
        self.tokenizer = tokenizer
        self.load_ms = 0.0
        self.progress = Progress()
        self.lock = RLock()
        """Held by the call that runs."""
        self.telling = False
        """Whether on_text is running."""
        self._caches = self._empty_caches()

    @abstractmethod
    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one method on named arrays of the manifest's shapes and dtypes."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """Name and version of what runs the graphs."""

    @alone
    def vision(self, pixels: Array) -> Array:
        """pixels [1, 3, height, width] RGB 0..255 -> visual tokens [N, D]."""
        return self.run("vision", {"image": pixels.astype(self._dtype("vision", "image"), copy=False)})["visual"]

    @alone
    def prefill(self, ids: list[int], visual: Array) -> Prefilled:
        """Fill the caches with prefix, image and the first text. Raises UserError when `ids` exceed the bucket."""
        inputs = self._bucket(ids)
        self.reset()
        outputs = self._call("prefill", {**inputs, "visual": visual}, len(ids))
        earlier = range(len(self.manifest.shape.stages) - 1)
        stages = [*(outputs[f"kept_{stage}"] for stage in earlier), outputs["kept"]]
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
        self.progress = Progress()

    @property
    def past(self) -> int:
        """Text tokens after the image that the caches hold."""
        return self.progress.past

    @property
    def unfed(self) -> list[int]:
        """Tokens of the last answer that the caches do not hold yet."""
        return list(self.progress.unfed)

    @property
    def room(self) -> int:
        """Text tokens that still fit."""
        return self.manifest.prompt.text_len + self.manifest.prompt.max_new_tokens - self.past

    @alone
    def generate(
        self,
        image: "Image | Path | str",
        prompt: str,
        max_new_tokens: int | None = None,
        on_text: Callable[[str], None] | None = None,
        *,
        control_tokens: bool = False,
    ) -> "Answer":
        """Answer a question about an image, greedily. `on_text` gets the answer piece by piece.

        control_tokens: such tokens in the prompt (`<|im_end|>`) are taken as what they are to the model; otherwise all
        of the prompt is text.
        Raises UserError on an unreadable image or a prompt that does not fit, and where on_text calls the session.
        """
        from vlmp.runtimes.generate import first_turn

        return first_turn(self, image, prompt, max_new_tokens, on_text, typed_control=control_tokens)

    @alone
    def reply(
        self,
        prompt: str,
        max_new_tokens: int | None = None,
        on_text: Callable[[str], None] | None = None,
        *,
        control_tokens: bool = False,
    ) -> "Answer":
        """Answer a further question about the same image, through `extend`. control_tokens: as `generate` has it.

        Raises UserError before the first turn, or when the prompt does not fit.
        """
        from vlmp.runtimes.generate import next_turn

        return next_turn(self, prompt, max_new_tokens, on_text, typed_control=control_tokens)

    def _call(self, method: MethodName, inputs: dict[str, Array], tokens: int) -> dict[str, Array]:
        """Run a method that puts `tokens` text tokens into the caches, and keep its rows where the host has to."""
        past = np.array([self.past], dtype=np.int32)
        outputs = self.run(method, {**inputs, "past": past, **self._caches})
        kv = self.manifest.shape.kv
        if kv.update == "rows":
            for layer, cache in enumerate(kv.layers):
                end = cache.base + self.past + tokens
                first = 0 if method == "prefill" else cache.base + self.past
                for kind in ("key", "value"):
                    rows = outputs[f"{kind}_{layer}"]
                    self._caches[f"{kind}_cache_{layer}"][:, first:end] = rows[:, : end - first]
        self.progress = Progress(self.past + tokens)
        return outputs

    def tell(self, listener: Callable[[str], None], piece: str) -> None:
        """Hand a piece of text to a listener, which may not call the session: half of the turn is not done yet."""
        try:
            self.telling = True
            listener(piece)
        finally:
            self.telling = False

    def _bucket(self, ids: list[int]) -> dict[str, Array]:
        bucket = self.manifest.prompt.text_len
        if not 0 < len(ids) <= bucket:
            raise UserError(f"{len(ids)} text tokens: this bundle takes 1 to {bucket} at once")
        padded = ids + [self.manifest.prompt.pad_id] * (bucket - len(ids))
        return {"ids": np.array([padded], dtype=np.int32), "text_len": np.array([len(ids)], dtype=np.int32)}

    def check_room(self, tokens: int) -> None:
        """Raises UserError unless so many text tokens can be appended."""
        if self.past == 0:
            raise UserError("no image yet: prefill comes before decode and extend")
        if tokens > self.room:
            raise UserError(f"the conversation is full: {tokens} more tokens, room for {self.room}; start a new one")

    def _dtype(self, method: MethodName, name: str) -> str:
        specs = self.manifest.method(method).inputs
        return next(spec.dtype for spec in specs if spec.name == name)

    def _empty_caches(self) -> dict[str, Array]:
        specs = self.manifest.method("decode").inputs
        return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in specs if "_cache_" in spec.name}


def load(bundle: Path | str, *, check_hashes: bool = True, threads: int | None = None) -> Session:
    """Open a bundle with the runtime that its manifest names.

    threads: None is the runtime's own choice. ExecuTorch has one pool for the process, so that the last number given
    counts from then on; Core ML chooses for itself.

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
    session = kind(folder, manifest, load_tokenizer(folder, manifest), threads)
    session.load_ms = (perf_counter() - started) * 1e3
    return session


def import_runtime(folder: Path, manifest: Manifest) -> Callable[[Path, Manifest, "Tokenizer", int | None], Session]:
    """The class of a bundle's sessions, with all libraries that they need imported.

    Raises UserError on a target without a runtime here, or a library that is not installed.
    """
    if manifest.target not in RUNTIMES:
        raise UserError(f"{folder}: target {manifest.target!r} is unknown: this vlmp runs {', '.join(RUNTIMES)}")
    module, attribute = RUNTIMES[manifest.target].split(":")
    try:
        kind: Callable[[Path, Manifest, Tokenizer, int | None], Session] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vlmp"):
            raise
        raise UserError(
            f"{folder} needs {error.name}, which is not installed: pip install 'vlmp[{manifest.target}]'"
        ) from error
    return kind


def load_tokenizer(folder: Path, manifest: Manifest) -> "Tokenizer":
    """The bundle's tokenizer, without the padding and cutting that its file may ask for.

    Raises UserError when it cannot be read.
    """
    from tokenizers import Tokenizer

    path = inside(folder, manifest.prompt.tokenizer_file)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(f"{path} is no tokenizer: {error}") from error
    # transformers leaves both in the file of a tokenizer that has been used with them.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
