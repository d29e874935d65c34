"""Questions about one picture as one sequence, and the language model on it.

Dims: B batch, L sequence length, N visual tokens, D hidden size, V vocabulary, n answer tokens.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration as Qwen2VL
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLAttention
from vlmp.benchmarks.scenes.labels import COLOUR_NAMES, NOTHING, OBJECTS

from tiny.checkpoint import SYSTEM_PROMPT
from tiny.pictures import Asked
from tiny.vision import Heads, visual_tokens

QUESTIONS = 8
"""Questions about one picture in a training sequence, beside the one for everything."""
WORD_SIZE = 0.25
"""Root mean square of embeddings and visual tokens at the start."""
FINAL_NORM = 0.1
"""The last norm's weight at the start, for logits of a few units: the head is tied to the embedding."""
WORDS = {
    "object": OBJECTS[:-1],
    "colour": COLOUR_NAMES,
    "row": ("top", "", "bottom"),
    "column": ("left", "", "right"),
}
"""Words that begin as the labels' rows."""
LOUDER = 4.0
"""How much the part of a visual token that its labels tell is raised at the start."""
MATCH, COPY = 0.85, 0.2
"""Strength of the heads that begin by looking for what resembles a token: its own score is 8 MATCH^2."""


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


@torch.no_grad()
def start_words(model: Qwen2VL, heads: Heads, prompts: Prompts, image_B3HW: Tensor) -> None:
    """Let the words for things begin as the directions in which visual tokens show them, all of one length."""
    embed = model.model.language_model.embed_tokens.weight
    embed.copy_(torch.randn(embed.shape, generator=torch.Generator().manual_seed(0)) * WORD_SIZE)
    for name, words in WORDS.items():
        rows = heads.rows[name] - heads.rows[name].mean(0)
        for word, row in zip(words, rows, strict=False):
            start = F.rms_norm(row, row.shape) * WORD_SIZE
            for form in (word, f" {word}", f" {word}s", f" {word}es") if word else ():
                ids = prompts.ids(form)
                if len(ids) == 1:
                    embed[ids[0]] = start + 0.3 * embed[ids[0]]
    model.model.language_model.norm.weight.fill_(FINAL_NORM)
    depth = len(model.model.language_model.layers)
    for layer in model.model.language_model.layers:
        for part in (*layer.self_attn.children(), *layer.mlp.children()):
            if isinstance(part, nn.Linear):  # the usual 0.02 would leave so narrow a model's attention flat for long
                nn.init.normal_(part.weight, std=part.in_features**-0.5)
        for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
            part.weight.mul_(0.5 * depth**-0.5)
        start_matching(layer.self_attn)
    last = model.model.visual.merger.mlp[2]
    # What the labels tell is a small part of a token; the language model had better begin with it.
    span_DR = torch.linalg.qr(
        torch.cat([(rows - rows.mean(0))[:-1] for rows in (heads.rows[name] for name in WORDS)]).T
    ).Q
    louder_DD = torch.eye(len(span_DR)) + (LOUDER - 1) * span_DR @ span_DR.T
    last.weight.copy_(louder_DD @ last.weight)
    last.bias.copy_(louder_DD @ last.bias)
    scale = WORD_SIZE / visual_tokens(model, image_B3HW).pow(2).mean().sqrt()
    last.weight.mul_(scale)
    last.bias.mul_(scale)


def start_matching(attention: Qwen2VLAttention) -> None:
    """Let the heads of the first key head begin by looking for what resembles the token itself, and copying it.

    Queries and keys share one orthonormal projection, and so do values and output, as training would bring about
    (mimetic initialisation, arXiv 2305.09828): a word finds the visual tokens that show it from the first step on.
    """
    size, width = attention.head_dim, attention.hidden_size
    heads = attention.num_heads // attention.num_key_value_heads
    match_dD, copy_dD = nn.init.orthogonal_(torch.empty(2 * size, width)).split(size)
    attention.k_proj.weight[:size] = match_dD * MATCH
    attention.v_proj.weight[:size] = copy_dD
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows] = match_dD * MATCH
        attention.o_proj.weight[:, rows] = copy_dD.T * (COPY / heads)


def choose_questions(asked: list[Asked], rng: np.random.Generator) -> list[list[tuple[str, str]]]:
    """Conversations about a picture: `QUESTIONS` questions of kinds drawn alike, some of two turns, and the list."""
    *single, everything = asked
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for kind, question, answer in single:
        by_kind.setdefault(kind, []).append((question, answer))
    turns: list[list[tuple[str, str]]] = []
    for kind in rng.choice(sorted(by_kind), QUESTIONS):
        pair = by_kind[kind][rng.integers(len(by_kind[kind]))]
        if turns and rng.random() < 0.15:
            turns[-1] = [*turns[-1], pair]
        else:
            turns.append([pair])
    return [*turns, [everything[1:]]]
