"""The training of vlmp-tiny: what it computes is what transformers computes, and it can be interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_tiny
from PIL import Image
from tiny.checkpoint import build_config, write_checkpoint
from tiny.language import Prompts, answer_logits, answer_loss, choose_questions
from tiny.pictures import Pictures, questions
from tiny.start import WORD_SIZE, separate_labels, start_language_model
from tiny.trainer import Stage, Trainer, batches, load_stage
from tiny.vision import Heads, deepen, label_losses, visual_tokens
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2VLForConditionalGeneration
from vlmp.evaluation.scenes import make_scene
from vlmp.evaluation.scenes.labels import NOTHING, OBJECTS, SIZES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, its one-dimensional parameters off their neutral values."""
    torch.manual_seed(3)
    model = Qwen2VLForConditionalGeneration(build_config())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp("untrained")
    write_checkpoint(model, folder)
    return folder


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    return Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def prepared(checkpoint: Path, image: Image.Image, question: str) -> dict[str, torch.Tensor]:
    """Inputs by transformers' own image processor and chat template."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    seen = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")(images=[image], return_tensors="pt")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return {**tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * 144), return_tensors="pt"), **seen}


def test_a_deeper_tower_is_the_same_function_that_can_learn(checkpoint: Path, tmp_path: Path) -> None:
    model = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    image = pixels(make_scene("train", 0, 0).image)
    with torch.no_grad():
        wanted = visual_tokens(model, image)
    deepen(model, 2)
    tower = model.model.visual
    assert len(tower.blocks) == 8
    found = visual_tokens(model, image)
    assert torch.equal(found, wanted)
    found.square().sum().backward()
    learning = [bool(block.attn.proj.weight.grad.any()) for block in tower.blocks]
    assert learning == [True] * 8
    write_checkpoint(model, tmp_path)
    again = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(visual_tokens(again, image), wanted)


@torch.no_grad()
def test_visual_tokens_of_a_batch_equal_transformers(checkpoint: Path, model: Any) -> None:
    images = [make_scene("train", 0, index).image for index in range(2)]
    seen = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")(images=images, return_tensors="pt")
    expected = model.model.visual(seen["pixel_values"], grid_thw=seen["image_grid_thw"]).pooler_output
    ours = visual_tokens(model, torch.cat([pixels(image) for image in images]))
    torch.testing.assert_close(ours.flatten(0, 1), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_packed_questions_equal_one_question_at_a_time(checkpoint: Path, model: Any) -> None:
    """Each of three conversations, one of two turns, gets the logits that transformers gives it alone."""
    prompts, scene = Prompts(checkpoint), make_scene("train", 0, 1)
    talks = [
        [("What colour is the star?", "red")],
        [("Read the code.", "12"), ("Is there a red star?", "yes")],
        [("How many rings are there?", "3")],
    ]
    branches = [prompts.branch(talk) for talk in talks]
    packed = prompts.pack([branches], side=12)
    visual = visual_tokens(model, pixels(scene.image))
    logits, targets = answer_logits(model, packed, visual, len(prompts.prefix))
    start = 0
    for talk, (ids, wanted) in zip(talks, branches, strict=True):
        inputs = prepared(checkpoint, scene.image, talk[0][0])
        asked = inputs["input_ids"][0].tolist()
        whole = asked[: asked.index(ids[0])] + ids
        assert whole[: len(asked)] == asked  # the template's own prompt
        inputs["input_ids"] = torch.tensor([whole])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).long()
        expected = model(**inputs).logits[0]
        places = [len(whole) - len(ids) + i - 1 for i, target in enumerate(wanted) if target != NOTHING]
        answer = [target for target in wanted if target != NOTHING]
        assert targets[start : start + len(answer)].tolist() == answer
        torch.testing.assert_close(logits[start : start + len(answer)], expected[places], atol=1e-4, rtol=1e-3)
        start += len(answer)
    assert start == len(targets)


def test_conversations_count_alike(checkpoint: Path) -> None:
    """The loss of a packed batch is the mean of the conversations' own losses, long lists and single words."""
    prompts = Prompts(checkpoint)
    talks = [[[("Read the code.", "1234")], [("Is there a red star?", "yes")]], [[("What is left of the ring?", "7")]]]
    packed = prompts.pack([[prompts.branch(talk) for talk in each] for each in talks], side=12)
    target = packed["targets"][packed["targets"] != NOTHING]
    logits = torch.randn(len(target), 2048, generator=torch.Generator().manual_seed(0))
    lengths = [5, 2, 2]  # four digits, one word, one digit, and the end of each
    parts = zip(logits.split(lengths), target.split(lengths), strict=True)
    expected = torch.stack([torch.nn.functional.cross_entropy(*part) for part in parts]).mean()
    torch.testing.assert_close(answer_loss(logits, target, packed), expected)


def test_the_start_gives_labels_directions_and_changes_no_reading(checkpoint: Path) -> None:
    """Along a class's direction, what a visual token shows is proportional to the head's centred logit."""
    torch.manual_seed(1)
    model, heads = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32), Heads(256)
    image = torch.cat([pixels(make_scene("train", 0, index).image) for index in range(2)])
    with torch.no_grad():
        before = heads(visual_tokens(model, image))
        directions, basis = separate_labels(model, heads, image)
        visual = visual_tokens(model, image)
        after = heads(visual)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), atol=1e-4, rtol=0)
    assert float(visual.pow(2).mean().sqrt()) == pytest.approx(WORD_SIZE, rel=1e-3)
    for name, logits in before.items():
        centred = logits - logits.mean(-1, keepdim=True)
        shown = visual @ directions[name].T
        turned = (shown * centred).sum(-1) / (shown.norm(dim=-1) * centred.norm(dim=-1))
        assert float(turned.min()) > 0.999, name
        assert torch.equal(after[name].argmax(-1), logits.argmax(-1)), name


def test_words_start_as_what_they_mean(checkpoint: Path) -> None:
    torch.manual_seed(1)
    model, heads = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32), Heads(256)
    prompts = Prompts(checkpoint)
    start_language_model(model, heads, prompts, pixels(make_scene("train", 0, 0).image))
    embed = model.model.language_model.embed_tokens.weight
    for name, index, word in [("object", 10, " circle"), ("object", 7, "7"), ("colour", 0, "red"), ("row", 0, " top")]:
        (token,) = prompts.ids(word)
        assert int((heads.rows[name] @ embed[token]).argmax()) == index


@torch.no_grad()
def test_words_look_for_what_they_mean_before_any_training(checkpoint: Path) -> None:
    """Among made-up visual tokens "star" finds the stars, and behind "red" the red one, one layer later."""
    torch.manual_seed(1)
    model, heads = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32), Heads(256)
    model.set_attn_implementation("eager")
    prompts = Prompts(checkpoint)
    start_language_model(model, heads, prompts, pixels(make_scene("train", 0, 0).image))
    shape, colour = (torch.nn.functional.normalize(heads.rows[name], dim=-1) for name in ("object", "colour"))
    star, ring, red, blue = shape[OBJECTS.index("star")], shape[OBJECTS.index("ring")], colour[0], colour[4]
    visual = torch.randn(1, 144, 256) / 16
    shown = {20: star + red, 70: star + blue, 100: ring + red, 130: ring + blue}
    for place, direction in shown.items():
        visual[0, place] = direction * 2 + visual[0, place] / 2
    visual *= WORD_SIZE / visual.pow(2).mean(-1, keepdim=True).sqrt()
    packed = prompts.pack([[prompts.branch([("Is there a red star?", "yes")])]], side=12)
    first = len(prompts.prefix)
    words = model.model.language_model.embed_tokens(packed["ids"])
    attentions = model.model.language_model(
        inputs_embeds=torch.cat([words[:, :first], visual, words[:, first + 144 :]], 1),
        position_ids=packed["positions"],
        attention_mask={"full_attention": torch.where(packed["mask"], 0.0, -1e9)},
        use_cache=False,
        output_attentions=True,
    ).attentions
    (word,) = prompts.ids(" star")
    asks = int((packed["ids"][0] == word).nonzero()[0, 0])
    assert float(attentions[0][0, 2:, asks, asks - 1].min()) > 0.9  # the word before
    looks = torch.stack([layer[0, :2, asks, first : first + 144].mean(0) for layer in attentions[:2]])
    red_star, blue_star, red_ring, blue_ring = looks[:, list(shown)].T
    assert float(red_star[0] + blue_star[0]) > 0.5
    assert float(red_ring[0] + blue_ring[0]) < 0.1
    assert float(red_star[1]) > 2 * float(blue_star[1])


def test_a_stage_needs_the_one_before_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"see\.pt: stage see has 0 of 5 steps; run it first: --stage see"):
        load_stage("see", 5, {}, tmp_path)


def test_pictures_are_drawn_once_with_labels_and_right_answers(tmp_path: Path) -> None:
    first = Pictures(tmp_path, "validation", 5, 3, crowd=False)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = Pictures(tmp_path, "validation", 5, 3, crowd=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    image, labels = again.batch(np.array([2]))
    scene = make_scene("validation", 5, 2)
    assert torch.equal(image, pixels(scene.image))
    assert set(labels) == set(SIZES)
    for name, values in labels.items():
        shown = values[values != NOTHING]
        assert values.shape == (1, 144)
        assert ((shown >= 0) & (shown < SIZES[name])).all()
    assert first.asked == again.asked
    assert [tuple(asked) for asked in first.asked[2]] == questions(scene, np.random.default_rng([5, 2]))


def test_conversations_hold_the_questions_and_the_list(tmp_path: Path) -> None:
    asked = questions(make_scene("train", 0, 3), np.random.default_rng(0))
    talks = choose_questions(asked, np.random.default_rng(1), 1)
    assert talks[-1] == [asked[-1][1:]]
    assert sum(len(talk) for talk in talks[:-1]) == 8
    assert {pair for talk in talks for pair in talk} <= {(question, answer) for _, question, answer in asked}


def test_what_is_beside_a_thing_is_asked_as_often_as_a_stage_says() -> None:
    asked = [*((kind, f"{kind}?", "yes") for kind in ("code", "count", "spatial")), ("list", "List.", "all")]
    rng = np.random.default_rng(0)
    talks = [talk for _ in range(200) for talk in choose_questions(asked, rng, 4)[:-1]]
    pairs = [question for talk in talks for question, _ in talk]
    assert pairs.count("spatial?") / len(pairs) == pytest.approx(4 / 6, abs=0.05)


def test_a_checkpoint_gets_readers_that_tell_what_its_tokens_show(tmp_path: Path, model: Any) -> None:
    torch.manual_seed(0)
    heads, data = Heads(256), Pictures(tmp_path, "train", 9, 16, crowd=False)
    image, labels = data.batch(np.arange(16))
    vision = model.model.visual.merger.mlp[2].weight.clone()
    with torch.no_grad():
        before = float(label_losses(heads(visual_tokens(model, image)), labels))
    train_tiny.learn_readers(model, heads, data, steps=20)
    with torch.no_grad():
        after = float(label_losses(heads(visual_tokens(model, image)), labels))
    assert after < 0.8 * before
    assert torch.equal(model.model.visual.merger.mlp[2].weight, vision)


def test_every_epoch_shows_every_picture_once() -> None:
    stage = Stage(pictures=6, steps=6, batch=2, rate=1e-3, seed=1)
    drawn = [index.tolist() for index in batches(6, stage, 0)]
    epochs = [sorted(index for batch in part for index in batch) for part in (drawn[:3], drawn[3:])]
    assert epochs == [list(range(6))] * 2
    assert [index.tolist() for index in batches(6, stage, 4)] == drawn[4:]


def test_a_resumed_stage_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    stage = Stage(pictures=4, steps=4, batch=2, rate=1e-3, seed=1)
    image = torch.randint(0, 256, (2, 3, 56, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def train(work: Path, steps: int) -> Any:
        work.mkdir(exist_ok=True)
        torch.manual_seed(0)
        model, heads = Qwen2VLForConditionalGeneration(build_config()), Heads(256)
        trainer = Trainer("see", stage, {"vision": model.model.visual, "heads": heads}, work)
        while trainer.step < steps:
            trainer.update(sum(values.square().mean() for values in heads(visual_tokens(model, image)).values()))
        trainer.save()
        return model.model.visual.merger.mlp[2].weight.detach()

    whole = train(tmp_path / "whole", 4)
    train(tmp_path / "parts", 2)
    torch.testing.assert_close(train(tmp_path / "parts", 4), whole, atol=1e-6, rtol=1e-4)


def test_the_first_stage_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of the real stage lower its own loss, write the log, and a second call has nothing left to do."""
    stage = replace(train_tiny.STAGES["see"], pictures=8, steps=30, batch=4)
    monkeypatch.setitem(train_tiny.STAGES, "see", stage)
    monkeypatch.setattr(train_tiny, "LOG_EVERY", 1)
    monkeypatch.setattr(train_tiny, "HELD_OUT", {"see": 16, "place": 16})
    torch.manual_seed(0)
    model, heads = Qwen2VLForConditionalGeneration(build_config()), Heads(256)
    train_tiny.learn_to_see("see", model, heads, tmp_path)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    losses = [float(line.split('"loss": ')[1].rstrip("}")) for line in log if '"loss"' in line]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    train_tiny.learn_to_see("see", model, heads, tmp_path)
    assert (tmp_path / "log.jsonl").read_text().splitlines() == log
