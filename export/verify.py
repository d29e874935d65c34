"""Verification as a part of export: PyTorch answers, the written bundle must answer the same on its own runtime."""

import gc
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
from torch import nn
from vlmp.export.prompt import ChatPrompt
from vlmp.export.quantize import compute_in_parts
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import REFERENCE_NAME, write_manifest
from vlmp.runtimes.bundle.manifest import Manifest, MethodName, ParitySpec
from vlmp.runtimes.image import open_image, to_pixels
from vlmp.runtimes.prompt import encode_turn
from vlmp.runtimes.pytorch import TorchSession
from vlmp.runtimes.session import load
from vlmp.runtimes.verify import DECODED, compare, describe, limits_of, make_reference

QUESTIONS = ("What is in this picture?", "What colour is it?")
ANSWER_TOKENS = 24


def verify_export(
    folder: Path,
    manifest: Manifest,
    prompt: ChatPrompt,
    methods: dict[MethodName, nn.Module],
    report: Callable[[str], None],
) -> ParitySpec:
    """Write the reference into the bundle, run the bundle, and compare. Empties `methods`.

    methods: the graphs in the precision of the export. Raises UserError with the figures when a limit is exceeded.
    """
    report("verify: PyTorch reference")
    for module in methods.values():
        compute_in_parts(module)
    session = TorchSession(manifest, methods)
    photo = open_image(Path(str(files("vlmp.runtimes"))) / "assets" / "photo.jpg")
    pixels = to_pixels(photo, manifest.shape.image).astype(np.uint8)
    bucket, answer = manifest.prompt.text_len, manifest.prompt.max_new_tokens
    # However small the caches: the first turn, a decoded token and at least a token of the second turn have room.
    ids = _fit_question(prompt, prompt.first, QUESTIONS[0], min(bucket, bucket + answer - 2))
    room = bucket + answer - len(ids)
    more = [prompt.end_text_id, *_fit_question(prompt, prompt.following, QUESTIONS[1], bucket - 1)][: room - 1]
    # A whole answer is compared only where rounding cannot turn a near tie.
    wanted = DECODED if limits_of(manifest, 0.0).token_share is None else ANSWER_TOKENS
    tokens = min(wanted, answer, room - len(more))
    reference = make_reference(session, pixels, ids, more, tokens)
    reference.save(folder / REFERENCE_NAME)
    # The runtime loads its own copy of the weights now.
    del session
    methods.clear()
    gc.collect()

    write_manifest(folder, manifest)
    parity = compare(load(folder, check_hashes=False), reference, report)
    if parity.status != "passed":
        report(describe(manifest, parity))
        failed = ", ".join(f"{c.name} {c.value:.3g} (limit {c.limit:g})" for c in parity.checks if not c.passed)
        raise UserError(f"verification for {manifest.target} failed, its bundle was not written: {failed}")
    return parity


def _fit_question(prompt: ChatPrompt, template: str, question: str, room: int) -> list[int]:
    """Token ids of a turn, with as many of the question's words as fit."""
    words = question.split()
    while True:
        ids = encode_turn(prompt.tokenizer, template, " ".join(words), prompt.control_tokens)
        if len(ids) <= room or not words:
            return ids
        words.pop()
