"""Asks bundles what the readers in Kotlin and TypeScript are asked, which must say the same.

python ask_bundles.py FOLDER BUNDLE ...: writes NAME.json and NAME.npy, the logits of each call, into FOLDER. In a
process of its own ONNX Runtime is that of PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from vlmp.runtimes import Chat, load
from vlmp.runtimes.bundle.manifest import MethodName
from vlmp.runtimes.session import Array

PHOTOS = Path(__file__).parent / "conformance/files/steps"
QUESTIONS = [
    ("photo-1.png", "List the objects.", "What colour is it?"),
    ("photo-2.png", "How many are there?", "Why?"),
    ("photo-3.png", "Describe the picture.", "And now?"),
]
LIMIT = 8


def main(output: Path, bundles: list[Path]) -> None:
    """Write the answers of all bundles: two of each photo, the second one to a further question."""
    for bundle in bundles:
        session = load(bundle, threads=1)
        rows: list[Array] = []
        run = session.run

        def recorded(method: MethodName, inputs: Mapping[str, Array], run=run, rows=rows) -> dict[str, Array]:  # type: ignore[no-untyped-def]
            outputs: dict[str, Array] = run(method, inputs)
            if "logits" in outputs:
                rows.append(outputs["logits"].copy())
            return outputs

        session.run = recorded  # type: ignore[method-assign]
        chat = Chat(session)
        turns = []
        for photo, first, second in QUESTIONS:
            for answer in (chat.ask(PHOTOS / photo, first, LIMIT), chat.reply(second, LIMIT)):
                stages = [kept.tolist() for kept in answer.stages]
                turn = {"tokens": answer.token_ids, "text": answer.text, "stages": stages}
                turns.append(turn | {"order": answer.order.tolist()})
        told = {"runtime": session.runtime, "questions": QUESTIONS, "limit": LIMIT, "turns": turns}
        (output / f"{bundle.name}.json").write_text(json.dumps(told))
        np.save(output / f"{bundle.name}.npy", np.stack(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
