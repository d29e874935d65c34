"""Whole models with peers of VLM-Pruner: FastV's attention is transformers' own, and places before the language model.

The graphs of the methods alone are tested on every runtime in tests/pruner/test_peers_on_targets.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from prompt_cases import filled
from reference import Original, write_other
from torch import Tensor
from vlmp.export.config import ExportConfig
from vlmp.export.eager import open_eager
from vlmp.export.pipeline import export
from vlmp.pruner import PrunerConfig, build_pruner
from vlmp.runtimes import Chat, load
from vlmp.runtimes.cli import run as vlmp_run
from vlmp.runtimes.image import to_pixels

ROOT = Path(__file__).parents[2]
TINY = ROOT / "export/assets/vlmp-tiny"
PHOTO = ROOT / "runtimes/assets/photo.jpg"
QUESTIONS = ("What colour is the cup?", "How many spoons?")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Original:
    folder = tmp_path_factory.mktemp("other")
    write_other(folder, TINY, seed=3)
    return Original.open(folder)


def open_chat(original: Original, photo: Image.Image, **settings: Any) -> Chat:
    rows, columns = original.grid(original.inputs(photo, QUESTIONS[0]))
    side = 2 * original.processor.image_processor.patch_size
    config = ExportConfig(
        model="vlmp-tiny", targets=(), output=Path(), checkpoint=original.folder,
        image_size=(rows * side, columns * side), image_fit="stretch", text_len=40, max_new_tokens=16, **settings,
    )  # fmt: skip
    return open_eager(config)


def ask(chat: Chat, photo: Image.Image, question: str) -> Any:
    ids = chat.tokenizer.encode(filled(chat.session.manifest.prompt.first, question)).ids
    return chat.session.prefill(ids, chat.session.vision(to_pixels(photo, chat.session.manifest.shape.image)))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(PHOTO).convert("RGB")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("layer", [1, 3])
def test_fastv_sees_transformers_attention(other: Original, photo: Image.Image, layer: int, question: str) -> None:
    chat = open_chat(other, photo, pruner="fastv", prune_layer=layer, keep=0.3)
    seen: list[Tensor] = []
    prefill: Any = chat.session.methods["prefill"]
    handle = prefill.pruners[0].register_forward_pre_hook(lambda _, values: seen.append(values[2]))
    prefilled = ask(chat, photo, question)
    handle.remove()

    inputs = other.inputs(photo, question)
    with torch.no_grad():
        attentions = other.model(**inputs, output_attentions=True).attentions
    last_HL = attentions[layer - 1][0, :, -1]
    wanted_N = last_HL.mean(0)[inputs["mm_token_type_ids"][0] == 1]
    torch.testing.assert_close(seen[0], wanted_N, rtol=1e-4, atol=1e-7)
    kept = chat.session.manifest.shape.num_kept
    assert prefilled.order.tolist() == torch.sort(-wanted_N, stable=True).indices[:kept].tolist()


def test_fastv_keeps_other_tokens_for_another_question(other: Original, photo: Image.Image) -> None:
    chat = open_chat(other, photo, pruner="fastv", keep=0.3)
    assert chat.session.manifest.shape.stages[0].by_prompt
    first, second = (ask(chat, photo, question).kept.tolist() for question in QUESTIONS)
    assert first != second
    assert ask(chat, photo, QUESTIONS[0]).kept.tolist() == first


@pytest.mark.parametrize("pruner", ["random", "uniform", "divprune"])
def test_before_the_language_model(other: Original, photo: Image.Image, pruner: str) -> None:
    """transformers' own model, its prompt with only the kept visual tokens in their own positions, answers the same."""
    chat = open_chat(other, photo, pruner=pruner, prune_layer=0, keep=0.3)
    shape = chat.session.manifest.shape
    assert shape.prune_layer == 0
    caches = {entry.shape[1] for entry in chat.session.manifest.method("decode").inputs if "_cache_" in entry.name}
    assert caches == {layer.slots for layer in shape.kv.layers}
    assert shape.num_kept < shape.image.visual_tokens
    answer = chat.ask(photo, QUESTIONS[0], 12)

    inputs = other.inputs(photo, QUESTIONS[0])
    is_visual_L = inputs["mm_token_type_ids"][0] == 1
    visual_ND = other.visual(inputs)
    config = PrunerConfig(num_kept=shape.num_kept)
    (whole,) = shape.image.segments
    kept_S = build_pruner(pruner, (whole.rows, whole.columns), config)(visual_ND).kept_S
    assert answer.kept.tolist() == kept_S.tolist()

    model = other.model.model
    with torch.no_grad():
        hidden_LD = model.get_input_embeddings()(inputs["input_ids"])[0]
        hidden_LD[is_visual_L] = visual_ND
        places = [inputs[name] for name in ("input_ids", "mm_token_type_ids", "image_grid_thw")]
        position_3L = model.get_rope_index(*places)[0][:, 0]
        stays_L = ~is_visual_L
        stays_L[is_visual_L.nonzero()[:, 0][kept_S]] = True
        next_position = int(position_3L.max()) + 1
        hidden_LD, position_3L = hidden_LD[stays_L], position_3L[:, stays_L]
        for token in answer.token_ids:
            output = model.language_model(
                inputs_embeds=hidden_LD[None], position_ids=position_3L[:, None], use_cache=False
            )
            assert int(other.model.lm_head(output.last_hidden_state[0, -1]).argmax()) == token
            hidden_LD = torch.cat([hidden_LD, model.get_input_embeddings()(torch.tensor([token]))])
            position_3L = torch.cat([position_3L, torch.full((3, 1), next_position)], 1)
            next_position += 1


@pytest.mark.parametrize(("target", "pruner"), [("onnx", "divprune"), ("onnx", "fastv"), ("coreml", "divprune")])
def test_exports_answer_as_pytorch(
    target: str, pruner: str, other: Original, photo: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verified on its own runtime as a part of export; then through `vlmp-run`, on a grid that is not square."""
    config = ExportConfig(
        model="vlmp-tiny", targets=(target,), output=tmp_path / "bundle", checkpoint=other.folder, precision="float32",
        image_size=(128, 160), image_fit="stretch", pruner=pruner, keep=0.3, text_len=40, max_new_tokens=16,
    )  # fmt: skip
    (result,) = export(config)
    eager = open_eager(config)
    checks = {check.name for check in result.manifest.parity.checks}
    assert ("prefill + decode against one long prefill" in checks) is (pruner != "fastv")
    found = Chat(load(result.output)).ask(photo, QUESTIONS[0], 12)
    wanted = eager.ask(photo, QUESTIONS[0], 12)
    assert found.token_ids == wanted.token_ids
    assert found.order.tolist() == wanted.order.tolist()
    assert np.array_equal(found.kept, np.sort(found.order))

    picture = tmp_path / "kept.png"
    vlmp_run([str(result.output), "--image", str(PHOTO), "--prompt", QUESTIONS[0], "--show-kept", str(picture)])
    assert f"kept {len(found.kept)} of 20 visual tokens ({pruner})" in capsys.readouterr().err
    assert picture.is_file()
