"""Python's sessions on real bundles against what PyTorch answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance_files import FOLDER, ROOT, read
from conformance_readers import check_logits, expected_logits
from make_dialogs import VOCAB
from step_bundles import shared_folder, step_bundle
from vlmp.runtimes import Chat, Session, load
from vlmp.runtimes.image import open_image, to_pixels
from vlmp.runtimes.session import Seen

CASES = read("steps/cases.json")


@pytest.fixture(params=list(CASES["bundles"]), scope="module")
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, dict[str, Any]]:
    """A session, and what is expected of it."""
    case = CASES["bundles"][request.param]
    here = case.get("folder")
    folder = ROOT / here if here else step_bundle(shared_folder(tmp_path_factory), request.param)
    return load(folder, threads=1), CASES["expected"][case["expected"]]


def see(session: Session, photo: str) -> Seen:
    return session.see(to_pixels(open_image(FOLDER / "steps" / photo), session.manifest.shape.image))


def test_steps_with_the_expected_tokens(bundle: tuple[Session, dict[str, Any]]) -> None:
    """Every step is fed what PyTorch said, so that one that is nearly a tie spoils no later one."""
    session, expected = bundle
    if not expected["conversations"]:
        pytest.skip("this one has only forced steps")
    assert expected["vocab_size"] == session.manifest.vocab_size == VOCAB
    same_top: list[bool] = []
    kept_shares: list[float] = []
    for conversation in expected["conversations"]:
        seen = see(session, conversation["photo"])
        for turn in conversation["turns"]:
            if turn["do"] == "ask":
                first = session.prefill(turn["ids"], seen)
                logits = [first.logits]
                for found, kept in zip(first.stages, turn["stages"], strict=True):
                    kept_shares.append(float(np.isin(found, kept).mean()))
                assert first.order.tolist() == turn["order"] or expected["kept_share"] < 1
                assert sorted(first.order) == first.kept.tolist()
            else:
                for token in turn["unfed"]:
                    session.decode(token)
                logits = [session.extend(turn["ids"])]
            logits += [session.decode(token) for token in turn["tokens"][:-1]]
            check_logits(expected, turn["first_row"], np.stack(logits))
            wanted = expected_logits(expected, turn["first_row"], len(logits))
            for one, row in zip(logits, wanted, strict=True):
                gap = row.max() - row[int(np.argmax(one))]
                same_top.append(
                    bool(gap <= (expected["relative"] if expected["top1_share"] < 1 else 0) * np.abs(row).max())
                )
    assert np.mean(kept_shares) >= expected["kept_share"]
    assert np.mean(same_top) >= expected["top1_share"]


def test_many_steps(bundle: tuple[Session, dict[str, Any]]) -> None:
    session, expected = bundle
    forced = expected["forced"]
    first = session.prefill(forced["ids"], see(session, forced["photo"]))
    shares = [np.isin(found, kept).mean() for found, kept in zip(first.stages, forced["stages"], strict=True)]
    assert np.mean(shares) >= expected["kept_share"]
    logits = [first.logits, *(session.decode(token) for token in forced["decode"])]
    logits.append(session.extend(forced["extend"]))
    if forced["decode_after"] is not None:
        logits.append(session.decode(forced["decode_after"]))
    check_logits(expected, forced["first_row"], np.stack(logits))


def test_conversations_of_float32(bundle: tuple[Session, dict[str, Any]]) -> None:
    """The whole way, from a photo and words to text."""
    session, expected = bundle
    if expected["top1_share"] < 1:
        pytest.skip("rounding may turn a near tie, after which answers differ")
    chat = Chat(session)
    for conversation in expected["conversations"]:
        for turn in conversation["turns"]:
            if turn["do"] == "ask":
                answer = chat.ask(FOLDER / "steps" / conversation["photo"], turn["prompt"], turn["limit"])
                assert [kept.tolist() for kept in answer.stages] == turn["stages"]
            else:
                assert chat.unfed == turn["unfed"]
                answer = chat.reply(turn["prompt"], turn["limit"])
            assert (answer.token_ids, answer.text) == (turn["tokens"], turn["text"])
