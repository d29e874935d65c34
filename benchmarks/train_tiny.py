"""Train `vlmp-tiny` from scratch on scenes, in stages that can be interrupted and resumed.

    python benchmarks/train_tiny.py [--work build/train-tiny] [--stage see ...] [--output export/assets/vlmp-tiny]
    python benchmarks/train_tiny.py --stage together --start CHECKPOINT   # go on from trained weights
    python benchmarks/train_tiny.py --stage together --start CHECKPOINT --deepen 2   # with a tower twice as deep

1. `see`: the vision tower learns what each visual token of a crowded picture shows.
2. `place`: the same on scenes, with where things stand and what is beside them.
3. `read`: the language model learns to answer from the frozen visual tokens. Its words for things begin as the
   directions in which the tokens show them, and the questions about one picture share its sequence.
4. `together`: both.
5. `beside`: the language model once more, mostly on what is left of or above a thing: only now do tokens tell it well.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tiny.checkpoint import build_config, write_checkpoint, write_tokenizer
from tiny.language import Prompts, answer_logits, answer_loss, choose_questions
from tiny.pictures import Pictures
from tiny.start import start_language_model
from tiny.trainer import CHECK_EVERY, LOG_EVERY, Stage, Trainer, batches, load_stage
from tiny.vision import Heads, deepen, label_losses, visual_tokens
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration as Qwen2VL
from vlmp.evaluation.scenes import KINDS, SIDE
from vlmp.evaluation.scenes.labels import NOTHING, SIZES, TOKEN

BFLOAT16 = torch.cpu._init_amx()
"""Whether to multiply in bfloat16: a third faster where the processor has AMX, slower elsewhere."""
# Muon orthogonalises in bfloat16, for which oneDNN picks AMX where the processor names it, usable or not.
if not BFLOAT16:
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "see": Stage(pictures=30000, steps=2400, batch=32, rate=3e-3, seed=1),
    "place": Stage(pictures=24000, steps=1500, batch=16, rate=1.5e-3, seed=3),
    "read": Stage(pictures=24000, steps=2000, batch=16, rate=2e-3, seed=3, ns_steps=3),
    "together": Stage(pictures=24000, steps=2400, batch=16, rate=1e-3, seed=4, ns_steps=3, spatial=2),
    "beside": Stage(pictures=24000, steps=1500, batch=16, rate=1.5e-3, seed=4, ns_steps=3, spatial=4),
}
HELD_OUT = {"see": 96, "place": 96, "read": 192, "together": 192, "beside": 192}
"""Validation pictures of each stage."""
LABEL_WEIGHT = 0.3
"""Weight of the labels' loss beside that of the answers."""


@torch.no_grad()
def label_accuracy(model: Qwen2VL, heads: Heads, data: Pictures) -> dict[str, float]:
    """Share of right tokens on validation pictures by kind of label; digits and shapes also apart."""
    right: dict[str, list[Tensor]] = {}
    for index_B in np.arange(len(data)).reshape(-1, 16):
        image_B3HW, labels = data.batch(index_B)
        logits = heads(visual_tokens(model, image_B3HW))
        for name, target in labels.items():
            hit = logits[name].argmax(-1) == target
            right.setdefault(name, []).append(hit[target != NOTHING])
            if name == "object":
                right.setdefault("digit", []).append(hit[(target >= 0) & (target < 10)])
                right.setdefault("shape", []).append(hit[(target >= 10) & (target < SIZES["object"] - 1)])
    return {name: float(torch.cat(hits).float().mean()) for name, hits in right.items() if torch.cat(hits).numel()}


def learn_to_see(name: str, model: Qwen2VL, heads: Heads, work: Path) -> None:
    """Stages `see` and `place`: the vision tower and the heads on labelled tokens."""
    stage, crowd = STAGES[name], name == "see"
    trainer = Trainer(name, stage, {"vision": model.model.visual, "heads": heads}, work)
    held_out = Pictures(work, "validation", 0, HELD_OUT[name], crowd=crowd)
    data = Pictures(work, "train", stage.seed, stage.pictures, crowd=crowd)
    for index_B in batches(len(data), stage, trainer.step):
        image_B3HW, labels = data.batch(index_B)
        with torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16):
            loss = label_losses(heads(visual_tokens(model, image_B3HW)), labels)
        trainer.update(loss)
        if trainer.step % LOG_EVERY == 0:
            trainer.log(loss=loss.item())
        if trainer.step % CHECK_EVERY == 0 or trainer.step == stage.steps:
            trainer.save()
            trainer.log(**label_accuracy(model, heads, held_out))


def learn_readers(model: Qwen2VL, heads: Heads, data: Pictures, steps: int = 300) -> None:
    """Fit the labels' readers to a trained vision tower: a checkpoint does not hold them."""
    optimizer = torch.optim.AdamW(heads.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(steps):
        image_B3HW, labels = data.batch(np.arange(16 * step, 16 * (step + 1)) % len(data))
        with torch.no_grad():
            visual_BND = visual_tokens(model, image_B3HW)
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        label_losses(heads(visual_BND), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def answer_accuracy(model: Qwen2VL, prompts: Prompts, data: Pictures) -> dict[str, float]:
    """Share of right greedy answers on validation scenes by kind, a question each of every kind that a scene has."""
    right: dict[str, list[bool]] = {}
    side = SIDE // TOKEN
    for index_B in np.arange(len(data)).reshape(-1, 16):
        image_B3HW, _ = data.batch(index_B)
        chosen = [list({kind: (kind, q, a) for kind, q, a in data.asked[index]}.values()) for index in index_B]
        packed = prompts.pack([[prompts.branch([(q, a)]) for _, q, a in asked] for asked in chosen], side)
        visual_BND = visual_tokens(model, image_B3HW)
        logits_nV, target_n = answer_logits(model, packed, visual_BND, len(prompts.prefix))
        hit = torch.ones_like(packed["targets"], dtype=torch.bool)
        hit[packed["targets"] != NOTHING] = logits_nV.argmax(-1) == target_n
        for row, asked in enumerate(chosen):
            for number, (kind, _, _) in enumerate(asked):
                right.setdefault(kind, []).append(bool(hit[row][packed["branch"][row] == number].all()))
    means = {kind: float(np.mean(hits)) for kind, hits in sorted(right.items())}
    return {**means, "all": float(np.mean([means[kind] for kind in KINDS]))}


def learn_to_answer(name: str, model: Qwen2VL, heads: Heads, work: Path, *, readers: bool = True) -> None:
    """Stages `together`, and with frozen vision `read` and `beside`: answers from visual tokens, which keep labels.

    readers: whether `heads` have learnt to read these visual tokens.
    """
    stage, frozen = STAGES[name], name != "together"
    write_tokenizer(work)
    prompts = Prompts(work)
    held_out = Pictures(work, "validation", 0, HELD_OUT[name], crowd=False)
    data = Pictures(work, "train", stage.seed, stage.pictures, crowd=False)
    if name == "read" and not (work / "read.pt").exists():
        start_language_model(model, heads, prompts, held_out.batch(np.arange(16))[0])
    if not readers and not (work / f"{name}.pt").exists():
        learn_readers(model, heads, data)
    model.model.visual.requires_grad_(not frozen)
    heads.requires_grad_(not frozen)
    trainer = Trainer(name, stage, {"heads": heads, "model": model}, work)
    for index_B in batches(len(data), stage, trainer.step):
        rng = np.random.default_rng([stage.seed, trainer.step])
        turns = [choose_questions(data.asked[index], rng, stage.spatial) for index in index_B]
        packed = prompts.pack([[prompts.branch(turn) for turn in each] for each in turns], SIDE // TOKEN)
        image_B3HW, labels = data.batch(index_B)
        with torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16):
            with torch.set_grad_enabled(not frozen):
                visual_BND = visual_tokens(model, image_B3HW)
                seen = label_losses(heads(visual_BND), labels) if not frozen else torch.zeros(())
            logits_nV, target_n = answer_logits(model, packed, visual_BND, len(prompts.prefix))
            answers = answer_loss(logits_nV, target_n, packed)
        trainer.update(answers + LABEL_WEIGHT * seen)
        if trainer.step % LOG_EVERY == 0:
            trainer.log(answers=answers.item(), seen=seen.item())
        if trainer.step % CHECK_EVERY == 0 or trainer.step == stage.steps:
            trainer.save()
            if not frozen:
                trainer.log(**label_accuracy(model, heads, held_out))
            trainer.log(**answer_accuracy(model, prompts, held_out))


def main() -> None:
    """Run the stages that are not finished yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build/train-tiny", help="folder for log and checkpoints")
    parser.add_argument("--stage", action="append", choices=STAGES, help="run these stages only")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the checkpoint of the last stage there")
    parser.add_argument("--start", type=Path, metavar="DIR", help="go on from this checkpoint (with --stage together)")
    parser.add_argument(
        "--deepen", type=int, default=1, metavar="TIMES", help="blocks of the tower, for each of --start"
    )
    parser.add_argument("--steps", type=int, help="of each stage, instead of its own number")
    parser.add_argument("--compile", action="store_true", help="a fifth faster, after a minute or two of compiling")
    args = parser.parse_args()
    if args.start and args.stage != ["together"]:
        parser.error("--start goes with --stage together: the other stages begin before there is a whole model")
    if args.deepen > 1 and not args.start:
        parser.error("--deepen goes with --start: the blocks that it adds go on from trained ones")
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = Qwen2VL.from_pretrained(args.start, dtype=torch.float32) if args.start else Qwen2VL(build_config())
    deepen(model, args.deepen)
    heads = Heads(256)
    modules = {"vision": model.model.visual, "heads": heads, "model": model}
    if args.compile:
        global visual_tokens
        visual_tokens = torch.compile(visual_tokens, dynamic=False)
        torch._dynamo.config.recompile_limit = 32  # one for each length of a sequence, with gradients and without
        model.model.language_model.compile(dynamic=False)
    for name in args.stage or STAGES:
        if args.steps:
            pictures = min(STAGES[name].pictures, args.steps * STAGES[name].batch)
            STAGES[name] = replace(STAGES[name], steps=args.steps, pictures=pictures)
        before = list(STAGES)[: list(STAGES).index(name)]
        if before and not args.start:  # a stage starts where the one before it ended
            load_stage(before[-1], STAGES[before[-1]].steps, modules, args.work)
        if name in ("see", "place"):
            learn_to_see(name, model, heads, args.work)
        else:
            learn_to_answer(name, model, heads, args.work, readers=not args.start)
    if args.output:
        write_checkpoint(model, args.output)
        print(f"wrote {args.output}: {sum(file.stat().st_size for file in args.output.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
