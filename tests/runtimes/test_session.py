"""The bookkeeping around the graphs: what is fed, where its rows are stored, when an answer ends, what is streamed.

The graphs here are a fake: logits say the next token of a script, and a row tells which token at which place made it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_cases import image_spec, shape_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from prompt_cases import filled
from tokenizers import Tokenizer
from vlmp.runtimes import Session, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import write_manifest
from vlmp.runtimes.bundle.manifest import (
    Manifest,
    MethodName,
    MethodSpec,
    ParitySpec,
    PromptSpec,
    TensorSpec,
)
from vlmp.runtimes.generate import Timings
from vlmp.runtimes.session import RUNTIMES, Array

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
PREFIX, VISUAL, KEPT, BUCKET, ROOM, VOCAB = 3, 4, 2, 20, 12, 2048
LAYERS = 3
ONE, TWO, THREE = ((1, KEPT),), ((1, 3), (2, KEPT)), ((0, VISUAL), (1, 3), (2, KEPT))
"""Layer and kept tokens of each stage."""
START, END, STOP = 1537, 1538, 1536
FIRST = "<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
FOLLOWING = "\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
PHOTO = Image.new("RGB", (80, 40), (200, 100, 50))


def rows(layers_rows: Callable[[int], int], dtype: Any, suffix: str = "") -> list[TensorSpec]:
    return [
        TensorSpec(name=f"{part}{suffix}_{layer}", shape=[1, layers_rows(layer), 2], dtype=dtype)
        for layer in range(LAYERS)
        for part in ("key", "value")
    ]


def make_manifest(dtype: Any = "float32", room: int = ROOM, stages: Sequence[tuple[int, int]] = ONE) -> Manifest:
    (layer, left), *then = stages
    shape = shape_spec(
        image_spec(2, 2), kept=left, layer=layer, layers=LAYERS, text_room=BUCKET + room, prefix=PREFIX, dtype=dtype,
        then=then,
    )  # fmt: skip

    def base(layer: int) -> int:
        return shape.kv.layers[layer].base

    def whole(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name=name, shape=list(shape), dtype="int32")

    caches = rows(lambda layer: base(layer) + BUCKET + room, dtype, "_cache")
    visual = TensorSpec(name="visual", shape=[VISUAL, 5], dtype=dtype)
    logits = TensorSpec(name="logits", shape=[VOCAB], dtype=dtype)
    earlier = [whole(f"kept_{number}", left) for number, (_, left) in enumerate(stages[:-1])]
    kept = [*earlier, whole("kept", KEPT), whole("order", KEPT), whole("filled", 1)]
    inputs: dict[MethodName, list[TensorSpec]] = {
        "vision": [TensorSpec(name="image", shape=[1, 3, 56, 56], dtype=dtype)],
        "prefill": [whole("ids", 1, BUCKET), whole("text_len", 1), visual],
        "decode": [whole("ids", 1, 1), whole("past", 1), *caches],
        "extend": [whole("ids", 1, BUCKET), whole("text_len", 1), whole("past", 1), *caches],
    }
    outputs: dict[MethodName, list[TensorSpec]] = {
        "vision": [visual],
        "prefill": [logits, *kept, *rows(lambda layer: base(layer) + BUCKET, dtype)],
        "decode": [logits, *rows(lambda _: 1, dtype)],
        "extend": [logits, *rows(lambda _: BUCKET, dtype)],
    }
    return Manifest(
        model="m",
        checkpoint="c",
        target="fake",
        precision=dtype,
        quantization="none",
        vocab_size=VOCAB,
        shapes=[shape],
        prompt=PromptSpec(
            prefix_ids=[START, 1, 2], first=FIRST, following=FOLLOWING, text_len=BUCKET, max_new_tokens=room,
            end_ids=[STOP, END], end_text_id=END, pad_id=STOP, tokenizer_file="tokenizer.json",
        ),
        methods={name: MethodSpec(file="a", entry="", inputs=inputs[name], outputs=outputs[name]) for name in inputs},
        parity=ParitySpec(status="skipped", runtime=""),
        tools={},
    )  # fmt: skip


class FakeSession(Session):
    """Says the script token by token; checks what it is given against the manifest."""

    def __init__(self, _folder: Path, manifest: Manifest, tokenizer: Tokenizer, threads: int | None = None) -> None:
        super().__init__(manifest, tokenizer)
        self.threads = threads
        self.script: Iterator[int] = iter(())
        self.calls: list[tuple[MethodName, list[int]]] = []
        self.pixels: Array | None = None

    @property
    def runtime(self) -> str:
        return "fake 1"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        spec = self.manifest.method(method)
        assert [(name.name, name.shape, name.dtype) for name in spec.inputs] == [
            (name.name, list(inputs[name.name].shape), str(inputs[name.name].dtype)) for name in spec.inputs
        ]
        outputs: dict[str, Array] = {output.name: np.zeros(output.shape, output.dtype) for output in spec.outputs}
        if method == "vision":
            self.pixels = inputs["image"]
            self.calls.append((method, []))
            return outputs
        ids = [int(token) for token in inputs["ids"][0]]
        length = int(inputs["text_len"][0]) if "text_len" in inputs else 1
        assert set(ids[length:]) <= {STOP}, "padding"
        past = int(inputs["past"][0]) if "past" in inputs else 0
        self.calls.append((method, ids[:length]))
        for layer in range(LAYERS):
            before = self.base(layer) if method == "prefill" else 0
            made = [[7000 + row, row] for row in range(before)]
            # A row of padding must never be stored.
            made += [[token if place < length else 9999, past + place] for place, token in enumerate(ids)]
            outputs[f"key_{layer}"][0] = made
            outputs[f"value_{layer}"][0] = -np.array(made)
        if method == "prefill":
            outputs.update(kept=np.array([1, 3], np.int32), order=np.array([3, 1], np.int32))
            for number, stage in enumerate(self.manifest.shape.stages[:-1]):
                outputs[f"kept_{number}"] = np.arange(VISUAL - stage.num_kept, VISUAL, dtype=np.int32)
        outputs["logits"][next(self.script)] = 1
        return outputs

    def stored(self, layer: int) -> list[list[int]]:
        """[token, position] of every text row in a layer's cache; keys and values must agree."""
        keys, values = self._caches[f"key_cache_{layer}"][0], self._caches[f"value_cache_{layer}"][0]
        np.testing.assert_array_equal(keys, -values)
        base = self.base(layer)
        assert keys[:base].tolist() == [[7000 + row, row] for row in range(base)]
        return keys[base:].astype(int).tolist()

    def base(self, layer: int) -> int:
        """Slot of the first text token after the image."""
        return self.manifest.shape.kv.layers[layer].base


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


@pytest.fixture
def session(tokenizer: Tokenizer) -> FakeSession:
    return FakeSession(Path(), make_manifest(), tokenizer)


@pytest.fixture(params=[ONE, TWO, THREE], ids=["one stage", "two stages", "three stages"])
def staged(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> FakeSession:
    return FakeSession(Path(), make_manifest(stages=request.param), tokenizer)


@pytest.fixture
def roomy(tokenizer: Tokenizer) -> FakeSession:
    return FakeSession(Path(), make_manifest(room=99), tokenizer)


def tokens(session: Session, text: str) -> list[int]:
    return session.tokenizer.encode(text, add_special_tokens=False).ids


def first(session: Session, question: str) -> list[int]:
    return tokens(session, filled(FIRST, question))


def following(session: Session, question: str) -> list[int]:
    return tokens(session, filled(FOLLOWING, question))


def says(session: FakeSession, *answers: Sequence[int]) -> None:
    session.script = iter([token for answer in answers for token in answer])


# --- One turn ---------------------------------------------------------------------------------------------------------


def test_an_answer(session: FakeSession) -> None:
    answer = tokens(session, "It is blue.")
    says(session, [*answer, END])
    session.load_ms = 5
    found = session.generate(PHOTO, "What is it?")
    assert found.text == "It is blue."
    assert found.token_ids == [*answer, END]
    assert (found.kept.tolist(), found.order.tolist()) == ([1, 3], [3, 1])
    assert session.calls == [
        ("vision", []),
        ("prefill", first(session, "What is it?")),
        *(("decode", [token]) for token in answer),
    ]
    timings = found.timings
    assert (timings.load_ms, timings.decoded_tokens) == (5, len(answer))
    assert timings.first_token_ms == pytest.approx(timings.preprocess_ms + timings.vision_ms + timings.prefill_ms)
    assert min(timings.preprocess_ms, timings.vision_ms, timings.prefill_ms, timings.decode_ms) > 0


def test_each_stage_tells_what_it_has_kept(staged: FakeSession) -> None:
    says(staged, [40, END], [END])
    found = staged.generate(PHOTO, "Why?")
    earlier = {1: [], 2: [[1, 2, 3]], 3: [[0, 1, 2, 3], [1, 2, 3]]}[len(staged.manifest.shape.stages)]
    assert [kept.tolist() for kept in found.stages] == [*earlier, [1, 3]]
    assert found.stages[-1] is found.kept
    assert found.order.tolist() == [3, 1]
    assert staged.reply("No?").stages == []


def test_layers_between_stages_have_caches_of_their_own_size() -> None:
    def bases(stages: Sequence[tuple[int, int]]) -> list[int]:
        layers = make_manifest(stages=stages).shape.kv.layers
        assert {layer.slots - layer.base for layer in layers} == {BUCKET + ROOM}
        return [layer.base for layer in layers]

    assert [bases(stages) for stages in (ONE, TWO, THREE)] == [[7, 5, 5], [7, 6, 5], [7, 6, 5]]


def test_the_image_is_fitted_and_of_the_bundles_type(tokenizer: Tokenizer, tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    for dtype in ("float32", "float16"):
        session = FakeSession(Path(), make_manifest(dtype), tokenizer)
        for image in (PHOTO, tmp_path / "a.png", str(tmp_path / "a.png")):
            says(session, [END])
            session.generate(image, "What is it?")
            assert session.pixels is not None
            assert str(session.pixels.dtype) == dtype
            assert session.pixels[0, :, 28, 28].tolist() == [200, 100, 50]
            assert session.pixels[0, :, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("end", [END, STOP])
def test_an_answer_ends_at_any_end_token(session: FakeSession, end: int) -> None:
    says(session, [40, 41, end, 42])
    found = session.generate(PHOTO, "What is it?")
    assert found.token_ids == [40, 41, end]
    assert found.text == session.tokenizer.decode([40, 41])
    assert session.unfed == []


def test_an_answer_may_end_at_once(session: FakeSession) -> None:
    says(session, [END])
    pieces: list[str] = []
    found = session.generate(PHOTO, "What is it?", on_text=pieces.append)
    assert (found.text, found.token_ids, pieces) == ("", [END], [])
    assert (found.timings.decoded_tokens, found.timings.decode_tok_s) == (0, 0)


@pytest.mark.parametrize("limit", [1, 5, ROOM, None])
def test_the_longest_answer(session: FakeSession, limit: int | None) -> None:
    says(session, range(40, 99))
    found = session.generate(PHOTO, "What is it?", limit)
    assert found.token_ids == list(range(40, 40 + (limit or ROOM)))
    assert session.unfed == found.token_ids[-1:]


@pytest.mark.parametrize("limit", [0, -1, ROOM + 1])
def test_limits_that_are_none(session: FakeSession, limit: int) -> None:
    with pytest.raises(UserError, match=f"max_new_tokens={limit}: this bundle allows 1 to {ROOM}"):
        session.generate(PHOTO, "What is it?", limit)
    assert session.calls == []


def test_a_prompt_may_be_as_long_as_the_message_says(roomy: FakeSession) -> None:
    def check(ask: Callable[[str], object], longest: int) -> None:
        says(roomy, [END])
        assert longest > 3
        assert len(tokens(roomy, " the" * longest)) == longest
        with pytest.raises(UserError) as caught:
            ask(" the" * (longest + 1))
        assert str(caught.value) == (
            f"the prompt has {longest + 1} tokens, the bundle takes up to {longest}: export with a larger --text-len"
        )
        ask(" the" * longest)
        assert len(roomy.calls[-1][1]) == BUCKET

    check(lambda prompt: roomy.generate(PHOTO, prompt), BUCKET - len(first(roomy, "")))
    # The token that closes the answer is fed too.
    check(roomy.reply, BUCKET - 1 - len(following(roomy, "")))


@pytest.mark.parametrize("prompt", ["", " ", "\n\t"])
def test_empty_prompts(session: FakeSession, prompt: str) -> None:
    says(session, [END])
    with pytest.raises(UserError, match="the prompt is empty"):
        session.generate(PHOTO, prompt)
    assert session.calls == []
    session.generate(PHOTO, "What is it?")
    with pytest.raises(UserError, match="the prompt is empty"):
        session.reply(prompt)


def test_a_prompt_that_is_no_text(session: FakeSession) -> None:
    with pytest.raises(UserError, match="the prompt is not valid UTF-8"):
        session.generate(PHOTO, "caf\udce9")


@pytest.mark.parametrize("listed", [[], ["<|im_end|>"]])
def test_control_tokens_of_a_prompt_are_text_unless_they_are_meant(tokenizer: Tokenizer, listed: list[str]) -> None:
    manifest = make_manifest(room=99)
    spec = manifest.prompt.model_copy(update={"control_tokens": listed})
    session = FakeSession(Path(), manifest.model_copy(update={"prompt": spec}), tokenizer)
    says(session, [END], [END], [END], [END])
    before, after = first(session, "").copy(), first(session, "")
    del before[before.index(END) :], after[: after.index(END)]
    session.generate(PHOTO, "a<|im_end|>")
    fed = session.calls[-1][1]
    assert fed.count(END) == 1
    assert tokenizer.decode(fed[len(before) : -len(after)]) == "a<|im_end|>"
    session.reply("a<|im_end|>")
    assert session.calls[-1][1].count(END) == 2, "the answer's end and the turn's"
    session.generate(PHOTO, "a<|im_end|>", control_tokens=True)
    assert session.calls[-1][1] == first(session, "a<|im_end|>")
    session.reply("a<|im_end|>", control_tokens=True)
    assert session.calls[-1][1] == [END, *following(session, "a<|im_end|>")]


def test_the_template_is_filled_once(session: FakeSession) -> None:
    says(session, [END])
    session.generate(PHOTO, "{prompt}?")
    assert session.calls[-1][1] == tokens(session, filled(FIRST, "{prompt}?"))


def test_an_unreadable_image_is_noticed_before_anything_runs(session: FakeSession, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        session.generate(tmp_path / "none.jpg", "What is it?")
    assert session.calls == []


# --- Streaming --------------------------------------------------------------------------------------------------------


def test_pieces_are_the_text_and_hold_no_broken_character(roomy: FakeSession) -> None:
    text = "Grün 🙂 日本"
    answer = tokens(roomy, text)
    assert any("\ufffd" in roomy.tokenizer.decode([token]) for token in answer), "no character spans tokens"
    says(roomy, [*answer, END])
    pieces: list[str] = []
    found = roomy.generate(PHOTO, "What is it?", on_text=pieces.append)
    assert found.text == "".join(pieces) == text
    assert all(piece and "\ufffd" not in piece for piece in pieces)
    assert len(pieces) > 3


def test_a_character_that_the_limit_cuts_is_in_the_pieces_too(session: FakeSession) -> None:
    answer = tokens(session, "a 🙂")
    cut = answer[:-1]
    assert session.tokenizer.decode(cut).endswith("\ufffd")
    says(session, answer)
    pieces: list[str] = []
    found = session.generate(PHOTO, "What is it?", len(cut), on_text=pieces.append)
    assert found.text == "".join(pieces) == session.tokenizer.decode(cut)


@given(answer=st.lists(st.integers(0, 1549), min_size=1, max_size=ROOM))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_are_the_text_whatever_the_tokens(session: FakeSession, answer: list[int]) -> None:
    says(session, [*answer, END])
    pieces: list[str] = []
    found = session.generate(PHOTO, "What is it?", on_text=pieces.append)
    assert "".join(pieces) == found.text == session.tokenizer.decode(found.token_ids, skip_special_tokens=True)


# --- Conversations ----------------------------------------------------------------------------------------------------


def test_a_reply_needs_an_image(session: FakeSession) -> None:
    with pytest.raises(UserError, match=r"no image yet: generate\(\) starts a conversation, reply\(\) continues it"):
        session.reply("And now?")
    for step in (lambda: session.decode(5), lambda: session.extend([5])):
        with pytest.raises(UserError, match="no image yet: prefill comes before decode and extend"):
            step()
    assert session.calls == []


def test_a_reply_after_an_end_token_closes_the_turn_as_the_template_does(session: FakeSession) -> None:
    for end in (END, STOP):
        says(session, [40, end], [50, 51, END])
        session.generate(PHOTO, "What is it?")
        session.calls.clear()
        found = session.reply("Why?")
        assert session.calls[0] == ("extend", [END, *following(session, "Why?")])
        assert session.calls[1:] == [("decode", [50]), ("decode", [51])]
        assert found.token_ids == [50, 51, END]
        assert len(found.kept) == len(found.order) == 0
        assert (found.timings.preprocess_ms, found.timings.vision_ms, found.timings.decoded_tokens) == (0, 0, 2)
        assert found.timings.prefill_ms > 0


def test_a_reply_after_an_answer_that_hit_the_limit_feeds_its_last_token(session: FakeSession) -> None:
    says(session, [40, 41], [99, 50, END])
    session.generate(PHOTO, "Why?", 2)
    session.calls.clear()
    session.reply("No?")
    assert session.calls == [("decode", [41]), ("extend", [END, *following(session, "No?")]), ("decode", [50])]
    assert session.unfed == []


def test_every_token_lies_in_its_slot(staged: FakeSession) -> None:
    says(staged, [40, 41], [99, 50, END])
    staged.generate(PHOTO, "Why?", 2)
    question = first(staged, "Why?")
    fed = [*question, 40]
    assert staged.past == len(fed)
    empty = [[0, 0]] * (BUCKET + ROOM)
    for layer in range(LAYERS):
        assert staged.stored(layer) == [[token, place] for place, token in enumerate(fed)] + empty[len(fed) :]
    staged.reply("No?", 2)
    fed += [41, END, *following(staged, "No?"), 50]
    assert staged.past == len(fed) <= BUCKET + ROOM
    assert staged.room == BUCKET + ROOM - len(fed)
    for layer in range(LAYERS):
        assert staged.stored(layer) == [[token, place] for place, token in enumerate(fed)] + empty[len(fed) :]


def test_a_new_image_starts_a_new_conversation(session: FakeSession) -> None:
    says(session, [40, 41, 42], [END])
    session.generate(PHOTO, "What is it then?", 3)
    session.generate(PHOTO, "Why?")
    question = first(session, "Why?")
    assert session.past == len(question)
    assert session.unfed == []
    for layer in range(LAYERS):
        assert session.stored(layer)[: len(question)] == [[token, place] for place, token in enumerate(question)]
    says(session, [40])
    session.generate(PHOTO, "Why?", 1)
    session.reset()
    assert (session.room, session.unfed) == (BUCKET + ROOM, [])
    with pytest.raises(UserError, match="no image yet"):
        session.reply("And now?")


def test_an_answer_ends_where_the_caches_are_full(session: FakeSession) -> None:
    says(session, [40, 41, 42, END], range(50, 99))
    session.generate(PHOTO, "Why?")
    room = session.room - 1 - len(following(session, "No?"))
    assert 0 < room < ROOM
    found = session.reply("No?")
    assert len(found.token_ids) == room + 1, "the last token needs no slot of its own"
    assert session.room == 0
    assert session.unfed == found.token_ids[-1:]


def test_a_full_conversation_is_refused_and_left_as_it_was(session: FakeSession) -> None:
    says(session, range(40, 40 + ROOM), [END])
    session.generate(PHOTO, "Why?")
    before = (session.past, session.unfed, len(session.calls), [session.stored(layer) for layer in range(LAYERS)])
    needed = 2 + len(following(session, "What about it?"))
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            session.reply("What about it?")
        assert str(caught.value) == (
            f"the conversation is full: {needed} more tokens, room for {session.room}; start a new one"
        )
    with pytest.raises(UserError, match="max_new_tokens=0"):
        session.reply("No?", 0)
    assert before == (
        session.past, session.unfed, len(session.calls), [session.stored(layer) for layer in range(LAYERS)]
    )  # fmt: skip
    session.generate(PHOTO, "Why?")
    assert session.past == len(first(session, "Why?"))


def test_a_listener_that_fails_leaves_a_conversation_that_can_go_on(session: FakeSession) -> None:
    def broken(_piece: str) -> None:
        raise KeyboardInterrupt

    says(session, [40, 41], [99, END])
    with pytest.raises(KeyboardInterrupt):
        session.generate(PHOTO, "Why?", on_text=broken)
    session.calls.clear()
    says(session, [99, END])
    session.reply("No?")
    assert session.calls == [("decode", [40]), ("extend", [END, *following(session, "No?")])]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("broken", ["prefill", "decode"])
def test_logits_that_are_not_finite_are_no_answer(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch, broken: MethodName, value: float
) -> None:
    run = session.run

    def spoiled(method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = run(method, inputs)
        if method == broken:
            outputs["logits"][7] = value
        return outputs

    monkeypatch.setattr(session, "run", spoiled)
    says(session, [40, END])
    with pytest.raises(UserError, match="logits that are not finite: its weights or its graph are broken"):
        session.generate(PHOTO, "Why?")


@pytest.mark.parametrize("count", [0, BUCKET + 1])
def test_buckets_that_do_not_fit(session: FakeSession, count: int) -> None:
    visual: NDArray[np.float32] = np.zeros((VISUAL, 5), np.float32)
    with pytest.raises(UserError, match=f"{count} text tokens: this bundle takes 1 to {BUCKET} at once"):
        session.prefill([5] * count, visual)
    says(session, [40], [41])
    session.prefill([5], visual)
    with pytest.raises(UserError, match=f"{count} text tokens: this bundle takes 1 to {BUCKET} at once"):
        session.extend([5] * count)


def test_rates() -> None:
    timings = Timings(load_ms=0, prefill_ms=10, decode_ms=500, decoded_tokens=25)
    assert timings.decode_tok_s == 50
    assert timings.first_token_ms == 10


# --- Loading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_text("graph")
    (tmp_path / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
    write_manifest(tmp_path, make_manifest())
    return tmp_path


def test_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "fake", f"{__name__}:FakeSession")
    session = load(str(folder))
    assert isinstance(session, FakeSession)
    assert session.load_ms > 0
    assert session.runtime == "fake 1"
    says(session, [END])
    assert session.generate(PHOTO, "Why?").token_ids == [END]


def test_a_tokenizer_that_pads_and_cuts_is_read_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "fake", f"{__name__}:FakeSession")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_to_multiple_of=8, pad_id=STOP, pad_token="<|endoftext|>")
    tokenizer.enable_truncation(max_length=5)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_manifest(folder, make_manifest())
    session = load(folder)
    assert isinstance(session, FakeSession)
    says(session, [END])
    session.generate(PHOTO, "What is it?")
    plain = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    wanted = plain.encode(filled(FIRST, "What is it?"), add_special_tokens=False).ids
    assert session.calls[-1] == ("prefill", wanted)


def test_bundles_that_cannot_be_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="target 'fake' is unknown: this vlmp runs onnx, executorch, coreml"):
        load(folder)
    monkeypatch.setitem(RUNTIMES, "fake", "no_such_runtime.python:Session")
    with pytest.raises(UserError, match=r"needs no_such_runtime, which is not installed: pip install 'vlmp\[fake\]'"):
        load(folder)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "coremltools", None)
        without.delitem(sys.modules, RUNTIMES["coreml"].partition(":")[0], raising=False)
        without.setitem(RUNTIMES, "fake", RUNTIMES["coreml"])
        with pytest.raises(UserError, match="needs coremltools, which is not installed: pip install"):
            load(folder)
    monkeypatch.setitem(RUNTIMES, "fake", "vlmp.runtimes.no_such_file:Session")
    with pytest.raises(ModuleNotFoundError):
        load(folder)
    monkeypatch.setitem(RUNTIMES, "fake", f"{__name__}:FakeSession")
    (folder / "a").write_text("gruph")
    with pytest.raises(UserError, match="a is damaged"):
        load(folder)
    assert load(folder, check_hashes=False)
    for content in ("", "{}", '{"model": 1}'):
        (folder / "tokenizer.json").write_text(content)
        write_manifest(folder, make_manifest())
        with pytest.raises(UserError, match=r"tokenizer\.json is no tokenizer"):
            load(folder)
