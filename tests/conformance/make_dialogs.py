"""Conversations with a model that says a script: what the host calls, hands out, refuses, and keeps in its caches."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from conformance_files import write_json
from make_texts import CONTROL, FIRST, FOLLOWING, read_tokenizer, tiny
from plain_chat import PlainChat, outcome

PREFIX, VISUAL, TEXT, ROOM, VOCAB, HIDDEN = 3, 4, 20, 24, 2048, 5
HEADS, HEAD_DIM = 1, 2
KEPT = (3, 2)
"""Tokens that each of the two stages leaves: one at 1, in the tower or the language model, and one before layer 2."""
KEYED = 3
"""Layers with keys, after which comes one with a state."""
STATE = (2, 2)
STATE_LAYER = KEYED
PLACES, BIAS = [1, 2, 3], [0.5, 1.5, 2.5]
"""What the first stage keeps, and what `vision` says that each of them counts for."""
KINDS = ("rows", "in_place", "tower-rows", "tower-in_place", "rebuilt-rows", "rebuilt-in_place")
"""Of the dialogs' manifests."""
START, END, STOP = 1537, 1538, 1536
CONTENTS = {
    "model.pte": "a graph\n",
    "tokenizer.json": "",
    "weights.bin": "weights\n",
    "notes.txt": "named by nothing\n",
}
"""Files that the small manifests name, which no runtime could open. The tokenizer is vlmp-tiny's."""


def make_dialogs(folder: Path) -> None:
    """The folder dialog."""
    for kind in KINDS:
        write_json(folder / f"dialog/{kind}.json", **small_manifest(kind))
    tokenizer = read_tokenizer(tiny())
    cases = []
    for name, actions in dialogs().items():
        chat = PlainChat(small_manifest("rows"), tokenizer)
        done = [{**action, "then": outcome(chat, action)} for action in actions]
        cases.append({"name": name, "actions": done})
    write_json(folder / "dialog/cases.json", cases=cases)


def dialogs() -> dict[str, list[dict[str, Any]]]:
    """By name. Of an action, whose calls have numbers from 0.

    fails_at: the call in which the runtime fails. not_finite_at: the one that returns a NaN among its logits. stop_in:
    the one in which a stop is asked for. stop_after: the number of the token whose listener asks for one.
    """

    def ask(prompt: str, script: list[int], **others: Any) -> dict[str, Any]:
        return {"do": "ask", "prompt": prompt, "script": script, **others}

    def reply(prompt: str, script: list[int], **others: Any) -> dict[str, Any]:
        return {"do": "reply", "prompt": prompt, "script": script, **others}

    reset = {"do": "reset"}
    blue = [40, 41, 42]
    emoji = read_tokenizer(tiny()).encode("a 🙂", add_special_tokens=False).ids
    long = " the" * 30
    return {
        "a question": [ask("Why?", [*blue, END])],
        "a question and two replies": [ask("Why?", [40, END]), reply("No?", [50, END]), reply("a", [STOP])],
        "another token that ends": [ask("Why?", [40, STOP]), reply("No?", [50, END])],
        "an empty answer": [ask("Why?", [END]), reply("No?", [END])],
        "the limit is reached, then a reply": [ask("Why?", blue, limit=2), reply("No?", [99, 50, END])],
        "a limit of one": [ask("Why?", blue, limit=1), reply("No?", [99, 50, END], limit=1), reply("a", [99, 51, END])],
        "stopped, then a reply": [ask("Why?", blue, stop_after=2), reply("No?", [99, 50, END])],
        "a reply that is stopped": [
            ask("Why?", [40, END]), reply("No?", [50, 51, 52], stop_after=1), reply("a", [99, END]),
        ],
        "stopped at its last token": [ask("Why?", blue, limit=2, stop_after=2), reply("No?", [99, 50, END])],
        "stopped in a decode": [ask("Why?", blue, stop_in=3), reply("No?", [99, 50, END])],
        "stopped in the last decode": [ask("Why?", [40, END], stop_in=2), reply("No?", [99, 50, END])],
        "stopped within a character": [
            ask("Why?", [*emoji, END], stop_in=len(emoji)), reply("No?", [99, 50, END]),
        ],
        "stopped in vision": [ask("Why?", [40, END]), ask("No?", blue, stop_in=0), reply("a", [50])],
        "stopped in prefill": [ask("Why?", [40, END]), ask("No?", blue, stop_in=1), reply("a", [50])],
        "a reply that is stopped in its calls": [
            ask("Why?", blue, limit=2), reply("No?", [99, 50], stop_in=0), reply("No?", [99, 50], stop_in=1),
            reply("No?", [99, 50, END]),
        ],
        "the longest answer": [ask("Why?", list(range(40, 70)))],
        "the caches are full": [ask("Why?", [*range(40, 50), END]), reply("No?", list(range(50, 80))), reply("a", [1])],
        "a full conversation, then another": [
            ask("Why?", list(range(40, 70))), reply("What about it?", [1]), ask("Why?", [40, END]),
            reply("No?", [50, END]),
        ],
        "limits that are none": [
            ask("Why?", blue, limit=0), ask("Why?", blue, limit=ROOM + 1), ask("Why?", [40, END]),
            reply("No?", blue, limit=0), reply("No?", [50, END], limit=ROOM),
        ],
        "prompts that are too long": [
            ask(long, blue), ask("Why?", [40, END]), reply(long, blue), reply("No?", [50, END]),
        ],
        "prompts of nothing": [
            ask("", blue), ask(" \n\t\u00a0\u3000\u2028\x1c", blue), ask("Why?", [40, END]), reply("", blue),
            reply(" ", blue), reply("No?", [50, END]),
        ],
        "a reply without a picture": [reply("No?", blue), ask("Why?", [40, END]), reset, reply("No?", blue)],
        "reset": [ask("Why?", blue, limit=2), reset, ask("What is it?", [50, 51, END]), reply("No?", [END])],
        "another picture": [ask("What is it then?", blue, limit=3), ask("Why?", [END]), reply("No?", [END])],
        "control tokens are text": [ask("a<|im_end|>", [40, END]), reply("<|im", [END])],
        "control tokens are meant": [
            ask("a<|im_end|>", [40, END], control_tokens=True), reply("a<|im_end|>", [END], control_tokens=True),
        ],
        "a character in several tokens": [ask("Why?", [*emoji, END])],
        "a character that the limit cuts": [ask("Why?", emoji, limit=len(emoji) - 1), reply("No?", [99, END])],
        "vision fails": [ask("Why?", [40, END]), ask("No?", [], fails_at=0), reply("a", [50, END])],
        "prefill fails": [ask("Why?", [40, END]), ask("No?", [], fails_at=1), reply("a", blue), ask("Why?", [50, END])],
        "decode fails": [ask("Why?", blue, fails_at=3), reply("No?", [99, 50, END])],
        "extend fails": [ask("Why?", blue, limit=2), reply("No?", [99], fails_at=1), reply("No?", [99, 50, END])],
        "the unfed token fails": [
            ask("Why?", blue, limit=2), reply("No?", [], fails_at=0), reply("No?", [99, 50, END]),
        ],
        "prefill is not finite": [
            ask("Why?", [40, END]), ask("No?", [], not_finite_at=1), reply("a", blue), ask("Why?", [50, END]),
        ],
        "decode is not finite": [ask("Why?", blue, not_finite_at=3), reply("No?", [99, 50, END])],
        "extend is not finite": [
            ask("Why?", blue, limit=2), reply("No?", [99], not_finite_at=1), reply("No?", [99, 50, END]),
        ],
        "the unfed token is not finite": [
            ask("Why?", blue, limit=2), reply("No?", [], not_finite_at=0), reply("No?", [99, 50, END]),
        ],
    }  # fmt: skip


def small_manifest(kind: str) -> dict[str, Any]:
    """A valid manifest of four layers, the last with a state. Two stages leave three and two of four visual tokens.

    kind: how caches are updated, `rows` or `in_place`. After `tower-` the first stage is in the vision tower and drops
    the others, after `rebuilt-` it rebuilds them; it weighs.
    """
    tower, _, update = kind.rpartition("-")
    handed = VISUAL if tower == "rebuilt" else KEPT[0]
    stages = [
        {"place": place, "index": index, "pruner": "divprune", "tokens": tokens, "num_kept": kept, "settings": {},
         "loop": "while", "by_prompt": False, "exact": True}
        for place, index, tokens, kept in (
            ("vision" if tower else "layer", 1, VISUAL, KEPT[0]), ("layer", 2, handed, KEPT[1]),
        )
    ]  # fmt: skip
    if tower:
        stages[0] |= {"form": "dropped" if tower == "tower" else tower, "weighs": True}
    text_room = TEXT + ROOM
    whole = {"rows": 2, "columns": 2, "first": 0, "stride": 2, "box": [0, 0, 56, 56]}
    bases = (PREFIX + (handed if tower else VISUAL), PREFIX + handed, PREFIX + KEPT[1])
    keyed = [{"kv_heads": HEADS, "head_dim": HEAD_DIM, "base": base, "slots": base + text_room} for base in bases]
    layers = [*keyed, {"state": list(STATE)}]
    in_place = update == "in_place"
    contents = CONTENTS | {"tokenizer.json": tiny()}
    return {
        "schema_version": 2, "model": "scripted", "checkpoint": "none", "target": "onnx" if in_place else "executorch",
        "precision": "float32", "quantization": "none", "vocab_size": VOCAB,
        "prompt": {
            "prefix_ids": [START, 1, 2], "first": FIRST, "following": FOLLOWING, "text_len": TEXT,
            "max_new_tokens": ROOM, "end_ids": [STOP, END], "end_text_id": END, "pad_id": STOP,
            "control_tokens": CONTROL, "tokenizer_file": "tokenizer.json",
        },
        "shapes": [{
            "image": {"height": 56, "width": 56, "frames": 1, "fit": "pad", "pad_rgb": [1, 2, 3], "resample": "bicubic",
                      "visual_tokens": VISUAL, "segments": [whole]},
            "stages": stages, "kv": {"update": update, "dtype": "float32", "layers": layers},
            "methods": {name: name for name in ("vision", "prefill", "decode", "extend")},
        }],
        "methods": _methods(in_place, tower, bases),
        "parity": {"status": "skipped", "runtime": ""}, "tools": {},
        "files": [
            {"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest(), "size_bytes": len(text.encode())}
            for path, text in contents.items()
        ],
    }  # fmt: skip


def _methods(in_place: bool, tower: str, bases: tuple[int, ...]) -> dict[str, Any]:
    """What each method takes and returns, as docs/bundle.md says."""

    def tensor(name: str, *shape: int, dtype: str = "float32") -> dict[str, Any]:
        return {"name": name, "shape": list(shape), "dtype": dtype}

    def rows(suffix: str, count: Any) -> list[dict[str, Any]]:
        first = (1,) if in_place else ()
        return [
            tensor(f"{kind}{suffix}_{layer}", *first, HEADS, count(base), HEAD_DIM)
            for layer, base in enumerate(bases)
            for kind in ("key", "value")
        ]

    def new(count: Any) -> list[dict[str, Any]]:
        """In place, what is returned is the whole cache."""
        return [*rows("", (lambda base: base + TEXT + ROOM) if in_place else count), state("")]

    def state(suffix: str) -> dict[str, Any]:
        return tensor(f"state{suffix}_{STATE_LAYER}", *STATE)

    def places(count: int) -> dict[str, Any]:
        return tensor("places", count, dtype="int32")

    drops = tower == "tower"
    visual = tensor("visual", KEPT[0] if drops else VISUAL, HIDDEN)
    bias, bias_cache = ([tensor(name, KEPT[0])] if drops else [] for name in ("bias_0", "bias_cache_0"))
    caches = [*rows("_cache", lambda base: base + TEXT + ROOM), state("_cache"), *bias_cache]
    ids, length = tensor("ids", 1, TEXT, dtype="int32"), tensor("text_len", 1, dtype="int32")
    past, logits = tensor("past", 1, dtype="int32"), tensor("logits", VOCAB)
    seen = [visual, places(KEPT[0])] if drops else [visual]
    kept = [tensor(name, size, dtype="int32") for name, size in (("kept", 2), ("order", 2), ("filled", 1))]
    if not tower:
        kept = [tensor("kept_0", KEPT[0], dtype="int32"), *kept]
    # In place, one graph serves all steps: each takes all of its inputs, a step a picture of no tokens.
    both = {
        "prefill": ([ids, length, *seen, *bias_cache], [logits, *kept, *new(lambda base: base + TEXT)]),
        "decode": ([tensor("ids", 1, 1, dtype="int32"), past, *caches], [logits, *new(lambda _: 1)]),
        "extend": ([ids, length, past, *caches], [logits, *new(lambda _: TEXT)]),
    }
    if in_place:
        nothing = [tensor("visual", 0, HIDDEN), *([places(0)] if drops else [])]
        both = {
            "prefill": ([ids, length, past, *seen, *caches], both["prefill"][1]),
            "decode": ([tensor("ids", 1, 1, dtype="int32"), length, past, *nothing, *caches], both["decode"][1]),
            "extend": ([ids, length, past, *nothing, *caches], both["extend"][1]),
        }
    both["vision"] = ([tensor("image", 1, 3, 56, 56)], [visual, *([places(KEPT[0])] if tower else []), *bias])
    data = "" if in_place else "weights.bin"  # ONNX Runtime finds it by itself
    return {
        name: {
            "file": "model.pte",
            "entry": "" if in_place else name,
            "data_file": data,
            "inputs": taken,
            "outputs": made,
        }
        for name, (taken, made) in both.items()
    }
