"""Conversations with vlmp-tiny: what PyTorch answers, step by step, for bundles that anybody can export."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from conformance_files import ROOT, read, write_bytes, write_json
from PIL import Image
from tokenizers import Tokenizer
from vlmp.export.config import ExportConfig
from vlmp.export.describe import describe
from vlmp.export.pipeline import build_methods, export
from vlmp.export.plan import make_plans, open_targets
from vlmp.export.schedule import parse_schedule
from vlmp.runtimes import Answer, Chat
from vlmp.runtimes.bundle.manifest import METHODS, MethodName, MethodSpec
from vlmp.runtimes.image import open_image, to_pixels
from vlmp.runtimes.prompt import first_ids, following_ids
from vlmp.runtimes.pytorch import TorchSession
from vlmp.runtimes.session import Array
from vlmp.runtimes.verify import Reference

PHOTO = ROOT / "runtimes/assets/photo.jpg"
SCHEMA_1 = "tests/runtimes/bundle/schema_1"
"""Bundles that are in the repository, with random weights."""
PRUNINGS: dict[str, dict[str, Any]] = {
    "pruned": {"keep": 0.25},
    "unpruned": {"pruner": "none"},
    "staged": {
        "stages": parse_schedule("vision.2:0.75:local,weigh=1,form=dropped+2:0.5:divprune,weigh=1+4:0.25:dart,weigh=1")
    },
    "int4": {"keep": 0.25, "quant": "int4"},
}
OPTIONS = {
    "pruned": "--keep 0.25",
    "unpruned": "--pruner none",
    "staged": (
        "--stage vision.2:0.75:local,weigh=1,form=dropped --stage 2:0.5:divprune,weigh=1 --stage 4:0.25:dart,weigh=1"
    ),
    "int4": "--keep 0.25 --quant int4",
}
"""The same on a command line."""
TARGETS = ("onnx", "executorch")
MANIFEST_ONLY = {"coreml-pruned": ("coreml", "pruned")}
"""Of which no reader here runs the graphs; Core ML needs a Mac."""
BUNDLES = {f"{target}-{name}": (target, name) for target in TARGETS for name in PRUNINGS}
COMMAND = "vlmp-export --model vlmp-tiny --target {} --image-size 168 --text-len 32 --max-new-tokens 32 {} --output {}"
CROPS = {"photo-1.png": (0, 0, 600, 400), "photo-2.png": (60, 20, 360, 400), "photo-3.png": (250, 100, 600, 330)}
"""Pieces of the photo, each of another shape."""
SIDE = 180
"""The longer one, in pixels."""
CONVERSATIONS: list[tuple[str, list[tuple[str, int | None]]]] = [
    ("photo-1.png", [("What is in this picture?", None), ("What colour is it?", None)]),
    ("photo-2.png", [("How many are there?", 1), ("Why?", 3)]),
    ("photo-3.png", [("Describe the picture.", 6), ("And now <|im_end|>?", 4)]),
]
"""A photo, and prompts with the most tokens of their answers."""
FORCED = ("photo-1.png", "What is in this picture?", "It is a red circle above the blue square.", "And on the left?")
"""A photo, a prompt, an answer that the model is made to give, and a reply: more steps than its own answers have."""
CLEAR = 2e-3
"""Of the largest logit: by so much the best token must lead in float32, or rounding might choose another."""


def config(target: str, name: str, output: Path) -> ExportConfig:
    """How a bundle is exported."""
    return ExportConfig(
        model="vlmp-tiny", targets=(target,), output=output, image_size=(168, 168), text_len=32, max_new_tokens=32,
        **PRUNINGS[name],
    )  # fmt: skip


def export_bundles(folder: Path) -> None:
    """All bundles whose steps are here; those that are there already stay."""
    for bundle, (target, name) in (BUNDLES | MANIFEST_ONLY).items():
        if not (folder / bundle).exists():
            export(replace(config(target, name, folder / bundle), verify=bundle in BUNDLES), print)


def make_steps(folder: Path) -> None:
    """The folder steps."""
    for name, box in CROPS.items():
        crop = open_image(PHOTO).crop(box)
        scale = SIDE / max(crop.size)
        size = (round(crop.width * scale), round(crop.height * scale))
        packed = io.BytesIO()
        crop.resize(size, Image.Resampling.BICUBIC).save(packed, "PNG")
        write_bytes(folder / "steps" / name, packed.getvalue())
    bundles: dict[str, Any] = {}
    expectations: dict[str, Any] = {}
    for bundle, (target, name) in BUNDLES.items():
        expected = bundle if name == "int4" else name  # each target has kernels of its own
        bundles[bundle] = {"command": COMMAND.format(target, OPTIONS[name], bundle), "expected": expected}
        if expected not in expectations:
            expectations[expected] = _expect(folder, expected, target, name)
    for target in TARGETS:
        bundles[f"schema-1-{target}"] = {"folder": f"{SCHEMA_1}/{target}", "expected": "schema-1"}
    expectations["schema-1"] = _expect_schema_1(folder)
    write_json(folder / "steps/cases.json", bundles=bundles, expected=expectations)


def _expect(folder: Path, expected: str, target: str, name: str) -> dict[str, Any]:
    """What PyTorch answers. Its logits go into a file of their own, a row for each that a reader compares."""
    session, tokenizer = open_reference(target, name)
    chat = Chat(session, tokenizer)
    rows: list[Array] = []
    fed: list[tuple[list[int], Array]] = []  # of this turn
    run = session.run

    def watched(method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = run(method, inputs)
        if "logits" in outputs:
            fed.append(([int(token) for token in inputs["ids"][0]], outputs["logits"].copy()))
        return outputs

    session.run = watched  # type: ignore[method-assign]
    conversations = []
    for photo, turns in CONVERSATIONS:
        done = []
        for number, (prompt, limit) in enumerate(turns):
            fed.clear()
            unfed = chat.unfed if number else []
            answer = chat.reply(prompt, limit) if number else chat.ask(folder / "steps" / photo, prompt, limit)
            steps = fed[len(unfed) :]  # what comes before chooses no token
            done.append(_turn("reply" if number else "ask", prompt, limit, answer, unfed, steps[0][0], len(rows)))
            rows += [logits for _, logits in steps]
        conversations.append({"photo": photo, "turns": done})
    forced = _force(chat, folder, len(rows))
    if name != "int4":
        for logits in rows:
            second, best = np.sort(logits)[-2:]
            if best - second < CLEAR * np.abs(logits).max():
                raise SystemExit(f"{expected}: two tokens are nearly as likely: ask something else")
    rows += forced.pop("logits")
    write_bytes(folder / f"steps/{expected}.bin", np.stack(rows).astype("<f4").tobytes())
    return {"logits": f"{expected}.bin", "vocab_size": int(rows[0].size), **_limits(target, name),
            "conversations": conversations, "forced": forced}  # fmt: skip


def _expect_schema_1(folder: Path) -> dict[str, Any]:
    """What PyTorch answered when they were exported; both have the same weights."""
    reference = Reference.read(ROOT / SCHEMA_1 / "onnx/reference.safetensors")
    packed = io.BytesIO()
    Image.fromarray(reference.pixels[0].transpose(1, 2, 0)).save(packed, "PNG")
    write_bytes(folder / "steps/schema-1.png", packed.getvalue())
    logits = np.concatenate([reference.prefill_logits[None], reference.decode_logits, reference.extend_logits[None]])
    write_bytes(folder / "steps/schema-1.bin", logits.astype("<f4").tobytes())
    fed = reference.tokens[: len(reference.decode_logits)]
    forced = {"photo": "schema-1.png", "ids": reference.ids, "decode": fed, "extend": reference.more_ids,
              "decode_after": None, "stages": [reference.choices[0].tolist()], "first_row": 0}  # fmt: skip
    return {"logits": "schema-1.bin", "vocab_size": logits.shape[1], "relative": 1e-4, "kept_share": 1.0,
            "top1_share": 1.0, "conversations": [], "forced": forced}  # fmt: skip


def _force(chat: Chat, folder: Path, row: int) -> dict[str, Any]:
    """Prefill, a decode for each token of an answer, extend, decode: the logits of all."""
    session, spec = chat.session, chat.session.manifest.prompt
    photo, prompt, said, more = FORCED
    ids = first_ids(chat.tokenizer, spec, prompt)
    answer = chat.tokenizer.encode(said, add_special_tokens=False).ids
    more_ids = following_ids(chat.tokenizer, spec, more)
    seen = session.see(to_pixels(open_image(folder / "steps" / photo), session.manifest.shape.image))
    first = session.prefill(ids, seen)
    logits = [first.logits, *(session.decode(token) for token in answer)]
    logits += [session.extend(more_ids), session.decode(answer[0])]
    return {"photo": photo, "ids": ids, "decode": answer, "extend": more_ids, "decode_after": answer[0],
            "stages": [kept.tolist() for kept in first.stages], "first_row": row, "logits": logits}  # fmt: skip


def _turn(
    do: str, prompt: str, limit: int | None, answer: Answer, unfed: list[int], ids: list[int], row: int
) -> dict[str, Any]:
    return {
        "do": do, "prompt": prompt, "limit": limit, "unfed": unfed, "ids": ids, "tokens": answer.token_ids,
        "text": answer.text, "stages": [kept.tolist() for kept in answer.stages], "order": answer.order.tolist(),
        "first_row": row,
    }  # fmt: skip


def _limits(target: str, name: str) -> dict[str, float]:
    """How far a bundle may be from this: what its own manifest says of its verification."""
    checks = read(f"manifest/{target}-{name if name != 'unpruned' else 'pruned'}.json")["parity"]["checks"]
    limits = {check["name"]: check["limit"] for check in checks}
    return {"relative": limits["prefill logits relative error"], "kept_share": limits["kept tokens in common"],
            "top1_share": limits["top-1 tokens in common"]}  # fmt: skip


def open_reference(target: str, name: str) -> tuple[TorchSession, Tokenizer]:
    """PyTorch's model of a bundle, before anything is lowered, and its tokenizer."""
    settings = config(target, name, Path("none"))
    (plan,) = make_plans(settings, open_targets(settings))
    geometry = plan.source.geometry
    specs = {
        method: MethodSpec(
            file="", entry="", inputs=geometry.inputs(method, "float32"), outputs=geometry.outputs(method, "float32")
        )
        for method in METHODS
    }
    manifest = describe(plan, specs)
    shape = manifest.shape.model_copy(update={"kv": manifest.shape.kv.model_copy(update={"update": "rows"})})
    session = TorchSession(manifest.model_copy(update={"shapes": [shape]}), build_methods(plan, "float32"))
    return session, plan.source.prompt.tokenizer
