"""The static Qwen2-VL graphs equal transformers' own model: unpruned to its `generate`, pruned to `reference.Pruned`.

Both sides compute in float32 with the same weights, so they differ by rounding only.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference import Original, Pruned, Pruning, write_other, write_untrained
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration
from vlmp.evaluation.scenes import sample
from vlmp.export.config import ExportConfig
from vlmp.export.eager import open_eager
from vlmp.export.models.qwen2_vl import Qwen2VL
from vlmp.export.schedule import DEFAULT_PRUNER, parse_schedule
from vlmp.pruner import PrunerConfig
from vlmp.runtimes import Chat
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.image import fit, to_pixels

ROOT = Path(__file__).parents[3]
TINY = ROOT / "export/assets/vlmp-tiny"
UNTRAINED_SEED = 120
OTHER_SEED = 29  # no top-1 margin of the answers below is under 3e-3, while logits are off by about 1e-5
QUESTIONS = ("What colour is the cup?", "Describe the image in detail.")
NEXT_QUESTION = "How many spoons are there?"
SCHEDULES = (
    "1:0.5+2:0.25", "0:0.5:divprune+2:0.3:fastv", "1:0.6:random+2:0.4:dart+3:0.2:vlm-pruner",
    "0:0.6:uniform+1:0.45:vlm-pruner,pivots=2,batch=5+3:0.3:divprune+4:0.2:uniform",
    "2:0.2:vlm-pruner,weigh=1", "0:0.5:divprune,weigh=1+2:0.3:fastv,weigh=1",
    "1:0.6:random,weigh=1+2:0.4:dart+3:0.2:vlm-pruner,weigh=1",
)  # fmt: skip
TOLERANCE = 1e-4
ANSWER_TOKENS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A checkpoint, the photo it looks at, and the size that transformers' processor gives this photo."""

    original: Original
    photo: Image.Image
    size: tuple[int, int]

    def inputs(self, question: str) -> dict[str, Tensor]:
        return self.original.inputs(self.photo, question)

    def chat(self, **settings: Any) -> Chat:
        return open_chat(self.original.folder, self.size, **settings)

    def behind_answer(self, question: str, next_question: str) -> list[int]:
        """Ids of transformers' chat from the end of the first answer to the start of the second."""
        _, text = self.original.render(question, "ANSWER", next_question).split("ANSWER")
        return self.original.processor.tokenizer(text)["input_ids"]


def new_case(folder: Path, photo: Image.Image) -> Case:
    original = Original.open(folder)
    rows, columns = original.grid(original.inputs(photo, QUESTIONS[0]))
    side = 2 * original.processor.image_processor.patch_size
    return Case(original=original, photo=photo, size=(rows * side, columns * side))


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    write_other(folder, TINY, seed=OTHER_SEED)
    return folder


@pytest.fixture(scope="module")
def untrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    write_untrained(folder, TINY, seed=UNTRAINED_SEED)
    return folder


@pytest.fixture(scope="module", params=["tiny wide", "other tall"])
def case(request: pytest.FixtureRequest, untrained_folder: Path, other_folder: Path) -> Case:
    photo = Image.open(ROOT / "runtimes/assets/photo.jpg").convert("RGB")
    if request.param == "tiny wide":
        return new_case(untrained_folder, photo)
    return new_case(other_folder, photo.transpose(Image.Transpose.ROTATE_90))


def open_chat(folder: Path, size: tuple[int, int], **settings: Any) -> Chat:
    """The eager graphs behind the host interface, as the pipeline builds them."""
    values: dict[str, Any] = {"pruner": "none", "text_len": 48, "max_new_tokens": 96} | settings
    config = ExportConfig(
        model="vlmp-tiny", targets=(), output=Path("unused"), checkpoint=folder, image_size=size, image_fit="stretch",
        **values,
    )  # fmt: skip
    return open_eager(config)


def question_ids(chat: Chat, question: str) -> list[int]:
    text = chat.session.manifest.prompt.first.replace("{prompt}", question)
    return chat.tokenizer.encode(text, add_special_tokens=False).ids


def visual_tokens(chat: Chat, case: Case) -> np.ndarray:
    return chat.session.vision(to_pixels(case.photo, chat.session.manifest.shape.image))


def assert_close(found: Any, wanted: Any) -> None:
    """The largest difference stays below TOLERANCE of the largest value."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (found, wanted))
    assert a.shape == b.shape
    error = np.abs(a - b).max() / np.abs(b).max()
    assert error < TOLERANCE, f"relative error {error:.2e}"


# --- Unpruned ---------------------------------------------------------------------------------------------------------


def test_photo_becomes_the_same_pixels(case: Case) -> None:
    chat = case.chat()
    fitted = fit(case.photo, chat.session.manifest.shape.image)
    wanted = case.inputs(QUESTIONS[0])["pixel_values"]
    found = case.original.processor.image_processor(images=[fitted], do_resize=False, return_tensors="pt")
    torch.testing.assert_close(found["pixel_values"], wanted, rtol=0, atol=0)
    pixels = to_pixels(case.photo, chat.session.manifest.shape.image)
    assert np.array_equal(pixels[0].transpose(1, 2, 0), np.asarray(fitted))


def test_vision_equals_transformers(case: Case) -> None:
    rows, columns = case.original.grid(case.inputs(QUESTIONS[0]))
    assert rows != columns
    visual = visual_tokens(case.chat(), case)
    assert_close(visual, case.original.visual(case.inputs(QUESTIONS[0])))


@pytest.mark.parametrize("question", [*QUESTIONS, "Wo ist die Tür?\n  <|im_end|> 深 "])
def test_prompt_ids_equal_the_processor_s(case: Case, question: str) -> None:
    chat = case.chat()
    prompt = chat.session.manifest.prompt
    image = [chat.tokenizer.token_to_id("<|image_pad|>")] * chat.session.manifest.shape.image.visual_tokens
    found = [*prompt.prefix_ids, *image, *question_ids(chat, question)]
    assert found == case.inputs(question)["input_ids"][0].tolist()


@pytest.mark.parametrize("question", QUESTIONS)
def test_unpruned_answer_equals_generate(case: Case, question: str) -> None:
    chat = case.chat()
    wanted_ids, wanted_logits = case.original.generate(case.inputs(question), ANSWER_TOKENS)
    assert len(wanted_ids) == ANSWER_TOKENS

    answer = chat.ask(case.photo, question, ANSWER_TOKENS)
    assert answer.token_ids == wanted_ids
    assert answer.text == case.original.processor.tokenizer.decode(wanted_ids, skip_special_tokens=True)
    assert answer.kept.tolist() == list(range(chat.session.manifest.shape.image.visual_tokens))

    logits = [chat.session.prefill(question_ids(chat, question), visual_tokens(chat, case)).logits]
    logits += [chat.session.decode(token) for token in wanted_ids[:-1]]
    for found, wanted in zip(logits, wanted_logits, strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("ended", [False, True], ids=["cut off", "ended"])
def test_second_turn_equals_the_whole_conversation(case: Case, ended: bool) -> None:
    """Unpruned `reply`; the first answer either runs into the limit or ends with an end token, which is not fed."""
    chat = case.chat()
    inputs = case.inputs(QUESTIONS[0])
    first_ids, _ = case.original.generate(inputs, 12)
    if ended:
        prompt = chat.session.manifest.prompt.model_copy(update={"end_ids": [first_ids[-1]]})
        chat.session.manifest = chat.session.manifest.model_copy(update={"prompt": prompt})
        assert first_ids.index(first_ids[-1]) == 11
    assert chat.ask(case.photo, QUESTIONS[0], 12).token_ids == first_ids
    answer = chat.reply(NEXT_QUESTION, ANSWER_TOKENS)

    heard_ids = first_ids[:-1] if ended else first_ids
    behind_ids = case.behind_answer(QUESTIONS[0], NEXT_QUESTION)
    whole = case.original.append(inputs, heard_ids + behind_ids)
    assert chat.session.past == len(question_ids(chat, QUESTIONS[0])) + len(heard_ids + behind_ids) + ANSWER_TOKENS - 1
    wanted_ids, wanted_logits = case.original.generate(whole, ANSWER_TOKENS)
    assert answer.token_ids == wanted_ids

    chat.session.prefill(question_ids(chat, QUESTIONS[0]), visual_tokens(chat, case))
    for token in heard_ids:
        chat.session.decode(token)
    assert_close(chat.session.extend(behind_ids), wanted_logits[0])


def test_trained_answers_equal_generate() -> None:
    """vlmp-tiny itself, on held-out scenes: short answers, and peaks sharper than random weights have."""
    original = Original.open(TINY)
    chat = open_chat(TINY, (336, 336))
    for _, scene, asked in sample("test", 5, 12):
        for question in asked:
            wanted_ids, _ = original.generate(original.inputs(scene.image, question.text), 16)
            assert chat.ask(scene.image, question.text, 16).token_ids == wanted_ids


# --- Pruned -----------------------------------------------------------------------------------------------------------


def configs_of(chat: Chat) -> list[PrunerConfig]:
    """The settings that the manifest tells of each stage."""
    return [
        PrunerConfig(num_kept=stage.num_kept, weigh=int(stage.weighs), **stage.settings)
        for stage in chat.session.manifest.shape.stages
    ]


def test_reference_that_keeps_all_tokens_equals_generate(case: Case) -> None:
    """What the pruned graphs are compared with is itself right: without pruning it is transformers' own answer."""
    inputs = case.inputs(QUESTIONS[0])
    rows, columns = case.original.grid(inputs)
    reference = Pruned(case.original, [Pruning(layer=2, config=PrunerConfig(num_kept=rows * columns))])
    found_ids, found_logits = reference.answer(reference.prefill(inputs), ANSWER_TOKENS)
    wanted_ids, wanted_logits = case.original.generate(inputs, ANSWER_TOKENS)
    assert found_ids == wanted_ids
    assert_close(found_logits, wanted_logits)


@pytest.mark.parametrize("keep", [0.12, 0.4])
@pytest.mark.parametrize("prune_layer", [1, 2, 3])
def test_pruned_answer_equals_pruned_transformers(case: Case, prune_layer: int, keep: float) -> None:
    chat = case.chat(pruner="vlm-pruner", keep=keep, prune_layer=prune_layer)
    kept_tokens = chat.session.manifest.shape.num_kept
    assert kept_tokens == int(keep * chat.session.manifest.shape.image.visual_tokens + 0.5)
    reference = Pruned(case.original, [Pruning(layer=prune_layer, config=configs_of(chat)[0])])
    wanted_ids, wanted_logits = reference.answer(reference.prefill(case.inputs(QUESTIONS[0])), ANSWER_TOKENS)

    answer = chat.ask(case.photo, QUESTIONS[0], ANSWER_TOKENS)
    assert answer.kept.tolist() == reference.kept[0].tolist()
    assert sorted(answer.order.tolist()) == answer.kept.tolist()
    assert answer.token_ids == wanted_ids

    prefilled = chat.session.prefill(question_ids(chat, QUESTIONS[0]), visual_tokens(chat, case))
    assert prefilled.filled == 0
    logits = [prefilled.logits, *(chat.session.decode(token) for token in wanted_ids[:-1])]
    for found, wanted in zip(logits, wanted_logits, strict=True):
        assert_close(found, wanted)


def test_pruned_second_turn_equals_pruned_transformers(case: Case) -> None:
    chat = case.chat(pruner="vlm-pruner", keep=0.2)
    reference = Pruned(case.original, [Pruning(layer=2, config=configs_of(chat)[0])])
    first_ids, _ = reference.answer(reference.prefill(case.inputs(QUESTIONS[0])), 12)
    assert chat.ask(case.photo, QUESTIONS[0], 12).token_ids == first_ids
    for token in [first_ids[-1], *case.behind_answer(QUESTIONS[0], NEXT_QUESTION)]:
        logits = reference.decode(token)
    assert chat.reply(NEXT_QUESTION, ANSWER_TOKENS).token_ids == reference.answer(logits, ANSWER_TOKENS)[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_stages_equal_transformers_pruned_as_often(case: Case, schedule: str) -> None:
    """Positions, what each stage keeps of the unpruned grid, and caches of a size for each group of layers."""
    stages = parse_schedule(schedule)
    chat = case.chat(pruner=DEFAULT_PRUNER, stages=stages)
    shape = chat.session.manifest.shape
    prunings = [
        Pruning(layer=stage.place.index, config=config, pruner=stage.pruner)
        for stage, config in zip(stages, configs_of(chat), strict=True)
    ]
    reference = Pruned(case.original, prunings)
    wanted = reference.prefill(case.inputs(QUESTIONS[0]))
    prefilled = chat.session.prefill(question_ids(chat, QUESTIONS[0]), visual_tokens(chat, case))
    assert [len(kept) for kept in prefilled.stages] == [int(s.keep * shape.image.visual_tokens + 0.5) for s in stages]
    assert [kept.tolist() for kept in prefilled.stages] == [kept.tolist() for kept in reference.kept]
    assert prefilled.kept.tolist() == prefilled.stages[-1].tolist()
    assert (prefilled.order.tolist(), prefilled.filled) == (reference.order_S.tolist(), 0)
    assert_close(prefilled.logits, wanted)

    for token in (7, 300, 5, 1200):
        assert_close(chat.session.decode(token), reference.decode(token))
    behind_ids = case.behind_answer(QUESTIONS[0], NEXT_QUESTION)
    extended = chat.session.extend(behind_ids)
    for token in behind_ids:
        wanted = reference.decode(token)
    assert_close(extended, wanted)
    for layer, (told, theirs) in enumerate(zip(shape.kv.layers, reference.cache.layers, strict=True)):
        slots = theirs.keys.shape[2]
        assert slots == told.base + chat.session.past
        assert_close(chat.session._caches[f"key_cache_{layer}"][:, :slots], theirs.keys[0])
        assert_close(chat.session._caches[f"value_cache_{layer}"][:, :slots], theirs.values[0])


def test_pruning_changes_the_answer(case: Case) -> None:
    """Otherwise the tests above would prove nothing about pruning."""
    unpruned = case.chat().ask(case.photo, QUESTIONS[0], ANSWER_TOKENS).token_ids
    layers = {
        tuple(
            case.chat(pruner="vlm-pruner", keep=0.12, prune_layer=layer)
            .ask(case.photo, QUESTIONS[0], ANSWER_TOKENS)
            .token_ids
        )
        for layer in (1, 2, 3)
    }
    assert len(layers | {tuple(unpruned)}) == 4


# --- The four methods among themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize(("pruner", "keep"), [("none", None), ("vlm-pruner", 0.2), ("divprune", 0.2), ("stages", None)])
def test_prefill_and_decode_equal_one_longer_prefill(case: Case, pruner: str, keep: float | None) -> None:
    if pruner == "stages":
        chat = case.chat(pruner=DEFAULT_PRUNER, stages=parse_schedule("1:0.6+2:0.4:dart+4:0.2:uniform"))
    else:
        chat = case.chat(pruner=pruner, keep=keep)
    visual, ids = visual_tokens(chat, case), question_ids(chat, QUESTIONS[0])
    bucket = chat.session.manifest.prompt.text_len
    words = np.random.default_rng(0).integers(0, 1500, bucket - len(ids)).tolist()
    short = chat.session.prefill(ids, visual)
    for token in words:
        stepwise = chat.session.decode(token)
    chat.session.prefill(ids, visual)
    at_once = chat.session.extend(words)
    long = chat.session.prefill([*ids, *words], visual)
    assert short.kept.tolist() == long.kept.tolist()
    assert_close(stepwise, long.logits)
    assert_close(at_once, long.logits)


def test_the_last_slots_of_the_caches_are_as_good_as_the_first(case: Case) -> None:
    """`extend` with its padding reaching behind the caches, and a decode into the very last slot."""
    small = case.chat(max_new_tokens=8, pruner="vlm-pruner", keep=0.2)
    large = case.chat(max_new_tokens=80, pruner="vlm-pruner", keep=0.2)
    ids = question_ids(small, QUESTIONS[0])
    words = np.random.default_rng(1).integers(0, 1500, small.session.manifest.prompt.text_len + 8 - len(ids)).tolist()
    answers = []
    for chat in (small, large):
        chat.session.prefill(ids, visual_tokens(chat, case))
        for token in words[:-4]:
            chat.session.decode(token)
        answers.append([chat.session.extend(words[-4:-1]), chat.session.decode(words[-1])])
    assert small.session.room == 0
    for found, wanted in zip(*answers, strict=True):
        assert_close(found, wanted)
    with pytest.raises(UserError, match="full"):
        small.session.decode(words[0])


def test_an_earlier_conversation_leaves_nothing_behind(case: Case) -> None:
    chat = case.chat()
    fresh = chat.ask(case.photo, QUESTIONS[1], 8).token_ids
    chat.ask(case.photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), QUESTIONS[0], 60)
    chat.reply(NEXT_QUESTION, 8)
    assert chat.ask(case.photo, QUESTIONS[1], 8).token_ids == fresh


@pytest.mark.parametrize("refused", [{"prompt": "word " * 99}, {"prompt": "Why?", "max_new_tokens": 97}])
def test_a_refused_turn_leaves_the_conversation_as_it_was(case: Case, refused: dict[str, Any]) -> None:
    chat = case.chat()
    chat.ask(case.photo, QUESTIONS[0], 8)
    wanted = chat.reply(NEXT_QUESTION, 8).token_ids
    chat.ask(case.photo, QUESTIONS[0], 8)
    with pytest.raises(UserError):
        chat.reply(**refused)
    assert chat.reply(NEXT_QUESTION, 8).token_ids == wanted


def test_a_turn_that_does_not_fit_feeds_nothing(case: Case) -> None:
    chat = case.chat(max_new_tokens=8)
    chat.ask(case.photo, QUESTIONS[0], 8)
    chat.session.decode(0)
    while chat.session.room > 4:
        chat.session.decode(0)
    past, unfed = chat.session.past, chat.unfed
    with pytest.raises(UserError, match="full"):
        chat.reply(NEXT_QUESTION, 8)
    assert (chat.session.past, chat.unfed) == (past, unfed)


def test_an_answer_stopped_by_the_app_can_be_continued(case: Case) -> None:
    """`on_text` raises after some tokens: the one that it saw last is not lost."""
    chat = case.chat()
    wanted_ids, _ = case.original.generate(case.inputs(QUESTIONS[0]), 8)
    shown: list[str] = []

    def stop(text: str) -> None:
        shown.append(text)
        if chat.session.past == len(question_ids(chat, QUESTIONS[0])) + 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.ask(case.photo, QUESTIONS[0], 40, stop)
    stopped = chat.reply(NEXT_QUESTION, 8).token_ids
    assert case.original.processor.tokenizer.decode(wanted_ids).startswith("".join(shown))
    chat.ask(case.photo, QUESTIONS[0], 8)
    assert stopped == chat.reply(NEXT_QUESTION, 8).token_ids


# --- Checkpoints ------------------------------------------------------------------------------------------------------


def copy_of(folder: Path, to: Path, **files: dict[str, Any]) -> Path:
    """A copy of a checkpoint; files: name of a JSON file without its ending -> what replaces or extends its content."""
    shutil.copytree(folder, to)
    for name, content in files.items():
        (to / f"{name}.json").write_text(json.dumps(content))
    return to


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Every parameter that the graphs take from a checkpoint."""
    methods = open_chat(folder, (224, 448)).session.methods
    return {
        f"{method}.{name}": value
        for method in ("vision", "prefill")
        for name, value in methods[method].named_parameters()
    }


def assert_same_weights(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("original_format", [True, False], ids=["hub names", "new names"])
@pytest.mark.parametrize("shard_size", ["500KB", "1GB"], ids=["sharded", "one file"])
def test_layouts_of_a_bfloat16_checkpoint_load_equally(
    other_folder: Path, tmp_path: Path, shard_size: str, original_format: bool
) -> None:
    folder = copy_of(other_folder, tmp_path / "checkpoint")
    (folder / "model.safetensors").unlink()
    model = Qwen2VLForConditionalGeneration.from_pretrained(other_folder, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=shard_size, save_original_format=original_format)
    shards = sorted(folder.glob("*.safetensors"))
    assert (len(shards) > 3, (folder / "model.safetensors.index.json").is_file()) == (shard_size != "1GB",) * 2
    names = set()
    for path in shards:
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    assert ("model.norm.weight" in names, "model.language_model.norm.weight" in names) == (
        original_format,
        not original_format,
    )

    weights = weights_of(folder)
    assert_same_weights(weights, weights_of(other_folder))
    embedding = model.get_input_embeddings().weight.float()
    assert torch.equal(weights["prefill.decoder.embed.weight"], embedding)


def test_both_kernels_are_summed_in_float32(other_folder: Path) -> None:
    """A sum rounded to bfloat16 would move the visual tokens by 0.2 %."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(other_folder, dtype=torch.bfloat16)
    kernel = model.model.visual.patch_embed.proj.weight.float().sum(2)
    assert torch.equal(weights_of(other_folder)["vision.patch.weight"], kernel)


@pytest.mark.parametrize("beside", ["one file", "sharded"])
def test_a_stray_weight_file_changes_nothing(other_folder: Path, tmp_path: Path, beside: str) -> None:
    folder = copy_of(other_folder, tmp_path / "checkpoint")
    if beside == "sharded":
        (folder / "model.safetensors").unlink()
        model = Qwen2VLForConditionalGeneration.from_pretrained(other_folder, dtype=torch.bfloat16)
        model.save_pretrained(folder, max_shard_size="500KB")
    save_file({"model.norm.weight": torch.zeros(288)}, folder / "training.safetensors")
    assert_same_weights(weights_of(folder), weights_of(other_folder))


def hub_config(folder: Path) -> dict[str, Any]:
    """The config as the hub's Qwen2-VL checkpoints write it: text settings at the top level, M-RoPE as a scaling."""
    config = json.loads((folder / "config.json").read_text())
    settings = config.pop("text_config")
    rope = settings.pop("rope_parameters")
    for name in ("model_type", "layer_types"):
        settings.pop(name)
    vision = {
        name: value
        for name, value in config["vision_config"].items()
        if name in ("depth", "embed_dim", "hidden_size", "mlp_ratio", "num_heads", "patch_size", "spatial_merge_size")
    }
    return settings | config | {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "sliding_window": 32768,
        "vision_config": vision | {"in_chans": 3, "spatial_patch_size": vision["patch_size"]},
    }  # fmt: skip


def test_flat_config_of_the_hub_reads_equally(case: Case, other_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(case.original.folder, tmp_path / "hub", config=hub_config(case.original.folder))
    answer = open_chat(folder, case.size).ask(case.photo, QUESTIONS[0], 16).token_ids
    assert answer == case.chat().ask(case.photo, QUESTIONS[0], 16).token_ids
    assert answer == case.original.generate(case.inputs(QUESTIONS[0]), 16)[0]
    tied = Qwen2VL(folder).config.tie_word_embeddings
    assert tied == case.original.model.config.tie_word_embeddings == (case.original.folder != other_folder)


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("text_config", "use_sliding_window", True),
        ("text_config", "hidden_act", "gelu"),
        ("text_config", "num_key_value_heads", 3),
        ("text_config", "rope_parameters", {"rope_type": "linear", "factor": 2.0, "mrope_section": [8, 12, 12]}),
        ("text_config", "rope_parameters", {"rope_type": "default", "mrope_section": [8, 12, 8]}),
        ("text_config", "rope_parameters", {"rope_type": "default", "mrope_section": [8, 4, 4, 0, 8, 8]}),
        ("text_config", "rope_parameters", {"rope_type": "default"}),
        ("vision_config", "hidden_act", "gelu"),
        ("vision_config", "hidden_size", 512),
        ("vision_config", "spatial_merge_size", 4),
        ("vision_config", "temporal_patch_size", 1),
        ("vision_config", "rope_parameters", {"rope_type": "axial", "rope_theta": 100.0}),
    ],
)
def test_unsupported_settings_are_refused(tmp_path: Path, part: str, setting: str, value: Any) -> None:
    config = json.loads((TINY / "config.json").read_text())
    config[part][setting] = value
    folder = copy_of(TINY, tmp_path / "checkpoint", config=config)
    with pytest.raises(UserError, match=r"config\.json: .* is .*, only .* is supported") as refusal:
        Qwen2VL(folder)
    assert "\n" not in str(refusal.value)
