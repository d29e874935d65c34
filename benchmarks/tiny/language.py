"""Questions about one picture as one sequence, and the language model on it.

Dims: B batch, L sequence length, N visual tokens, D hidden size, V vocabulary, n answer tokens.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration as Qwen2VL
from vlmp.evaluation.scenes.labels import NOTHING

from tiny.checkpoint import SYSTEM_PROMPT
from tiny.pictures import Asked

QUESTIONS = 8
"""Questions about one picture in a training sequence, beside the one for everything."""
PADDING = 32
"""Sequences are padded to multiples of this: few lengths, so that compiling pays."""


class Prompts:
    """Token ids of the chat template's parts, and several questions about one picture as one sequence."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        before = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        self.prefix = self.ids(before)
        self.turn = self.ids("\n<|im_start|>user\n")

    def ids(self, text: str) -> list[int]:
        """Token ids; special tokens in the text count as such."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def branch(self, turns: list[tuple[str, str]]) -> tuple[list[int], list[int]]:
        """Ids behind the image for one or more turns, and the targets: `NOTHING` but for the answers and their end."""
        ids, targets = self.ids("<|vision_end|>"), [NOTHING]
        for number, (question, answer) in enumerate(turns):
            asked = [*(self.turn if number else []), *self.ids(f"{question}<|im_end|>\n<|im_start|>assistant\n")]
            answered = self.ids(f"{answer}<|im_end|>")
            ids += asked + answered
            targets += [NOTHING] * len(asked) + answered
        return ids, targets

    def pack(self, branches_B: list[list[tuple[list[int], list[int]]]], side: int) -> dict[str, Tensor]:
        """One sequence a picture: prefix, visual tokens, then branches that see the image and themselves only.

        Returns ids [B, L] (0 for visual tokens and padding), positions [3, B, L] of M-RoPE, mask bool [B, 1, L, L],
        targets [B, L] shifted to the position that predicts them, branch [B, L] (-1 before the branches).
        """
        first, visual = len(self.prefix), side * side
        length = first + visual + max(sum(len(ids) for ids, _ in branches) for branches in branches_B)
        length += -length % PADDING
        batch = len(branches_B)
        ids, targets = torch.zeros(batch, length, dtype=torch.long), torch.full((batch, length), NOTHING)
        branch = torch.full((batch, length), -1)
        positions = torch.zeros(3, batch, length, dtype=torch.long)
        ids[:, :first] = torch.tensor(self.prefix)
        positions[:, :, :first] = torch.arange(first)
        place_N = torch.arange(visual)
        positions[:, :, first : first + visual] = first + torch.stack(
            [place_N * 0, place_N // side, place_N % side]
        ).unsqueeze(1)
        for row, branches in enumerate(branches_B):
            start = first + visual
            for number, (tokens, wanted) in enumerate(branches):
                stop = start + len(tokens)
                ids[row, start:stop] = torch.tensor(tokens)
                targets[row, start : stop - 1] = torch.tensor(wanted[1:])
                branch[row, start:stop] = number
                positions[:, row, start:stop] = first + side + torch.arange(len(tokens))
                start = stop
        index = torch.arange(length)
        own = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] < 0)
        mask = own & (index[None, :, None] >= index[None, None, :])
        return {"ids": ids, "positions": positions, "mask": mask[:, None], "targets": targets, "branch": branch}


def answer_logits(model: Qwen2VL, packed: dict[str, Tensor], visual_BND: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Logits [n, V] and targets [n] of all answer tokens of a packed batch."""
    words_BLD = model.model.language_model.embed_tokens(packed["ids"])
    behind = first + visual_BND.shape[1]
    hidden_BLD = model.model.language_model(
        inputs_embeds=torch.cat([words_BLD[:, :first], visual_BND, words_BLD[:, behind:]], 1),
        position_ids=packed["positions"],
        attention_mask={"full_attention": packed["mask"]},
        use_cache=False,
    ).last_hidden_state
    asked = packed["targets"] != NOTHING
    return model.lm_head(hidden_BLD[asked]), packed["targets"][asked]


def answer_loss(logits_nV: Tensor, target_n: Tensor, packed: dict[str, Tensor]) -> Tensor:
    """Cross entropy in which every conversation counts alike, however long its answers are."""
    asked = packed["targets"] != NOTHING
    branches = int(packed["branch"].max()) + 1
    conversation_n = (packed["branch"] + branches * torch.arange(len(asked)).unsqueeze(1))[asked]
    tokens_C = torch.bincount(conversation_n)
    loss_n = F.cross_entropy(logits_nV, target_n, reduction="none")
    return (loss_n / tokens_C[conversation_n]).sum() / (tokens_C > 0).sum()


def choose_questions(asked: list[Asked], rng: np.random.Generator, spatial: float) -> list[list[tuple[str, str]]]:
    """Conversations about a picture: `QUESTIONS` questions of kinds drawn alike, some of two turns, and the list.

    spatial: how often that kind is drawn, relative to the others.
    """
    *single, everything = asked
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for kind, question, answer in single:
        by_kind.setdefault(kind, []).append((question, answer))
    turns: list[list[tuple[str, str]]] = []
    kinds = sorted(by_kind)
    weight_k = np.array([spatial if kind == "spatial" else 1 for kind in kinds])
    for kind in rng.choice(kinds, QUESTIONS, p=weight_k / weight_k.sum()):
        pair = by_kind[kind][rng.integers(len(by_kind[kind]))]
        if turns and rng.random() < 0.15:
            turns[-1] = [*turns[-1], pair]
        else:
            turns.append([pair])
    return [*turns, [everything[1:]]]
