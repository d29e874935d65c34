"""`Chat.stop`: the turn that runs ends within one token, whatever it does, and the conversation stays a right one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from reference import write_other
from session_cases import END, LAYERS, PHOTO, TINY, FakeChat, FakeSession, first, following, make_manifest, says, tokens
from tokenizers import Tokenizer
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.export.schedule import parse_schedule
from vlmp.runtimes import Answer, Chat, Session, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import MethodName
from vlmp.runtimes.onnx import OnnxSession
from vlmp.runtimes.session import Array, Stopped

QUESTION, REPLY = "What is in this picture?", "How many circles are there?"
LONGEST = 10
"""Tokens of the answers that are stopped."""
ROUNDS = 25
TRIES = 200
Control = Callable[[int], list[list[int]]]
NOTHING = 777.0
"""In rows that nothing has been written to."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


class Stopping(FakeSession):
    """The chat is stopped while one of its graphs runs: the left-th from now on."""

    left = 0
    stop: Callable[[], None]

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.left -= 1
        if self.left == 0:
            self.stop()
        return super().run(method, inputs)


class StoppingChat(FakeChat):
    session: Stopping


@pytest.fixture
def chat(tokenizer: Tokenizer) -> StoppingChat:
    chat = StoppingChat(make_manifest(room=60), tokenizer, Stopping)
    chat.session.stop = chat.stop
    return chat


def state(chat: FakeChat) -> object:
    """All of the conversation."""
    session = chat.session
    return session.progress, chat.unfed, [session.stored(layer)[: session.past] for layer in range(LAYERS)]


def check_empty(answer: Answer) -> None:
    assert answer.stopped
    assert (answer.text, answer.token_ids, answer.stages) == ("", [], [])
    assert len(answer.kept) == len(answer.order) == answer.timings.decoded_tokens == 0


# --- One thread: what is left of a turn -------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [1, 2, 3])
@pytest.mark.parametrize("way", ["on_text", "decode"])
def test_an_answer_is_kept_as_far_as_it_came(chat: StoppingChat, said: int, way: str) -> None:
    """Stopped by its listener, and while its last token is being fed."""
    answer = [40, 41, 42][:said]
    heard: list[str] = []

    def listen(piece: str) -> None:
        heard.append(piece)
        if way == "on_text" and len(heard) == said:
            chat.stop()

    chat.session.left = 2 + said if way == "decode" else 0
    says(chat, [40, 41, 42, 43, END])
    found = chat.ask(PHOTO, "Why?", on_text=listen)
    assert (found.token_ids, found.stopped, found.timings.decoded_tokens) == (answer, True, said - 1)
    assert found.text == "".join(heard) == chat.tokenizer.decode(answer)
    assert found.kept.tolist() == [1, 3]
    assert chat.unfed == answer[-1:]
    says(chat, [99, 50, END])
    after = chat.reply("No?")
    assert (after.token_ids, after.stopped) == ([50, END], False)
    fed = [*first(chat, "Why?"), *answer, END, *following(chat, "No?"), 50]
    for layer in range(LAYERS):
        assert chat.session.stored(layer)[: chat.session.past] == [[token, place] for place, token in enumerate(fed)]


@pytest.mark.parametrize("call", [1, 2], ids=["vision", "prefill"])
def test_a_first_turn_without_a_token_leaves_no_image(chat: StoppingChat, call: int) -> None:
    says(chat, [40, END])
    chat.ask(PHOTO, "Why?")
    chat.session.left = call
    says(chat, [40, 41, END])
    check_empty(chat.ask(PHOTO, "What is it?"))
    with pytest.raises(UserError, match="no image yet"):
        chat.reply("No?")
    says(chat, [40, END])
    found = chat.ask(PHOTO, "Why?")
    assert (found.token_ids, found.stopped) == ([40, END], False)


@pytest.mark.parametrize("call", [1, 2], ids=["the last answer's token", "extend"])
def test_a_later_turn_without_a_token_leaves_the_conversation_as_it_was(chat: StoppingChat, call: int) -> None:
    says(chat, [40, 41])
    chat.ask(PHOTO, "Why?", 2)
    before = state(chat)
    chat.session.left = call
    says(chat, [99, 98, 97])
    found = chat.reply("No?")
    check_empty(found)
    assert (found.timings.vision_ms, found.timings.decode_ms) == (0, 0)
    assert found.timings.prefill_ms > 0
    assert state(chat) == before
    says(chat, [99, 50, END])
    assert chat.reply("No?").token_ids == [50, END]


def test_a_picture_that_is_read_is_the_last_thing_that_a_stopped_turn_does(
    chat: StoppingChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmp.runtimes import turn

    open_image = turn.open_image
    monkeypatch.setattr(turn, "open_image", lambda image: (chat.stop(), open_image(image))[1])
    check_empty(chat.ask(PHOTO, "Why?"))
    assert chat.session.calls == []


def test_an_answer_that_ends_by_itself_was_not_stopped(chat: StoppingChat) -> None:
    says(chat, [40, 41, END], [99, END])
    assert not chat.ask(PHOTO, "Why?", 1, on_text=lambda _: chat.stop()).stopped
    found = chat.reply("No?")
    assert (found.token_ids, found.stopped) == ([END], False)


def test_pieces_are_the_text_of_an_answer_that_was_stopped_within_a_character(chat: StoppingChat) -> None:
    answer = tokens(chat, "a 🙂")
    assert len(answer) > 2
    assert chat.tokenizer.decode(answer[:-1]).endswith("\ufffd")
    chat.session.left = 2 + len(answer) - 1
    says(chat, [*answer, END])
    pieces: list[str] = []
    found = chat.ask(PHOTO, "Why?", on_text=pieces.append)
    assert found.token_ids == answer[:-1]
    assert found.text == "".join(pieces) == chat.tokenizer.decode(answer[:-1])


def test_a_stop_when_nothing_runs_does_nothing(chat: StoppingChat) -> None:
    says(chat, [40, 41, END], [50, 51, END])
    for turn in (lambda: chat.ask(PHOTO, "Why?"), lambda: chat.reply("No?")):
        chat.stop()
        found = turn()
        assert (len(found.token_ids), found.stopped) == (3, False)
        chat.stop()


def test_a_stop_that_comes_late_does_not_end_the_next_turn(chat: StoppingChat) -> None:
    """As of a thread that has looked up the turn, and goes on when that is over."""
    late: list[Callable[[], None]] = []

    def remember(_piece: str) -> None:
        assert chat._stop is not None
        late.append(chat._stop.ask)

    says(chat, [40, END], [50, 51, END])
    chat.ask(PHOTO, "Why?", on_text=remember)
    found = chat.reply("No?", on_text=lambda _: late[0]())
    assert (found.token_ids, found.stopped) == ([50, 51, END], False)


def test_calls_outside_a_turn_are_not_stopped(chat: StoppingChat) -> None:
    says(chat, [40, 41, END], [50])
    assert chat.ask(PHOTO, "Why?", on_text=lambda _: chat.stop()).stopped
    chat.session.decode(40)


def test_tensor_calls_of_ones_own_turn_can_be_stopped(chat: StoppingChat) -> None:
    session = chat.session
    says(chat, [40, 41])
    with session.turn() as stop:
        session.prefill([5], np.zeros((4, 5), np.float32))
        stop.ask()
        with pytest.raises(Stopped):
            session.decode(40)
    assert session.past == 1
    session.decode(40)


# --- Threads ----------------------------------------------------------------------------------------------------------


class Partner:
    """Another thread that stops a chat when it is told to, and is waited for."""

    def __init__(self, chat: Chat) -> None:
        self.asked, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._work, args=(chat,), daemon=True)
        self.thread.start()

    def _work(self, chat: Chat) -> None:
        assert self.asked.wait(120)
        chat.stop()
        self.done.set()

    def stop(self, *_: object) -> None:
        """Return when the other thread's `stop` has returned."""
        self.asked.set()
        assert self.done.wait(120), "stop waits for the turn"


def test_a_stop_does_not_wait_for_the_turn(chat: StoppingChat) -> None:
    says(chat, [40, 41, END])
    found = chat.ask(PHOTO, "Why?", on_text=Partner(chat).stop)
    assert (found.token_ids, found.stopped) == ([40], True)


def test_a_stop_ends_the_turn_that_runs_and_not_the_one_that_waits(chat: StoppingChat) -> None:
    says(chat, [40, 41, END], [])
    begun, answers = threading.Event(), list[Answer]()

    def second() -> None:
        assert begun.wait(60)
        answers.append(chat.ask(PHOTO, "What is it?"))

    def listen(_piece: str) -> None:
        begun.set()
        chat.stop()

    waiting = threading.Thread(target=second, daemon=True)
    waiting.start()
    says(chat, [40], [50, 51, END])
    assert chat.ask(PHOTO, "Why?", on_text=listen).token_ids == [40]
    waiting.join(60)
    assert (answers[0].token_ids, answers[0].stopped) == ([50, 51, END], False)


# --- Real bundles -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["onnx", "executorch"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With lively random weights: a trained model's answers end soon, and are alike.

    On ONNX Runtime with steps of a pruner, in which calls are cut, too; for ExecuTorch they would take minutes.
    """
    folder = tmp_path_factory.mktemp("stopped")
    write_other(folder / "checkpoint", TINY, seed=5, blocks=1)
    config = ExportConfig(
        model="vlmp-tiny", targets=(request.param,), output=folder / "bundle", checkpoint=folder / "checkpoint",
        stages=parse_schedule("0:0.4:divprune" if request.param == "onnx" else "2:0.4:uniform"),
        image_size=(224, 192), max_new_tokens=40, verify=False,
    )  # fmt: skip
    export(config)
    return config.output


@pytest.fixture
def real(folder: Path) -> Chat:
    return Chat(load(folder, threads=1))


@pytest.fixture(scope="module")
def control(folder: Path) -> Control:
    """What a chat that nobody stops answers within so many tokens, and what to a reply."""
    chat = Chat(load(folder, threads=1))
    known: dict[int, list[list[int]]] = {}

    def answers(count: int) -> list[list[int]]:
        if count not in known:
            known[count] = [chat.ask(PHOTO, QUESTION, count).token_ids, chat.reply(REPLY, LONGEST).token_ids]
            assert len(known[count][0]) == count
        return known[count]

    return answers


def watch(session: Session, before: Callable[[MethodName], None]) -> list[tuple[MethodName, bool]]:
    """Let `before` be called as each graph begins. Returns, as it grows, which ran, and whether to its end."""
    ran: list[tuple[MethodName, bool]] = []
    run = session.run

    def watched(method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        before(method)
        ran.append((method, False))
        outputs = run(method, inputs)
        ran[-1] = (method, True)
        return outputs

    session.run = watched  # type: ignore[method-assign]
    return ran


@pytest.mark.parametrize("pieces", [1, 3])
def test_another_thread_stops_an_answer(real: Chat, control: Control, pieces: int) -> None:
    partner, heard = Partner(real), list[str]()

    def listen(piece: str) -> None:
        heard.append(piece)
        if len(heard) == pieces:
            partner.stop()

    found = real.ask(PHOTO, QUESTION, LONGEST, on_text=listen)
    assert found.stopped
    assert pieces <= len(found.token_ids) < LONGEST
    assert len(heard) == pieces
    wanted = control(len(found.token_ids))
    assert [found.token_ids, real.reply(REPLY, LONGEST).token_ids] == wanted
    assert real.ask(PHOTO, QUESTION, LONGEST).token_ids == control(LONGEST)[0]


@pytest.mark.parametrize("method", ["vision", "prefill"])
def test_another_thread_stops_a_first_turn(real: Chat, control: Control, method: MethodName) -> None:
    partner = Partner(real)
    ran = watch(real.session, lambda begun: partner.stop() if begun == method else None)
    check_empty(real.ask(PHOTO, QUESTION, LONGEST))
    assert ran[-1] == (method, not isinstance(real.session, OnnxSession))
    with pytest.raises(UserError, match="no image yet"):
        real.reply(REPLY)
    assert [real.ask(PHOTO, QUESTION, 3).token_ids, real.reply(REPLY, LONGEST).token_ids] == control(3)


@pytest.mark.parametrize("method", ["decode", "extend"])
def test_another_thread_stops_a_later_turn(real: Chat, control: Control, method: MethodName) -> None:
    real.ask(PHOTO, QUESTION, 3)
    partner, before = Partner(real), (real.session.progress, real.unfed)
    assert len(real.unfed) == 1
    ran = watch(real.session, lambda begun: partner.stop() if begun == method else None)
    check_empty(real.reply(REPLY, LONGEST))
    assert ran[-1] == (method, not isinstance(real.session, OnnxSession))
    assert (real.session.progress, real.unfed) == before
    assert real.reply(REPLY, LONGEST).token_ids == control(3)[1]


def test_a_stop_at_any_moment_leaves_a_right_conversation(real: Chat, control: Control) -> None:
    """Another thread stops it after some time, which differs from round to round."""
    draw, moments = random.Random(0), set[int]()
    for _ in range(ROUNDS):
        begun, answers = threading.Event(), list[Answer]()
        watching = watch(real.session, lambda _, begun=begun: begun.set())  # type: ignore[misc]
        asking = threading.Thread(
            target=lambda: answers.append(real.ask(PHOTO, QUESTION, LONGEST)), daemon=True  # noqa: B023
        )  # fmt: skip
        asking.start()
        assert begun.wait(120)
        calls = draw.randrange(LONGEST + 2)
        while len(watching) <= calls and asking.is_alive():
            pass
        real.stop()
        asking.join(120)
        del real.session.run  # type: ignore[method-assign]
        (found,) = answers
        moments.add(len(found.token_ids))
        if not found.token_ids:
            with pytest.raises(UserError, match="no image yet"):
                real.reply(REPLY)
            continue
        assert found.stopped is (len(found.token_ids) < LONGEST)
        assert [found.token_ids, real.reply(REPLY, LONGEST).token_ids] == control(len(found.token_ids))
    assert len(moments) > 2


# --- Calls that were cut in the middle --------------------------------------------------------------------------------


@pytest.fixture
def in_place(real: Chat) -> Chat:
    """Where graphs write into the caches while they run."""
    if real.session.manifest.shape.kv.update != "in_place":
        pytest.skip("rows are stored when a call is over")
    return real


def rows(session: Session) -> list[tuple[Array, Array]]:
    """Of each cache, first layer first: what the conversation holds, and the free rows after it. Both are views."""
    found = []
    for layer, told in enumerate(session.manifest.shape.kv.layers):
        for kind in ("key", "value"):
            cache = session._caches[f"{kind}_cache_{layer}"][0]
            end = told.base + session.past
            found.append((cache[:, :end], cache[:, end:]))
    return found


@pytest.mark.parametrize("place", [0, 1], ids=["decode", "extend"])
def test_a_call_that_was_cut_in_the_middle_leaves_the_conversation(
    in_place: Chat, control: Control, place: int
) -> None:
    """Another thread sees the first layer's row appear, and stops the chat before the last layer's does."""
    session = in_place.session
    in_place.ask(PHOTO, QUESTION, 3)
    held = [before.copy() for before, _ in rows(session)]
    cut = 0
    for _ in range(TRIES):
        for _, free in rows(session):
            free[:] = NOTHING
        early, late = rows(session)[0][1], rows(session)[-1][1]
        ready, over = threading.Event(), threading.Event()

        def work(early: Array = early, ready: threading.Event = ready, over: threading.Event = over) -> None:
            ready.set()
            while early[0, place, 0] == NOTHING and not over.is_set():
                pass
            in_place.stop()

        watching = threading.Thread(target=work, daemon=True)
        watching.start()
        assert ready.wait(120)
        found = in_place.reply(REPLY, 1)
        over.set()
        watching.join(120)
        if found.stopped:
            check_empty(found)
            assert len(in_place.unfed) == 1
            for wanted, (kept, _) in zip(held, rows(session), strict=True):
                np.testing.assert_array_equal(kept, wanted)
            cut += bool(early[0, place, 0] != NOTHING and late[0, place, 0] == NOTHING)
            if cut == 3:
                break
        else:
            in_place.ask(PHOTO, QUESTION, 3)
    assert cut == 3
    assert in_place.reply(REPLY, LONGEST).token_ids == control(3)[1]


def test_a_prefill_that_was_cut_in_its_pruner_is_silent(
    in_place: Chat, control: Control, capfd: pytest.CaptureFixture[str]
) -> None:
    """The pruner comes before all layers: another thread stops the chat before the first one writes its rows."""
    session = in_place.session
    assert session.manifest.shape.prune_layer == 0
    cache, draw, cut = session._caches["key_cache_0"], random.Random(0), 0
    begun = threading.Event()
    watch(session, lambda method: begun.set() if method == "prefill" else None)
    for _ in range(TRIES):
        cache[:] = NOTHING
        begun.clear()
        spins = draw.randrange(5000)

        def work(spins: int = spins) -> None:
            assert begun.wait(120)
            for _ in range(spins):
                pass
            in_place.stop()

        watching = threading.Thread(target=work, daemon=True)
        watching.start()
        found = in_place.ask(PHOTO, QUESTION, 1)
        watching.join(120)
        cut += bool(found.stopped and cache[0, 0, 0, 0] == NOTHING)
    assert cut > 2
    assert capfd.readouterr().err == ""
    assert in_place.ask(PHOTO, QUESTION, LONGEST).token_ids == control(LONGEST)[0]


def test_whatever_a_cut_call_has_written_is_never_read(in_place: Chat, control: Control) -> None:
    in_place.ask(PHOTO, QUESTION, 3)
    for _, free in rows(in_place.session):
        free[:] = np.nan
    assert in_place.reply(REPLY, LONGEST).token_ids == control(3)[1]
    for kept, free in rows(in_place.session):
        kept[:] = np.nan
        free[:] = np.nan
    assert in_place.ask(PHOTO, QUESTION, LONGEST).token_ids == control(LONGEST)[0]
