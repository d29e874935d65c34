"""A session runs one call at a time, and no interruption leaves half of a turn."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prompt_cases import filled
from test_session import BUCKET, END, PHOTO, FakeSession, following, make_manifest, says
from tokenizers import Tokenizer
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.runtimes import Session, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import MethodName
from vlmp.runtimes.session import Array

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
ROUNDS = 25
QUESTIONS = ("What is in this picture?", "How many circles are there?")
WITHIN = "on_text called the session that is answering: call it when the answer is there"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


@pytest.fixture
def session(tokenizer: Tokenizer) -> FakeSession:
    return FakeSession(Path(), make_manifest(room=60), tokenizer)


# --- Threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["onnx", "executorch"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    output = tmp_path_factory.mktemp("turns") / request.param
    config = ExportConfig(
        model="vlmp-tiny", targets=(request.param,), output=output, pruner="none", image_size=(112, 112),
        max_new_tokens=24, verify=False,
    )  # fmt: skip
    export(config)
    return load(output, threads=1)


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
def test_two_threads_get_the_answers_that_one_gets(real: Session) -> None:
    asked = [(noise(seed), question) for seed, question in enumerate(QUESTIONS)]
    wanted = [real.generate(*each, 8).token_ids for each in asked]
    assert wanted[0] != wanted[1]
    found: list[list[list[int]]] = [[], []]

    def ask(place: int) -> Callable[[], None]:
        return lambda: found[place].extend(real.generate(*asked[place], 8).token_ids for _ in range(ROUNDS))

    together(ask(0), ask(1))
    assert found == [[tokens] * ROUNDS for tokens in wanted]


@pytest.mark.usefixtures("often")
def test_tensor_calls_of_two_threads_do_not_mix(real: Session) -> None:
    spec = real.manifest.shape.image
    pixels = [np.full((1, 3, spec.height, spec.width), value, np.float32) for value in (10, 200)]
    wanted = [real.vision(each) for each in pixels]
    logits = [real.prefill([40, 41 + place], wanted[place]).logits for place in (0, 1)]

    def look(place: int) -> None:
        for _ in range(ROUNDS):
            np.testing.assert_array_equal(real.vision(pixels[place]), wanted[place])
            np.testing.assert_array_equal(real.prefill([40, 41 + place], wanted[place]).logits, logits[place])

    together(lambda: look(0), lambda: look(1))


def test_another_thread_waits_until_the_whole_turn_is_over(session: FakeSession) -> None:
    says(session, [40, 41, END], [50, 51, END])
    begun = threading.Event()
    calls: list[list[tuple[MethodName, list[int]]]] = []

    def second() -> None:
        assert begun.wait(60)
        session.reply("No?")
        calls.append(list(session.calls))

    def listen(_piece: str) -> None:
        begun.set()
        waiting.join(0.05)  # it has time to break in
        assert waiting.is_alive()

    waiting = threading.Thread(target=second, daemon=True)
    waiting.start()
    answer = session.generate(PHOTO, "Why?", on_text=listen)
    waiting.join(60)
    assert answer.token_ids == [40, 41, END]
    assert [name for name, _ in calls[0]] == ["vision", "prefill", "decode", "decode", "extend", "decode", "decode"]


# --- Calls from within on_text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["generate", "reply", "vision", "prefill", "decode", "extend", "reset"])
def test_a_listener_may_not_call_its_session(session: FakeSession, what: str) -> None:
    visual = np.zeros((4, 5), np.float32)
    ways: dict[str, Callable[[], object]] = {
        "generate": lambda: session.generate(PHOTO, "Why?"),
        "reply": lambda: session.reply("Why?"),
        "vision": lambda: session.vision(np.zeros((1, 3, 56, 56), np.float32)),
        "prefill": lambda: session.prefill([5], visual),
        "decode": lambda: session.decode(5),
        "extend": lambda: session.extend([5]),
        "reset": session.reset,
    }
    says(session, [40, 41, END])
    heard: list[str] = []

    def listen(piece: str) -> None:
        with pytest.raises(UserError) as caught:
            ways[what]()
        assert str(caught.value) == WITHIN
        heard.append(piece)

    found = session.generate(PHOTO, "What is it?", on_text=listen)
    assert found.token_ids == [40, 41, END]
    assert "".join(heard) == found.text
    says(session, [50, END])
    assert session.reply("And now?").token_ids == [50, END]


def test_a_listener_may_call_another_session(session: FakeSession, tokenizer: Tokenizer) -> None:
    other = FakeSession(Path(), make_manifest(), tokenizer)
    says(session, [40, END])
    says(other, [50, END])
    found = []
    session.generate(PHOTO, "Why?", on_text=lambda _: found.append(other.generate(PHOTO, "Why?").token_ids))
    assert found == [[50, END]]


def test_a_listener_that_fails_does_not_close_the_session(session: FakeSession) -> None:
    def broken(_piece: str) -> None:
        raise OSError("broken pipe")

    says(session, [40, 41, END])
    with pytest.raises(OSError, match="broken pipe"):
        session.generate(PHOTO, "Why?", on_text=broken)
    says(session, [99, 50, END])
    together(lambda: session.reply("No?") and None)
    assert session.calls[-1] == ("decode", [50])


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


@pytest.fixture
def interrupted(tokenizer: Tokenizer) -> Interrupted:
    return Interrupted(Path(), make_manifest(room=60), tokenizer)


def rows(session: FakeSession) -> list[list[list[int]]]:
    return [session.stored(layer)[: session.past] for layer in range(len(session.manifest.shape.kv.layers))]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", [1, 2])
def test_a_first_turn_that_was_interrupted_leaves_no_conversation(
    interrupted: Interrupted, call: int, late: bool
) -> None:
    interrupted.left, interrupted.late = call, late
    says(interrupted, [40, 41, END])
    with pytest.raises(KeyboardInterrupt):
        interrupted.generate(PHOTO, "Why?")
    with pytest.raises(UserError, match="no image yet"):
        interrupted.reply("No?")
    says(interrupted, [40, END])
    assert interrupted.generate(PHOTO, "Why?").token_ids == [40, END]


@pytest.mark.parametrize("late", [False, True])
def test_a_second_picture_that_was_not_seen_leaves_the_first_conversation(interrupted: Interrupted, late: bool) -> None:
    says(interrupted, [40, END])
    interrupted.generate(PHOTO, "Why?")
    before = (interrupted.progress, rows(interrupted))
    interrupted.left, interrupted.late = 1, late
    with pytest.raises(KeyboardInterrupt):
        interrupted.generate(PHOTO, "What is it?")
    assert (interrupted.progress, rows(interrupted)) == before


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", [1, 2])
def test_a_turn_that_was_interrupted_while_it_was_fed_leaves_the_conversation_as_it_was(
    interrupted: Interrupted, call: int, late: bool
) -> None:
    """Call 1 feeds the answer's last token, call 2 the question."""
    says(interrupted, [40, 41])
    interrupted.generate(PHOTO, "Why?", 2)
    before = (interrupted.progress, rows(interrupted))
    assert interrupted.unfed == [41]
    interrupted.left, interrupted.late = call, late
    says(interrupted, [99, 98, 97])
    with pytest.raises(KeyboardInterrupt):
        interrupted.reply("No?")
    assert (interrupted.progress, rows(interrupted)) == before
    check_reply(interrupted, [40, 41])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", [3, 4, 5])
def test_an_answer_that_was_interrupted_is_in_the_conversation_as_far_as_it_came(
    interrupted: Interrupted, call: int, late: bool
) -> None:
    interrupted.left, interrupted.late = call, late
    says(interrupted, [40, 41, 42, 43, 44])
    with pytest.raises(KeyboardInterrupt):
        interrupted.generate(PHOTO, "Why?", 5)
    check_reply(interrupted, [40, 41, 42, 43, 44][: call - 2])


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_listener_that_is_interrupted_keeps_what_was_said(session: FakeSession, pieces: int) -> None:
    def listen(_piece: str) -> None:
        nonlocal pieces
        pieces -= 1
        if not pieces:
            raise KeyboardInterrupt

    said = [40, 41, 42][:pieces]
    says(session, [40, 41, 42, END])
    with pytest.raises(KeyboardInterrupt):
        session.generate(PHOTO, "Why?", on_text=listen)
    check_reply(session, said)


def check_reply(session: FakeSession, said: list[int]) -> None:
    """The next turn goes on after this answer, and each of its tokens is in the caches once."""
    question = session.tokenizer.encode(filled(session.manifest.prompt.first, "Why?"), add_special_tokens=False).ids
    says(session, [99, END] if session.unfed else [END])
    session.reply("No?")
    fed = [*question, *said, END, *following(session, "No?")]
    assert len(fed) > BUCKET
    for layer in range(len(session.manifest.shape.kv.layers)):
        assert session.stored(layer)[: session.past] == [[token, place] for place, token in enumerate(fed)]


def test_a_prefill_that_is_refused_leaves_the_conversation(session: FakeSession) -> None:
    says(session, [40, END])
    session.generate(PHOTO, "Why?")
    before = session.progress
    with pytest.raises(UserError, match="0 text tokens"):
        session.prefill([], np.zeros((4, 5), np.float32))
    assert session.progress == before
