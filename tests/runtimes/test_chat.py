"""A conversation: what is fed, where its rows are stored, when an answer ends, what is streamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prompt_cases import filled
from session_cases import (
    BUCKET,
    END,
    FIRST,
    LAYERS,
    ONE,
    PHOTO,
    ROOM,
    STOP,
    THREE,
    TINY,
    TWO,
    FakeChat,
    FakeSession,
    first,
    following,
    make_manifest,
    says,
    tokens,
)  # fmt: skip
from tokenizers import Tokenizer
from vlmp.runtimes import Chat, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import MANIFEST_NAME, write_manifest
from vlmp.runtimes.bundle.manifest import MethodName
from vlmp.runtimes.bundle.schema_1 import upgraded
from vlmp.runtimes.cli import verify
from vlmp.runtimes.session import RUNTIMES, Array


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


@pytest.fixture
def chat(tokenizer: Tokenizer) -> FakeChat:
    return FakeChat(make_manifest(), tokenizer)


@pytest.fixture(params=[ONE, TWO, THREE], ids=["one stage", "two stages", "three stages"])
def staged(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> FakeChat:
    return FakeChat(make_manifest(stages=request.param), tokenizer)


@pytest.fixture
def roomy(tokenizer: Tokenizer) -> FakeChat:
    return FakeChat(make_manifest(room=99), tokenizer)


# --- One turn ---------------------------------------------------------------------------------------------------------


def test_an_answer(chat: FakeChat) -> None:
    answer = tokens(chat, "It is blue.")
    says(chat, [*answer, END])
    chat.load_ms = 5
    found = chat.ask(PHOTO, "What is it?")
    assert found.text == "It is blue."
    assert found.token_ids == [*answer, END]
    assert (found.kept.tolist(), found.order.tolist()) == ([1, 3], [3, 1])
    assert chat.session.calls == [
        ("vision", []),
        ("prefill", first(chat, "What is it?")),
        *(("decode", [token]) for token in answer),
    ]
    timings = found.timings
    assert (timings.load_ms, timings.decoded_tokens) == (5, len(answer))
    assert timings.first_token_ms == pytest.approx(timings.preprocess_ms + timings.vision_ms + timings.prefill_ms)
    assert min(timings.preprocess_ms, timings.vision_ms, timings.prefill_ms, timings.decode_ms) > 0


def test_each_stage_tells_what_it_has_kept(staged: FakeChat) -> None:
    says(staged, [40, END], [END])
    found = staged.ask(PHOTO, "Why?")
    earlier = {1: [], 2: [[1, 2, 3]], 3: [[0, 1, 2, 3], [1, 2, 3]]}[len(staged.session.manifest.shape.stages)]
    assert [kept.tolist() for kept in found.stages] == [*earlier, [1, 3]]
    assert found.stages[-1] is found.kept
    assert found.order.tolist() == [3, 1]
    assert staged.reply("No?").stages == []


def test_the_image_is_fitted_and_of_the_bundles_type(tokenizer: Tokenizer, tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    for dtype in ("float32", "float16"):
        chat = FakeChat(make_manifest(dtype), tokenizer)
        for image in (PHOTO, tmp_path / "a.png", str(tmp_path / "a.png")):
            says(chat, [END])
            chat.ask(image, "What is it?")
            assert chat.session.pixels is not None
            assert str(chat.session.pixels.dtype) == dtype
            assert chat.session.pixels[0, :, 28, 28].tolist() == [200, 100, 50]
            assert chat.session.pixels[0, :, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("end", [END, STOP])
def test_an_answer_ends_at_any_end_token(chat: FakeChat, end: int) -> None:
    says(chat, [40, 41, end, 42])
    found = chat.ask(PHOTO, "What is it?")
    assert found.token_ids == [40, 41, end]
    assert found.text == chat.tokenizer.decode([40, 41])
    assert chat.unfed == []


def test_an_answer_may_end_at_once(chat: FakeChat) -> None:
    says(chat, [END])
    pieces: list[str] = []
    found = chat.ask(PHOTO, "What is it?", on_text=pieces.append)
    assert (found.text, found.token_ids, pieces) == ("", [END], [])
    assert (found.timings.decoded_tokens, found.timings.decode_tok_s) == (0, 0)


@pytest.mark.parametrize("limit", [1, 5, ROOM, None])
def test_the_longest_answer(chat: FakeChat, limit: int | None) -> None:
    says(chat, range(40, 99))
    found = chat.ask(PHOTO, "What is it?", limit)
    assert found.token_ids == list(range(40, 40 + (limit or ROOM)))
    assert chat.unfed == found.token_ids[-1:]


@pytest.mark.parametrize("limit", [0, -1, ROOM + 1])
def test_limits_that_are_none(chat: FakeChat, limit: int) -> None:
    with pytest.raises(UserError, match=f"max_new_tokens={limit}: this bundle allows 1 to {ROOM}"):
        chat.ask(PHOTO, "What is it?", limit)
    assert chat.session.calls == []


def test_a_prompt_may_be_as_long_as_the_message_says(roomy: FakeChat) -> None:
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
        assert len(roomy.session.calls[-1][1]) == BUCKET

    check(lambda prompt: roomy.ask(PHOTO, prompt), BUCKET - len(first(roomy, "")))
    # The token that closes the answer is fed too.
    check(roomy.reply, BUCKET - 1 - len(following(roomy, "")))


@pytest.mark.parametrize("prompt", ["", " ", "\n\t"])
def test_empty_prompts(chat: FakeChat, prompt: str) -> None:
    says(chat, [END])
    with pytest.raises(UserError, match="the prompt is empty"):
        chat.ask(PHOTO, prompt)
    assert chat.session.calls == []
    chat.ask(PHOTO, "What is it?")
    with pytest.raises(UserError, match="the prompt is empty"):
        chat.reply(prompt)


def test_a_prompt_that_is_no_text(chat: FakeChat) -> None:
    with pytest.raises(UserError, match="the prompt is not valid UTF-8"):
        chat.ask(PHOTO, "caf\udce9")


@pytest.mark.parametrize("listed", [[], ["<|im_end|>"]])
def test_control_tokens_of_a_prompt_are_text_unless_they_are_meant(tokenizer: Tokenizer, listed: list[str]) -> None:
    manifest = make_manifest(room=99)
    spec = manifest.prompt.model_copy(update={"control_tokens": listed})
    chat = FakeChat(manifest.model_copy(update={"prompt": spec}), tokenizer)
    says(chat, [END], [END], [END], [END])
    before, after = first(chat, "").copy(), first(chat, "")
    del before[before.index(END) :], after[: after.index(END)]
    chat.ask(PHOTO, "a<|im_end|>")
    fed = chat.session.calls[-1][1]
    assert fed.count(END) == 1
    assert tokenizer.decode(fed[len(before) : -len(after)]) == "a<|im_end|>"
    chat.reply("a<|im_end|>")
    assert chat.session.calls[-1][1].count(END) == 2, "the answer's end and the turn's"
    chat.ask(PHOTO, "a<|im_end|>", control_tokens=True)
    assert chat.session.calls[-1][1] == first(chat, "a<|im_end|>")
    chat.reply("a<|im_end|>", control_tokens=True)
    assert chat.session.calls[-1][1] == [END, *following(chat, "a<|im_end|>")]


def test_the_template_is_filled_once(chat: FakeChat) -> None:
    says(chat, [END])
    chat.ask(PHOTO, "{prompt}?")
    assert chat.session.calls[-1][1] == tokens(chat, filled(FIRST, "{prompt}?"))


def test_an_unreadable_image_is_noticed_before_anything_runs(chat: FakeChat, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        chat.ask(tmp_path / "none.jpg", "What is it?")
    assert chat.session.calls == []


# --- Streaming --------------------------------------------------------------------------------------------------------


def test_pieces_are_the_text_and_hold_no_broken_character(roomy: FakeChat) -> None:
    text = "Grün 🙂 日本"
    answer = tokens(roomy, text)
    assert any("\ufffd" in roomy.tokenizer.decode([token]) for token in answer), "no character spans tokens"
    says(roomy, [*answer, END])
    pieces: list[str] = []
    found = roomy.ask(PHOTO, "What is it?", on_text=pieces.append)
    assert found.text == "".join(pieces) == text
    assert all(piece and "\ufffd" not in piece for piece in pieces)
    assert len(pieces) > 3


def test_a_character_that_the_limit_cuts_is_in_the_pieces_too(chat: FakeChat) -> None:
    answer = tokens(chat, "a 🙂")
    cut = answer[:-1]
    assert chat.tokenizer.decode(cut).endswith("\ufffd")
    says(chat, answer)
    pieces: list[str] = []
    found = chat.ask(PHOTO, "What is it?", len(cut), on_text=pieces.append)
    assert found.text == "".join(pieces) == chat.tokenizer.decode(cut)


@given(answer=st.lists(st.integers(0, 1549), min_size=1, max_size=ROOM))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_are_the_text_whatever_the_tokens(chat: FakeChat, answer: list[int]) -> None:
    says(chat, [*answer, END])
    pieces: list[str] = []
    found = chat.ask(PHOTO, "What is it?", on_text=pieces.append)
    assert "".join(pieces) == found.text == chat.tokenizer.decode(found.token_ids, skip_special_tokens=True)


# --- Conversations ----------------------------------------------------------------------------------------------------


def test_a_reply_needs_an_image(chat: FakeChat) -> None:
    with pytest.raises(UserError, match=r"no image yet: ask\(\) starts a conversation, reply\(\) continues it"):
        chat.reply("And now?")
    for step in (lambda: chat.session.decode(5), lambda: chat.session.extend([5])):
        with pytest.raises(UserError, match="no image yet: prefill comes before decode and extend"):
            step()
    assert chat.session.calls == []


def test_a_reply_after_an_end_token_closes_the_turn_as_the_template_does(chat: FakeChat) -> None:
    for end in (END, STOP):
        says(chat, [40, end], [50, 51, END])
        chat.ask(PHOTO, "What is it?")
        chat.session.calls.clear()
        found = chat.reply("Why?")
        assert chat.session.calls[0] == ("extend", [END, *following(chat, "Why?")])
        assert chat.session.calls[1:] == [("decode", [50]), ("decode", [51])]
        assert found.token_ids == [50, 51, END]
        assert len(found.kept) == len(found.order) == 0
        assert (found.timings.preprocess_ms, found.timings.vision_ms, found.timings.decoded_tokens) == (0, 0, 2)
        assert found.timings.prefill_ms > 0


def test_a_reply_after_an_answer_that_hit_the_limit_feeds_its_last_token(chat: FakeChat) -> None:
    says(chat, [40, 41], [99, 50, END])
    chat.ask(PHOTO, "Why?", 2)
    chat.session.calls.clear()
    chat.reply("No?")
    assert chat.session.calls == [("decode", [41]), ("extend", [END, *following(chat, "No?")]), ("decode", [50])]
    assert chat.unfed == []


def test_every_token_lies_in_its_slot(staged: FakeChat) -> None:
    says(staged, [40, 41], [99, 50, END])
    staged.ask(PHOTO, "Why?", 2)
    question = first(staged, "Why?")
    fed = [*question, 40]
    assert staged.session.past == len(fed)
    empty = [[0, 0]] * (BUCKET + ROOM)
    for layer in range(LAYERS):
        assert staged.session.stored(layer) == [[token, place] for place, token in enumerate(fed)] + empty[len(fed) :]
    staged.reply("No?", 2)
    fed += [41, END, *following(staged, "No?"), 50]
    assert staged.session.past == len(fed) <= BUCKET + ROOM
    assert staged.session.room == BUCKET + ROOM - len(fed)
    for layer in range(LAYERS):
        assert staged.session.stored(layer) == [[token, place] for place, token in enumerate(fed)] + empty[len(fed) :]


def test_a_new_image_starts_a_new_conversation(chat: FakeChat) -> None:
    says(chat, [40, 41, 42], [END])
    chat.ask(PHOTO, "What is it then?", 3)
    chat.ask(PHOTO, "Why?")
    question = first(chat, "Why?")
    assert chat.session.past == len(question)
    assert chat.unfed == []
    for layer in range(LAYERS):
        assert chat.session.stored(layer)[: len(question)] == [[token, place] for place, token in enumerate(question)]
    says(chat, [40])
    chat.ask(PHOTO, "Why?", 1)
    chat.reset()
    assert (chat.session.room, chat.unfed) == (BUCKET + ROOM, [])
    with pytest.raises(UserError, match="no image yet"):
        chat.reply("And now?")


def test_an_answer_ends_where_the_caches_are_full(chat: FakeChat) -> None:
    says(chat, [40, 41, 42, END], range(50, 99))
    chat.ask(PHOTO, "Why?")
    room = chat.session.room - 1 - len(following(chat, "No?"))
    assert 0 < room < ROOM
    found = chat.reply("No?")
    assert len(found.token_ids) == room + 1, "the last token needs no slot of its own"
    assert chat.session.room == 0
    assert chat.unfed == found.token_ids[-1:]


def test_a_full_conversation_is_refused_and_left_as_it_was(chat: FakeChat) -> None:
    says(chat, range(40, 40 + ROOM), [END])
    chat.ask(PHOTO, "Why?")

    def state() -> object:
        session = chat.session
        return session.past, chat.unfed, len(session.calls), [session.stored(layer) for layer in range(LAYERS)]

    before = state()
    needed = 2 + len(following(chat, "What about it?"))
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            chat.reply("What about it?")
        assert str(caught.value) == (
            f"the conversation is full: {needed} more tokens, room for {chat.session.room}; start a new one"
        )
    with pytest.raises(UserError, match="max_new_tokens=0"):
        chat.reply("No?", 0)
    assert state() == before
    chat.ask(PHOTO, "Why?")
    assert chat.session.past == len(first(chat, "Why?"))


def test_a_listener_that_fails_leaves_a_conversation_that_can_go_on(chat: FakeChat) -> None:
    def broken(_piece: str) -> None:
        raise KeyboardInterrupt

    says(chat, [40, 41], [99, END])
    with pytest.raises(KeyboardInterrupt):
        chat.ask(PHOTO, "Why?", on_text=broken)
    chat.session.calls.clear()
    says(chat, [99, END])
    chat.reply("No?")
    assert chat.session.calls == [("decode", [40]), ("extend", [END, *following(chat, "No?")])]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("broken", ["prefill", "decode"])
def test_logits_that_are_not_finite_are_no_answer(
    chat: FakeChat, monkeypatch: pytest.MonkeyPatch, broken: MethodName, value: float
) -> None:
    run = chat.session.run

    def spoiled(method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = run(method, inputs)
        if method == broken:
            outputs["logits"][7] = value
        return outputs

    monkeypatch.setattr(chat.session, "run", spoiled)
    says(chat, [40, END])
    with pytest.raises(UserError, match="logits that are not finite: its weights or its graph are broken"):
        chat.ask(PHOTO, "Why?")


# --- The tokenizer ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_text("graph")
    (tmp_path / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
    write_manifest(tmp_path, make_manifest())
    return tmp_path


def test_the_tokenizer_is_the_bundles_own(folder: Path) -> None:
    session = FakeSession(folder, make_manifest())
    session.load_ms = 1000.0
    chat = Chat(session)
    session.script = iter([40, END])
    answer = chat.ask(PHOTO, "Why?")
    assert answer.text == chat.tokenizer.decode([40])
    assert answer.timings.load_ms == chat.load_ms > 1000


def test_a_session_without_a_bundle_needs_one(tokenizer: Tokenizer) -> None:
    session = FakeSession(Path(), make_manifest())
    session.folder = None
    with pytest.raises(UserError, match="a session without a bundle has no tokenizer: give one"):
        Chat(session)
    assert Chat(session, tokenizer).tokenizer is tokenizer


def test_a_tokenizer_that_pads_and_cuts_is_read_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "fake", "session_cases:FakeSession")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_to_multiple_of=8, pad_id=STOP, pad_token="<|endoftext|>")
    tokenizer.enable_truncation(max_length=5)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_manifest(folder, make_manifest())
    session = load(folder)
    assert isinstance(session, FakeSession)
    session.script = iter([END])
    Chat(session).ask(PHOTO, "What is it?")
    plain = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    wanted = plain.encode(filled(FIRST, "What is it?"), add_special_tokens=False).ids
    assert session.calls[-1] == ("prefill", wanted)


@pytest.mark.parametrize("content", ["", "{}", '{"model": 1}'])
def test_files_that_are_no_tokenizer(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json is no tokenizer"):
        Chat(FakeSession(folder, make_manifest()))


def test_vlmp_verify_reads_the_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(Path(__file__).parent / "bundle/schema_1/onnx", bundle)
    (bundle / "tokenizer.json").write_text("{}")
    write_manifest(bundle, upgraded(json.loads((bundle / MANIFEST_NAME).read_text())))
    with pytest.raises(SystemExit, match="2"):
        verify([str(bundle)])
    assert "tokenizer.json is no tokenizer" in capsys.readouterr().err


# --- Two chats --------------------------------------------------------------------------------------------------------


def test_a_chat_does_not_go_on_in_the_conversation_of_another(chat: FakeChat, tokenizer: Tokenizer) -> None:
    other = Chat(chat.session, tokenizer)
    says(chat, [40, 41], [50, 51], [99, END])
    chat.ask(PHOTO, "Why?", 2)
    other.ask(PHOTO, "Who?", 2)
    with pytest.raises(UserError, match="no image yet"):
        chat.reply("No?")
    assert (chat.unfed, other.unfed) == ([], [51])
    assert other.reply("No?").token_ids == [END]
