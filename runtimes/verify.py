"""Compare a bundle on its own runtime with what PyTorch computed when it was exported.

The reference travels in the bundle, so this needs neither torch nor the checkpoint: a Core ML bundle written on Linux
is verified on a Mac by the same command.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import compress, product
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import REFERENCE_NAME, inside
from vlmp.runtimes.bundle.manifest import Check, Manifest, ParitySpec
from vlmp.runtimes.session import Array, Seen, Session

DECODED = 8
"""Decode steps whose logits are compared."""
NUDGE = {"float32": 1e-6, "float16": 2.0**-11}
"""Relative size of a change that sums in another order, or one rounding, bring about, by precision."""
NUDGES = 3
"""How often it is tried: what rounding makes of it differs from one to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an export must keep. Relative errors are max |a - b| / max |b|."""

    vision_relative: float
    relative: float
    """Of logits."""
    cosine: float
    kept_share: float
    """A mean: one near tie early in the pruner's chain of choices may change several of one arrangement's."""
    top1_share: float
    token_share: float | None
    """None where rounding may turn a near tie, after which answers differ: top-1 given the same tokens says it all."""


EXACT = Limits(vision_relative=1e-4, relative=1e-4, cosine=0.999999, kept_share=1.0, top1_share=1.0, token_share=1.0)
"""Of float32."""
ROUNDED = Limits(vision_relative=5e-2, relative=2e-2, cosine=0.999, kept_share=0.9, top1_share=0.85, token_share=None)
"""Where every value is rounded on its way: in float16, and where activations are turned into integers, whose ties fall
to one side or the other by the last bit of a sum."""


def limits_of(manifest: Manifest, own_change: float) -> Limits:
    """What this bundle must keep, against PyTorch of the same precision and quantization.

    Through many layers that round activations, PyTorch itself does not keep `relative` when its input moves by the last
    bit. Such a bundle may be twice as far from it as it is from itself, at most `vision_relative`.
    """
    if manifest.precision == "float32" and manifest.quantization == "none":
        return EXACT
    return replace(ROUNDED, relative=min(max(ROUNDED.relative, 2 * own_change), ROUNDED.vision_relative))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Inputs of a conversation and what PyTorch answered.

    pixels uint8 [1, 3, height, width]; ids, more_ids: text of two turns; visual [N, D], places and bias as `Seen` has
    them; choices int32 [A, S]: what the language model's stages keep of each of its `arrangements`, one stage after the
    other; prefill_logits [V]; tokens: the greedy answer; decode_logits [steps, V] after each of its first tokens;
    extend_logits [V] after the second turn's text.
    """

    ids: list[int]
    more_ids: list[int]
    pixels: Array
    visual: Array
    choices: Array
    prefill_logits: Array
    tokens: list[int]
    decode_logits: Array
    extend_logits: Array
    runtime: str
    own_change: float = 0.0
    """Largest relative change of PyTorch's own first logits when the visual tokens move by `NUDGE`: what rounding makes
    of nothing. 0 where all is exact."""
    places: Array | None = None
    bias: Array | None = None

    @property
    def seen(self) -> Seen:
        """What vision told."""
        return Seen(self.visual, self.places, self.bias)

    def save(self, path: Path) -> None:
        """Write as safetensors; the picture is packed as PNG."""
        held = {name: getattr(self, name) for name in (*_ARRAYS, *_OF_TOWER)}
        arrays = {name: np.ascontiguousarray(value) for name, value in held.items() if value is not None}
        texts = {name: json.dumps(getattr(self, name)) for name in _FACTS}
        path.write_bytes(save({**arrays, "picture_png": _to_png(self.pixels)}, metadata=texts))

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """Read a saved reference. Raises UserError when it is damaged."""
        try:
            with safe_open(path, framework="np") as file:
                metadata = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
                told = [name for name in _OF_TOWER if name in file.keys()]  # noqa: SIM118 (it is no dict)
                arrays = {name: file.get_tensor(name) for name in (*_ARRAYS, *told)}
                return cls(**metadata, **arrays, pixels=_from_png(file.get_tensor("picture_png")))
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): export the model again") from None


def _to_png(pixels: Array) -> Array:
    packed = io.BytesIO()
    Image.fromarray(pixels[0].transpose(1, 2, 0)).save(packed, "PNG", optimize=True)
    return np.frombuffer(packed.getvalue(), np.uint8)


def _from_png(packed: Array) -> Array:
    picture = np.asarray(Image.open(io.BytesIO(packed.tobytes())).convert("RGB"))
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None])


_FACTS = ("ids", "more_ids", "tokens", "runtime", "own_change")
_ARRAYS = ("visual", "choices", "prefill_logits", "decode_logits", "extend_logits")
_OF_TOWER = ("places", "bias")
"""There where a stage is in the vision tower."""


def verify_bundle(folder: Path, session: Session) -> ParitySpec:
    """Verify a loaded bundle against the reference inside it. Raises UserError when it carries none."""
    if not any(entry.path == REFERENCE_NAME for entry in session.manifest.files):
        raise UserError(f"{folder} was exported with --no-verify: it has no reference to compare with; export it again")
    return compare(session, Reference.read(inside(folder, REFERENCE_NAME)))


def compare(session: Session, reference: Reference, report: Callable[[str], None] = lambda _: None) -> ParitySpec:
    """Run every method of the session and measure how far it is from the reference."""
    limits, checks = limits_of(session.manifest, reference.own_change), []

    def lower(name: str, value: float, limit: float) -> None:
        checks.append(Check(name=name, value=float(value), limit=limit, better="lower"))

    def higher(name: str, value: float, limit: float) -> None:
        checks.append(Check(name=name, value=float(value), limit=limit, better="higher"))

    report("verify: vision")
    seen = session.see(reference.pixels)
    if seen.places is not None and reference.places is not None:
        higher("visual tokens in common", np.isin(reference.places, seen.places).mean(), limits.kept_share)
        if seen.bias is not None and reference.bias is not None and np.array_equal(seen.places, reference.places):
            error = relative_error(seen.bias, reference.bias)
            lower("vision weights relative error", error, limits.vision_relative)
    visual, wanted_visual = same_tokens(session.manifest, seen, reference.seen)
    lower("vision relative error", relative_error(visual, wanted_visual), limits.vision_relative)
    higher("vision cosine", cosine(visual, wanted_visual), limits.cosine)

    report("verify: prefill")
    given = reference.seen._replace(visual=reference.visual.astype(visual.dtype))
    first = session.prefill(reference.ids, given)
    lower("prefill logits relative error", relative_error(first.logits, reference.prefill_logits), limits.relative)
    higher("prefill logits cosine", cosine(first.logits, reference.prefill_logits), limits.cosine)
    lower("tokens filled by lowest score", first.filled, 0)

    report("verify: decode")
    logits = [first.logits]
    for token in reference.tokens[: len(reference.decode_logits)]:
        logits.append(session.decode(token))
    wanted = np.concatenate([reference.prefill_logits[None], reference.decode_logits])
    decoded = list(zip(logits[1:], reference.decode_logits, strict=True))
    lower("decode logits relative error", max(relative_error(a, b) for a, b in decoded), limits.relative)
    tie = min(reference.own_change, limits.relative)
    same_top = np.mean([keeps_top(a, b, tie) for a, b in zip(logits, wanted, strict=True)])
    higher("top-1 tokens in common", float(same_top), limits.top1_share)

    report("verify: extend")
    extended = session.extend(reference.more_ids)
    lower("extend logits relative error", relative_error(extended, reference.extend_logits), limits.relative)

    report("verify: one long prefill")
    # Where the text has a say in the choice, a longer one keeps other tokens: there is nothing to compare.
    fitting = reference.tokens[: min(len(logits) - 1, session.manifest.prompt.text_len - len(reference.ids))]
    if fitting and not any(stage.by_prompt for stage in session.manifest.shape.stages):
        long = session.prefill([*reference.ids, *fitting], given)
        lower(
            "prefill + decode against one long prefill",
            relative_error(logits[len(fitting)], long.logits),
            limits.relative,
        )

    report("verify: choices")
    others = arrangements(session.manifest, given)[1:]
    choices = [first, *(session.prefill(reference.ids, other) for other in others)]
    own = [stage.place == "layer" for stage in session.manifest.shape.stages]
    borders = np.cumsum([stage.num_kept for stage in session.manifest.shape.stages if stage.place == "layer"])[:-1]
    shares = [
        np.isin(kept, found_kept).mean()
        for found, wanted in zip(choices, reference.choices, strict=True)
        for found_kept, kept in zip(compress(found.stages, own), np.split(wanted, borders), strict=True)
    ]
    higher("kept tokens in common", float(np.mean(shares)), limits.kept_share)
    differing = [not np.array_equal(np.sort(found.order), found.kept) for found in choices]
    lower("orders of other tokens than those kept", sum(differing), 0)

    if limits.token_share is not None:
        report("verify: whole answer")
        answer = greedy(session, reference.ids, seen, len(reference.tokens))
        same = [a == b for a, b in zip(answer, reference.tokens, strict=True)]
        higher("greedy tokens in common", float(np.mean(same)), limits.token_share)
    status: Literal["passed", "failed"] = "passed" if all(check.passed for check in checks) else "failed"
    return ParitySpec(status=status, runtime=session.runtime, checks=checks)


def make_reference(session: Session, pixels: Array, ids: list[int], more_ids: list[int], tokens: int) -> Reference:
    """Let a session (the PyTorch one) answer what others are compared with. pixels uint8 [1, 3, height, width].

    Raises UserError naming the stage whose values are not finite.
    """

    def finite(stage: str, values: Array) -> Array:
        if np.isfinite(values).all():
            return values
        precision = session.manifest.precision
        cause = "choose --precision float32" if precision == "float16" else "its weights are broken"
        raise UserError(f"{stage} of the checkpoint overflows in {precision}: {cause}")

    seen = session.see(pixels)
    visual = finite("vision", seen.visual)
    first = session.prefill(ids, seen)
    finite("prefill", first.logits)
    answer = [int(np.argmax(first.logits))]
    steps: list[Array] = []
    while len(steps) < min(tokens, DECODED):
        steps.append(finite("decode", session.decode(answer[-1])))
        answer.append(int(np.argmax(steps[-1])))
    extended = finite("extend", session.extend(more_ids))
    answer = answer[:tokens] if tokens <= DECODED else greedy(session, ids, seen, tokens)
    others = arrangements(session.manifest, seen)[1:]
    own = [stage.place == "layer" for stage in session.manifest.shape.stages]
    choices = [
        np.concatenate(list(compress(found.stages, own)))
        for found in (first, *(session.prefill(ids, other) for other in others))
    ]
    own_change = 0.0
    if limits_of(session.manifest, 0.0) is not EXACT:
        nudge = NUDGE[session.manifest.precision]
        noise, wide = np.random.default_rng(0), visual.astype(np.float64)
        for _ in range(NUDGES):
            moved = (wide * (1 + nudge * noise.standard_normal(wide.shape))).astype(visual.dtype)
            nudged = session.prefill(ids, seen._replace(visual=moved))
            own_change = max(own_change, relative_error(nudged.logits, first.logits))
    return Reference(
        ids=ids,
        more_ids=more_ids,
        pixels=pixels,
        visual=visual,
        choices=np.stack(choices),
        prefill_logits=first.logits,
        tokens=answer,
        decode_logits=np.stack(steps),
        extend_logits=extended,
        runtime=session.runtime,
        own_change=own_change,
        places=seen.places,
        bias=seen.bias,
    )


def arrangements(manifest: Manifest, seen: Seen) -> list[Seen]:
    """Visual tokens as they are, mirrored, upside down, and both. Where all are kept, only as they are."""
    shape = manifest.shape
    if shape.num_kept == shape.handed:
        return [seen]
    turned = []
    for down, right in product((1, -1), repeat=2):
        from_N = np.arange(shape.image.visual_tokens)
        for segment in shape.image.segments:
            first_H1 = segment.first + segment.stride * np.arange(segment.rows)[:, None]
            token_HW = first_H1 + np.arange(segment.columns)
            from_N[token_HW] = token_HW[::down, ::right]
        if seen.places is None or shape.handed == len(from_N):
            turned.append(seen._replace(visual=seen.visual[from_N]))
            continue
        # Those that are there, where they are then, in their new order.
        places = np.flatnonzero(np.isin(from_N, seen.places)).astype(seen.places.dtype)
        row_S = np.searchsorted(seen.places, from_N[places])
        bias = None if seen.bias is None else seen.bias[row_S]
        turned.append(Seen(seen.visual[row_S], places, bias))
    return turned


def same_tokens(manifest: Manifest, found: Seen, wanted: Seen) -> tuple[Array, Array]:
    """The visual tokens of both, or those that went through the whole vision tower in both where these differ."""
    if found.places is None or wanted.places is None or np.array_equal(found.places, wanted.places):
        return found.visual, wanted.visual
    both = np.intersect1d(found.places, wanted.places)
    if manifest.shape.handed == manifest.shape.image.visual_tokens:
        return found.visual[both], wanted.visual[both]
    return found.visual[np.isin(found.places, both)], wanted.visual[np.isin(wanted.places, both)]


def keeps_top(found_V: Array, wanted_V: Array, tie: float) -> bool:
    """Whether the best token is, to the reference, at most `tie` of its largest logit below its best."""
    if found_V.shape != wanted_V.shape:
        return False
    gap = wanted_V.max() - wanted_V[np.argmax(found_V)]
    return bool(gap <= tie * np.abs(wanted_V).max())


def greedy(session: Session, ids: list[int], seen: Array | Seen, tokens: int) -> list[int]:
    """`tokens` greedy tokens, past end tokens too, so that answers of equal length are compared."""
    logits = session.prefill(ids, seen).logits
    answer = [int(np.argmax(logits))]
    while len(answer) < tokens:
        answer.append(int(np.argmax(session.decode(answer[-1]))))
    return answer


def relative_error(found: Array, wanted: Array) -> float:
    """max |a - b| / max |b|; infinite where a value is not finite, the shapes differ or there is none."""
    if found.shape != wanted.shape or not found.size:
        return float("inf")
    right = wanted.astype(np.float64)
    difference = np.abs(found.astype(np.float64) - right)
    if not np.isfinite(difference).all():
        return float("inf")
    return float(difference.max()) / max(float(np.abs(right).max()), 1e-30)


def cosine(found: Array, wanted: Array) -> float:
    """Cosine of the angle between two arrays taken as vectors; -1 where their shapes differ."""
    if found.shape != wanted.shape:
        return -1.0
    a, b = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)


def describe(manifest: Manifest, parity: ParitySpec) -> str:
    """The figures, a line each, worst news visible."""
    lines = [f"{manifest.model} for {manifest.target} ({manifest.precision}) on {parity.runtime}: {parity.status}"]
    for check in parity.checks:
        sign = "<=" if check.better == "lower" else ">="
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"  {mark} {check.name}: {check.value:.6g} (must be {sign} {check.limit:g})")
    return "\n".join(lines)
