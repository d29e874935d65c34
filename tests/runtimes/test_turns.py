"""A chat runs one turn at a time, and no interruption leaves half of one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from session_cases import BUCKET, END, LAYERS, PHOTO, TINY, FakeChat, FakeSession, first, following, make_manifest, says
from shared_exports import exported
from tokenizers import Tokenizer
from vlmp.export.config import ExportConfig
from vlmp.runtimes import Chat, Timings, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import MethodName
from vlmp.runtimes.session import Array

ROUNDS = 25
QUESTIONS = ("What is in this picture?", "How many circles are there?")
WITHIN = "on_text called what is answering: wait for the answer; only stop() may be called"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


@pytest.fixture
def chat(tokenizer: Tokenizer) -> FakeChat:
    return FakeChat(make_manifest(room=60), tokenizer)


# --- Threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["onnx", "executorch"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Chat:
    config = ExportConfig(
        model="vlmp-tiny", targets=(request.param,), output=Path(), pruner="none", image_size=(112, 112),
        text_len=16, max_new_tokens=24, verify=False,
    )  # fmt: skip
    return Chat(load(exported(tmp_path_factory, config), threads=1))


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns much more often than they usually do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8))


def together(*works: Callable[[], None]) -> None:
    """Run each in a thread of its own; raises what one of them raised."""
    faults: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if faults:
        raise faults[0]


@pytest.mark.usefixtures("often")
def test_two_threads_get_the_answers_that_one_gets(real: Chat) -> None:
    asked = [(noise(seed), question) for seed, question in enumerate(QUESTIONS)]
    wanted = [real.ask(*each, 8).token_ids for each in asked]
    assert wanted[0] != wanted[1]
    found: list[list[list[int]]] = [[], []]

    def ask(place: int) -> Callable[[], None]:
        return lambda: found[place].extend(real.ask(*asked[place], 8).token_ids for _ in range(ROUNDS))

    together(ask(0), ask(1))
    assert found == [[tokens] * ROUNDS for tokens in wanted]


@pytest.mark.usefixtures("often")
def test_tensor_calls_of_two_threads_do_not_mix(real: Chat) -> None:
    session = real.session
    spec = session.manifest.shape.image
    pixels = [np.full((1, 3, spec.height, spec.width), value, np.float32) for value in (10, 200)]
    wanted = [session.vision(each) for each in pixels]
    logits = [session.prefill([40, 41 + place], wanted[place]).logits for place in (0, 1)]

    def look(place: int) -> None:
        for _ in range(ROUNDS):
            np.testing.assert_array_equal(session.vision(pixels[place]), wanted[place])
            np.testing.assert_array_equal(session.prefill([40, 41 + place], wanted[place]).logits, logits[place])

    together(lambda: look(0), lambda: look(1))


def test_another_thread_waits_until_the_whole_turn_is_over(chat: FakeChat) -> None:
    says(chat, [40, 41, END], [50, 51, END])
    begun = threading.Event()
    calls: list[list[tuple[MethodName, list[int]]]] = []

    def second() -> None:
        assert begun.wait(60)
        chat.reply("No?")
        calls.append(list(chat.session.calls))

    def listen(_piece: str) -> None:
        begun.set()
        waiting.join(0.05)  # it has time to break in
        assert waiting.is_alive()

    waiting = threading.Thread(target=second, daemon=True)
    waiting.start()
    answer = chat.ask(PHOTO, "Why?", on_text=listen)
    waiting.join(60)
    assert answer.token_ids == [40, 41, END]
    assert [name for name, _ in calls[0]] == ["vision", "prefill", "decode", "decode", "extend", "decode", "decode"]


# --- Calls from within on_text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["ask", "reply", "reset", "session.reset", "vision", "prefill", "decode", "extend"])
def test_a_listener_may_not_call_its_session(chat: FakeChat, what: str) -> None:
    visual = np.zeros((4, 5), np.float32)
    ways: dict[str, Callable[[], object]] = {
        "ask": lambda: chat.ask(PHOTO, "Why?"),
        "reply": lambda: chat.reply("Why?"),
        "vision": lambda: chat.session.vision(np.zeros((1, 3, 56, 56), np.float32)),
        "prefill": lambda: chat.session.prefill([5], visual),
        "decode": lambda: chat.session.decode(5),
        "extend": lambda: chat.session.extend([5]),
        "reset": chat.reset,
        "session.reset": chat.session.reset,
    }
    says(chat, [40, 41, END])
    heard: list[str] = []

    def listen(piece: str) -> None:
        with pytest.raises(UserError) as caught:
            ways[what]()
        assert str(caught.value) == WITHIN
        heard.append(piece)

    found = chat.ask(PHOTO, "What is it?", on_text=listen)
    assert found.token_ids == [40, 41, END]
    assert "".join(heard) == found.text
    says(chat, [50, END])
    assert chat.reply("And now?").token_ids == [50, END]


def test_a_listener_may_call_another_session(chat: FakeChat, tokenizer: Tokenizer) -> None:
    other = FakeChat(make_manifest(), tokenizer)
    says(chat, [40, END])
    says(other, [50, END])
    found = []
    chat.ask(PHOTO, "Why?", on_text=lambda _: found.append(other.ask(PHOTO, "Why?").token_ids))
    assert found == [[50, END]]


def test_a_listener_that_fails_does_not_close_the_session(chat: FakeChat) -> None:
    def broken(_piece: str) -> None:
        raise OSError("broken pipe")

    says(chat, [40, 41, END])
    with pytest.raises(OSError, match="broken pipe"):
        chat.ask(PHOTO, "Why?", on_text=broken)
    says(chat, [99, 50, END])
    together(lambda: chat.reply("No?") and None)
    assert chat.session.calls[-1] == ("decode", [50])


# --- Interruptions ----------------------------------------------------------------------------------------------------


class Interrupted(FakeSession):
    """Is interrupted in one of its calls of graphs, before the graph has run or after."""

    left = -1
    late = False

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.left -= 1
        if self.left == 0 and not self.late:
            raise KeyboardInterrupt
        outputs = super().run(method, inputs)
        if self.left == 0:
            raise KeyboardInterrupt
        return outputs


class InterruptedChat(FakeChat):
    session: Interrupted


@pytest.fixture
def interrupted(tokenizer: Tokenizer) -> InterruptedChat:
    return InterruptedChat(make_manifest(room=60), tokenizer, Interrupted)


def state(chat: FakeChat) -> object:
    """All of the conversation."""
    session = chat.session
    rows = [session.stored(layer)[: session.past] for layer in range(LAYERS)]
    return session.progress, chat.unfed, rows


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", [1, 2])
def test_a_first_turn_that_was_interrupted_leaves_no_conversation(
    interrupted: InterruptedChat, call: int, late: bool
) -> None:
    interrupted.session.left, interrupted.session.late = call, late
    says(interrupted, [40, 41, END])
    with pytest.raises(KeyboardInterrupt):
        interrupted.ask(PHOTO, "Why?")
    with pytest.raises(UserError, match="no image yet"):
        interrupted.reply("No?")
    says(interrupted, [40, END])
    assert interrupted.ask(PHOTO, "Why?").token_ids == [40, END]


@pytest.mark.parametrize("late", [False, True])
def test_a_second_picture_that_was_not_seen_leaves_the_first_conversation(
    interrupted: InterruptedChat, late: bool
) -> None:
    says(interrupted, [40, END])
    interrupted.ask(PHOTO, "Why?")
    before = state(interrupted)
    interrupted.session.left, interrupted.session.late = 1, late
    with pytest.raises(KeyboardInterrupt):
        interrupted.ask(PHOTO, "What is it?")
    assert state(interrupted) == before


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", [1, 2])
def test_a_turn_that_was_interrupted_while_it_was_fed_leaves_the_conversation_as_it_was(
    interrupted: InterruptedChat, call: int, late: bool
) -> None:
    """Call 1 feeds the answer's last token, call 2 the question."""
    says(interrupted, [40, 41])
    interrupted.ask(PHOTO, "Why?", 2)
    before = state(interrupted)
    assert interrupted.unfed == [41]
    interrupted.session.left, interrupted.session.late = call, late
    says(interrupted, [99, 98, 97])
    with pytest.raises(KeyboardInterrupt):
        interrupted.reply("No?")
    assert state(interrupted) == before
    check_reply(interrupted, [40, 41])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", [3, 4, 5])
def test_an_answer_that_was_interrupted_is_in_the_conversation_as_far_as_it_came(
    interrupted: InterruptedChat, call: int, late: bool
) -> None:
    interrupted.session.left, interrupted.session.late = call, late
    says(interrupted, [40, 41, 42, 43, 44])
    with pytest.raises(KeyboardInterrupt):
        interrupted.ask(PHOTO, "Why?", 5)
    check_reply(interrupted, [40, 41, 42, 43, 44][: call - 2])


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_listener_that_is_interrupted_keeps_what_was_said(chat: FakeChat, pieces: int) -> None:
    def listen(_piece: str) -> None:
        nonlocal pieces
        pieces -= 1
        if not pieces:
            raise KeyboardInterrupt

    said = [40, 41, 42][:pieces]
    says(chat, [40, 41, 42, END])
    with pytest.raises(KeyboardInterrupt):
        chat.ask(PHOTO, "Why?", on_text=listen)
    check_reply(chat, said)


def check_reply(chat: FakeChat, said: list[int]) -> None:
    """The next turn goes on after this answer, and each of its tokens is in the caches once."""
    says(chat, [99, END] if chat.unfed else [END])
    chat.reply("No?")
    fed = [*first(chat, "Why?"), *said, END, *following(chat, "No?")]
    assert len(fed) > BUCKET
    for layer in range(LAYERS):
        assert chat.session.stored(layer)[: chat.session.past] == [[token, place] for place, token in enumerate(fed)]


def test_a_prefill_that_is_refused_leaves_the_conversation(chat: FakeChat) -> None:
    says(chat, [40, END])
    chat.ask(PHOTO, "Why?")
    before = chat.session.progress
    with pytest.raises(UserError, match="0 text tokens"):
        chat.session.prefill([], np.zeros((4, 5), np.float32))
    assert chat.session.progress == before


# --- Times ----------------------------------------------------------------------------------------------------------


def test_rates() -> None:
    timings = Timings(load_ms=0, prefill_ms=10, decode_ms=500, decoded_tokens=25)
    assert timings.decode_tok_s == 50
    assert timings.first_token_ms == 10
