"""Python's host loop against the scripted conversations."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conformance_files import FOLDER, read
from make_dialogs import KINDS
from PIL import Image
from scripted import ScriptedSession
from tokenizers import Tokenizer
from vlmp.runtimes import Chat
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest

PHOTO = Image.new("RGB", (80, 40), (200, 100, 50))
REFUSALS = {
    "empty_prompt": "the prompt is empty",
    "prompt_too_long": r"the prompt has (?P<tokens>\d+) tokens, the bundle takes up to (?P<most>\d+)",
    "limit": r"this bundle allows 1 to (?P<most>\d+)",
    "no_image": "no image yet",
    "full": r"the conversation is full: (?P<needed>\d+) more tokens",
}


@pytest.fixture(params=KINDS)
def chat(request: pytest.FixtureRequest) -> Chat:
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer/tiny/tokenizer.json"))
    return Chat(ScriptedSession(Manifest.model_validate(read(f"dialog/{request.param}.json"))), tokenizer)


def scripted(chat: Chat) -> ScriptedSession:
    assert isinstance(chat.session, ScriptedSession)
    return chat.session


def act(chat: Chat, action: dict[str, Any]) -> dict[str, Any]:
    """What an action came to, without the state after it."""
    session = scripted(chat)
    session.script, session.action, session.stop = iter(action.get("script", [])), action, chat.stop
    session.calls.clear()
    pieces: list[str] = []

    def listen(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == action.get("stop_after"):  # each token of such an answer is a piece
            chat.stop()

    limit, meant = action.get("limit"), action.get("control_tokens", False)
    try:
        if action["do"] == "reset":
            chat.reset()
            return {}
        if action["do"] == "ask":
            found = chat.ask(PHOTO, action["prompt"], limit, listen, control_tokens=meant)
            pruned = bool(found.token_ids)
            assert [kept.tolist() for kept in found.stages] == ([[1, 2, 3], [1, 3]] if pruned else [])
            assert found.order.tolist() == ([3, 1] if pruned else [])
        else:
            found = chat.reply(action["prompt"], limit, listen, control_tokens=meant)
    except UserError as error:
        if "logits that are not finite" in str(error):
            return {"failed": True}
        ((code, match),) = [
            (code, match) for code, says in REFUSALS.items() if (match := re.search(says, str(error))) is not None
        ]
        return {"refused": code, **{name: int(number) for name, number in match.groupdict().items()}}
    except RuntimeError:
        return {"failed": True}
    stopped = {"stopped": True} if found.stopped else {}
    return {"tokens": found.token_ids, "text": found.text, "pieces": pieces, **stopped}


@pytest.mark.parametrize("case", read("dialog/cases.json")["cases"], ids=lambda case: case["name"])
def test_conversations(chat: Chat, case: dict[str, Any]) -> None:
    for action in case["actions"]:
        found = act(chat, action)
        session = scripted(chat)
        found |= {"calls": session.calls, "held": session.stored(), "unfed": chat.unfed, "room": session.room}
        assert found == action["then"]


def test_the_fitted_picture_is_what_vision_gets(chat: Chat) -> None:
    session = scripted(chat)
    seen = []
    run = session.run
    session.run = lambda method, inputs: (seen.append(dict(inputs)), run(method, inputs))[1]  # type: ignore[method-assign]
    session.script = iter([1538])
    chat.ask(PHOTO, "Why?")
    assert seen[0]["image"][0, :, 28, 28].tolist() == [200, 100, 50]
    assert seen[0]["image"][0, :, 0, 0].tolist() == [1, 2, 3]
