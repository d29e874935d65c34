"""Greedy answers to many questions at once, as `vlmp-eval` gives them one by one, several times as fast.

What a picture leaves in the caches does not depend on the question, unless a pruner chooses by it. So each picture is
prefilled once, and the text of many questions runs over these caches together.

Dims: B questions, L tokens of text, M tokens of text so far, C cache rows of a picture, H query heads, J key/value
heads, g = H / J, d head size, D hidden size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from vlmp.evaluation.data import DataSet
from vlmp.evaluation.run import answer
from vlmp.export.models.decoder import Decoder, Prefill, over_slots
from vlmp.export.models.layers import MASKED, rotate
from vlmp.export.models.mixers import AttentionLayer, split_heads
from vlmp.runtimes.chat import Chat
from vlmp.runtimes.image import to_pixels
from vlmp.runtimes.prompt import first_ids
from vlmp.runtimes.pytorch import TorchSession
from vlmp.runtimes.session import Seen

PICTURES = 24
"""Pictures whose questions run together."""
Cached = list[tuple[Tensor, Tensor, Tensor]]
"""Of each layer: keys, values, and what is added to the scores of the keys."""


def see(chat: Chat, data: DataSet) -> dict[str, Seen]:
    """What vision tells of every picture, by its id."""
    session = chat.session
    seen: dict[str, Seen] = {}
    for example in data.examples:
        if example.image_id not in seen:
            seen[example.image_id] = session.see(to_pixels(example.open(), session.manifest.shape.image))
    return seen


@torch.no_grad()
def many_answers(chat: Chat, seen: dict[str, Seen], data: DataSet, most: int) -> list[str]:
    """The answers of up to `most` tokens, in the data set's order. seen: what `see` gives."""
    session = cast(TorchSession, chat.session)
    if any(stage.by_prompt for stage in session.manifest.shape.stages):
        return [answer(chat, seen[one.image_id], one.question, most) for one in data.examples]
    ids = [first_ids(chat.tokenizer, session.manifest.prompt, one.question) for one in data.examples]
    questions: dict[str, list[int]] = {}
    for number, one in enumerate(data.examples):
        questions.setdefault(one.image_id, []).append(number)
    texts = [""] * len(ids)
    for pictures in chunks(list(questions)):
        caches = [picture_caches(session, seen[picture], ids[questions[picture][0]]) for picture in pictures]
        asked = [number for picture in pictures for number in questions[picture]]
        owner_B = torch.tensor([place for place, one in enumerate(pictures) for _ in questions[one]])
        shared = [
            tuple(torch.stack(each)[owner_B] for each in zip(*layer, strict=True))
            for layer in zip(*caches, strict=True)
        ]
        chats = Chats(session, cast(Cached, shared))
        for number, tokens in zip(asked, chats.answers([ids[number] for number in asked], most), strict=True):
            texts[number] = chat.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return texts


def chunks(pictures: list[str]) -> Iterator[list[str]]:
    """PICTURES at a time."""
    for start in range(0, len(pictures), PICTURES):
        yield pictures[start : start + PICTURES]


def picture_caches(session: TorchSession, seen: Seen, ids: list[int]) -> Cached:
    """What prefix and picture leave in the caches, [J, C, d] twice and [C]. ids: any question; they do not count."""
    prefill = cast(Prefill, session.methods["prefill"])
    text, geometry = torch.tensor([ids], dtype=torch.int32), prefill.geometry
    visual, *dropped = [torch.from_numpy(each) for each in seen if each is not None]
    given = dropped if geometry.drops else []
    made = prefill(text, torch.tensor([len(ids)], dtype=torch.int32), visual, *given)
    named = dict(zip((spec.name for spec in session.manifest.method("prefill").outputs), made, strict=True))
    if len(given) > 1:
        named["bias_0"] = given[1]
    found: Cached = []
    for by, layers, base in zip(geometry.weighed, geometry.groups, geometry.bases, strict=True):
        bias_S = torch.zeros(base - geometry.prefix) if by is None else named[f"bias_{by}"]
        bias_C = over_slots(bias_S, geometry.prefix, base)[0]
        found += [(named[f"key_{n}"][:, :base], named[f"value_{n}"][:, :base], bias_C) for n in layers]
    return found


@dataclass
class Chats:
    """B first turns over the caches of their pictures, [B, J, C, d] and [B, C]."""

    session: TorchSession
    pictures: Cached

    def __post_init__(self) -> None:
        self.decoder = cast(Decoder, cast(Prefill, self.session.methods["prefill"]).decoder)
        decode = self.session.methods["decode"]
        self.cos, self.sin = decode.get_buffer("cos"), decode.get_buffer("sin")
        self.texts: list[tuple[Tensor, Tensor] | None] = [None] * len(self.pictures)

    def answers(self, ids: list[list[int]], most: int) -> list[list[int]]:
        """The tokens of each answer, up to an end token, or `most` of them."""
        ends = set(self.session.manifest.prompt.end_ids)
        length_B = torch.tensor([len(each) for each in ids])
        longest, row_B = int(length_B.max()), torch.arange(len(ids))
        ids_BL = torch.tensor([each + [0] * (longest - len(each)) for each in ids])
        valid_BM = torch.arange(longest) < length_B[:, None]
        causal_LL = torch.full((longest, longest), MASKED).triu(1)
        hidden_BLD = self.layers(ids_BL, torch.arange(longest).expand_as(ids_BL), causal_LL)
        last_BD = hidden_BLD[row_B, length_B - 1]
        found: list[list[int]] = [[] for _ in ids]
        for step in range(most):
            token_B = self.decoder.head(self.decoder.norm(last_BD)).argmax(-1)
            for tokens, token in zip(found, token_B.tolist(), strict=True):
                if not tokens or tokens[-1] not in ends:
                    tokens.append(token)
            if all(tokens[-1] in ends for tokens in found):
                break
            valid_BM = torch.cat([valid_BM, torch.ones(len(ids), 1, dtype=torch.bool)], 1)
            mask_B1M = torch.where(valid_BM, 0.0, MASKED)[:, None]
            last_BD = self.layers(token_B[:, None], (length_B + step)[:, None], mask_B1M)[:, 0]
        return found

    def layers(self, ids_BL: Tensor, position_BL: Tensor, mask: Tensor) -> Tensor:
        """Run the layers over L more tokens of each chat. mask [.., L, M]. Returns hidden [B, L, D]."""
        hidden = self.decoder.embed(ids_BL)
        for number, layer in enumerate(self.decoder.layers):
            hidden = self.layer(number, cast(AttentionLayer, layer), hidden, position_BL, mask)
        return hidden

    def layer(
        self, number: int, layer: AttentionLayer, hidden_BLD: Tensor, position_BL: Tensor, mask: Tensor
    ) -> Tensor:
        """`Layer.forward` with a batch in front."""
        heads, kv_heads = layer.attention.heads, layer.attention.kv_heads
        qkv_BLW = layer.project(normed(layer.input_norm, hidden_BLD))
        batch, tokens, _ = qkv_BLW.shape
        parts = [split_heads(qkv_LW, heads, kv_heads) for qkv_LW in qkv_BLW]
        query, key, value = (torch.stack(each) for each in zip(*parts, strict=True))
        cos_B1Ld, sin_B1Ld = (table[position_BL][:, None] for table in (self.cos, self.sin))
        query, key = rotate(query, cos_B1Ld, sin_B1Ld), rotate(key, cos_B1Ld, sin_B1Ld)
        if (before := self.texts[number]) is not None:
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        self.texts[number] = key, value
        old_key, old_value, bias_BC = self.pictures[number]
        slots, head_dim = old_key.shape[2], key.shape[3]
        query = query.reshape(batch, kv_heads, -1, tokens, head_dim) * head_dim**-0.5
        old = torch.einsum("bjgld,bjcd->bjglc", query, old_key) + bias_BC[:, None, None, None]
        new = torch.einsum("bjgld,bjmd->bjglm", query, key) + (mask[:, None, None] if mask.ndim == 3 else mask)
        share = torch.softmax(torch.cat([old, new], -1), -1)
        mixed = torch.einsum("bjglc,bjcd->bjgld", share[..., :slots], old_value)
        mixed = mixed + torch.einsum("bjglm,bjmd->bjgld", share[..., slots:], value)
        mixed_BLW = mixed.reshape(batch, heads, tokens, head_dim).transpose(1, 2).reshape(batch, tokens, -1)
        hidden_BLD = hidden_BLD + layer.out(mixed_BLW)
        gate, up = layer.gate_up(normed(layer.mlp_norm, hidden_BLD)).chunk(2, -1)
        return hidden_BLD + layer.down(layer.act(gate) * up)


def normed(norm: nn.Module, hidden_BLD: Tensor) -> Tensor:
    """A norm over rows, for a batch of them."""
    return norm(hidden_BLD.reshape(-1, hidden_BLD.shape[-1])).reshape(hidden_BLD.shape)
