"""Stages of training that can be interrupted and resumed."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LOG_EVERY, CHECK_EVERY = 25, 100
"""Steps between lines of the log, and between checkpoints with figures on validation data."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training: how long, how fast, on what."""

    pictures: int
    steps: int
    batch: int
    rate: float
    seed: int
    ns_steps: int = 5
    """Newton-Schulz iterations of Muon; fewer where they would cost as much as the gradient."""
    spatial: float = 1
    """How often what is beside a thing is asked, relative to the other kinds of question."""


class Trainer:
    """Muon for the matrices inside the network, AdamW for the rest; cosine schedule; a file to resume from."""

    def __init__(self, name: str, stage: Stage, modules: dict[str, nn.Module], work: Path) -> None:
        self.name, self.stage, self.modules, self.work, self.step = name, stage, modules, work, 0
        named = [pair for module in modules.values() for pair in module.named_parameters() if pair[1].requires_grad]
        tables = ("embed_tokens", "rows")
        inner = [value for name, value in named if value.ndim == 2 and not any(part in name for part in tables)]
        chosen = {id(value) for value in inner}
        outer = [value for _, value in named if id(value) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                inner, lr=stage.rate, weight_decay=0.05, ns_steps=stage.ns_steps, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(outer, lr=stage.rate, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        self.parameters = inner + outer
        self.file = work / f"{name}.pt"
        self.started = time.monotonic()
        self.resume()

    def resume(self) -> None:
        """Go on from the stage's file, if there is one."""
        if self.file.exists():
            saved = torch.load(self.file, weights_only=True)
            for key, module in self.modules.items():
                module.load_state_dict(saved[key])
            for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            self.step = saved["step"]

    def save(self) -> None:
        """Write the stage's file; the old one stays until the new one is complete."""
        state = {key: module.state_dict() for key, module in self.modules.items()}
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        part = self.file.with_suffix(".part")
        torch.save({**state, "optimizers": optimizers, "step": self.step}, part)
        part.replace(self.file)

    def update(self, loss: Tensor) -> None:
        """One step down the gradient of the loss."""
        warm = min(1.0, (self.step + 1) * 12 / self.stage.steps)
        rate = self.stage.rate * warm * 0.5 * (1 + math.cos(math.pi * self.step / self.stage.steps))
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def log(self, **figures: Any) -> None:
        """Print a line of figures and append it to the log."""
        line = {"stage": self.name, "step": self.step, "seconds": round(time.monotonic() - self.started), **figures}
        text = json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()})
        print(text, flush=True)
        with (self.work / "log.jsonl").open("a") as log:
            log.write(text + "\n")


def order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def load_stage(name: str, steps: int, modules: dict[str, nn.Module], work: Path) -> None:
    """Take over what a stage of `steps` steps has learnt; SystemExit when it is not finished."""
    file = work / f"{name}.pt"
    saved = torch.load(file, weights_only=True) if file.exists() else {"step": 0}
    if saved["step"] < steps:
        raise SystemExit(f"{file}: stage {name} has {saved['step']} of {steps} steps; run it first: --stage {name}")
    for key in modules.keys() & saved.keys():
        modules[key].load_state_dict(saved[key])


def batches(count: int, stage: Stage, first: int) -> Iterator[NDArray[np.int64]]:
    """Indices of each batch of a stage from step `first` on, epoch after epoch."""
    each = count // stage.batch
    for step in range(first, stage.steps):
        start = step % each * stage.batch
        yield order(count, stage.seed, step // each)[start : start + stage.batch]
