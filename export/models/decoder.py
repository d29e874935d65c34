"""A decoder of a vision-language model as three static graphs: prefill, decode, extend.

Dims: N visual tokens, P prefix ids, S kept, T text bucket, L tokens of a call, R rows of queries g L, D hidden size,
F inner width of the MLP, C cache slots, H query heads, J key/value heads, g = H / J, d head size, V vocabulary.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vlmp.export.geometry import Geometry
from vlmp.export.models.layers import MASKED, JoinedLinear, RmsNorm, RowAttention, causal_mask, rotate
from vlmp.export.quantize import QuantEmbedding, QuantLinear
from vlmp.pruner import Pruner


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderSizes:
    """What a decoder of this kind may have of its own."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocab: int
    norm_eps: float
    tied: bool
    """Whether the head is the embedding."""


class Layer(nn.Module):
    """Decoder layer: grouped-query attention over cached and new tokens, then a gated MLP."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        width, inner, self.kv_heads = sizes.width, sizes.inner, sizes.kv_heads
        self.heads, self.head_dim = sizes.heads, width // sizes.heads
        kv_width = self.kv_heads * self.head_dim
        self.sizes = (width, kv_width, kv_width)
        """Of queries, keys and values."""
        self.norm1 = RmsNorm(width, sizes.norm_eps)
        self.norm2 = RmsNorm(width, sizes.norm_eps)
        self.qkv = JoinedLinear(width, self.sizes, bias=True)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = JoinedLinear(width, (inner, inner), bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(
        self,
        hidden_LD: Tensor,
        cos_Ld: Tensor,
        sin_Ld: Tensor,
        mask_LL: Tensor,
        cache: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [L, D], cache (keys [J, C, d], values [J, C, d], mask [1, C]) -> hidden, keys [J, L, d], values."""
        tokens, width = hidden_LD.shape
        query_HLd, key_JLd, value_JLd = self._projected(hidden_LD)
        query_HLd, key_JLd = rotate(query_HLd, cos_Ld, sin_Ld), rotate(key_JLd, cos_Ld, sin_Ld)

        # The g query heads of a key head are consecutive: as extra rows they need no repeated keys.
        query_JRd = query_HLd.reshape(self.kv_heads, -1, self.head_dim) * self.head_dim**-0.5
        score_HLK = torch.bmm(query_JRd, key_JLd.transpose(1, 2)).reshape(self.heads, tokens, tokens) + mask_LL
        if cache is None:
            share_JRK = torch.softmax(score_HLK, -1).reshape(self.kv_heads, -1, tokens)
            mixed_JRd = torch.bmm(share_JRK, value_JLd)
        else:
            old_key_JCd, old_value_JCd, mask_1C = cache
            slots = old_key_JCd.shape[1]
            old_HLC = torch.bmm(query_JRd, old_key_JCd.transpose(1, 2)).reshape(self.heads, tokens, slots) + mask_1C
            share_HLK = torch.softmax(torch.cat([old_HLC, score_HLK], -1), -1)
            share_JRK = share_HLK.reshape(self.kv_heads, -1, slots + tokens)
            mixed_JRd = torch.bmm(share_JRK[:, :, :slots], old_value_JCd)
            mixed_JRd = mixed_JRd + torch.bmm(share_JRK[:, :, slots:], value_JLd)
        mixed_LD = mixed_JRd.reshape(self.heads, tokens, self.head_dim).permute(1, 0, 2).reshape(tokens, width)

        hidden_LD = hidden_LD + self.out(mixed_LD)
        gate_LF, up_LF = self.gate_up(self.norm2(hidden_LD)).chunk(2, -1)
        return hidden_LD + self.down(F.silu(gate_LF) * up_LF), key_JLd, value_JLd

    def queries(self, hidden_LD: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
        """The queries [H, L, d] of some of the tokens that `forward` takes, from the same hidden states."""
        return rotate(self._projected(hidden_LD)[0], cos_Ld, sin_Ld)

    def _projected(self, hidden_LD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [L, D] -> queries [H, L, d], keys [J, L, d], values [J, L, d], not rotated."""
        heads = self.qkv(self.norm1(hidden_LD)).reshape(hidden_LD.shape[0], -1, self.head_dim).permute(1, 0, 2)
        query_HLd, key_JLd, value_JLd = heads.split((self.heads, self.kv_heads, self.kv_heads))
        return query_HLd, key_JLd, value_JLd


class Decoder(nn.Module):
    """Embedding, layers and head, shared by prefill, decode and extend."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.embed: nn.Embedding | QuantEmbedding = nn.Embedding(sizes.vocab, sizes.width)
        self.layers = nn.ModuleList([Layer(sizes) for _ in range(sizes.layers)])
        self.norm = RmsNorm(sizes.width, sizes.norm_eps)
        self.head: nn.Linear | QuantLinear
        if not sizes.tied:
            self.head = nn.Linear(sizes.width, sizes.vocab, bias=False)

    def tie(self) -> None:
        """Let the head use the embedding's weight."""
        if isinstance(self.embed, QuantEmbedding):
            self.head = self.embed.linear
            return
        words, width = self.embed.weight.shape
        self.head = nn.Linear(width, words, bias=False, device="meta")
        self.head.weight = self.embed.weight

    def logits(self, hidden_LD: Tensor, last_1: Tensor) -> Tensor:
        """Logits [V] of the token at row `last_1`: the head runs on one row only."""
        return self.head(self.norm(hidden_LD.index_select(0, last_1))).reshape(-1)


class Prefill(nn.Module):
    """First turn: layers < K over all P+N+T tokens, the pruner, layers >= K over P+S+T."""

    prefix_P: Tensor
    cos: Tensor
    sin: Tensor
    mask_early: Tensor
    mask_late: Tensor

    def __init__(
        self, decoder: Decoder, pruner: Pruner, geometry: Geometry, prefix_ids: list[int], rope: tuple[Tensor, Tensor]
    ) -> None:
        super().__init__()
        self.decoder, self.pruner, self.geometry = decoder, pruner, geometry
        self.row_attention = RowAttention()
        dtype = rope[0].dtype
        self.register_buffer("prefix_P", torch.tensor(prefix_ids, dtype=torch.int32), persistent=False)
        self.register_buffer("cos", rope[0], persistent=False)
        self.register_buffer("sin", rope[1], persistent=False)
        self.register_buffer("mask_early", causal_mask(geometry.early_base + geometry.text, dtype), persistent=False)
        self.register_buffer("mask_late", causal_mask(geometry.late_base + geometry.text, dtype), persistent=False)

    def forward(self, ids: Tensor, text_len: Tensor, visual: Tensor) -> tuple[Tensor, ...]:
        """ids int32 [1, T], text_len int32 [1], visual [N, D] -> logits [V], kept, order, filled, keys and values.

        ids may be fewer than T where no graph is traced.
        """
        geometry, decoder = self.geometry, self.decoder
        first, behind = geometry.prefix, geometry.early_base
        early, late = (base + ids.shape[1] for base in (geometry.early_base, geometry.late_base))
        cos_Ld, sin_Ld, mask_LL = _cut(self.cos, early), _cut(self.sin, early), _cut(self.mask_early, early, early)
        words = decoder.embed(torch.cat([self.prefix_P, ids[0]])).to(visual.dtype)
        hidden_LD = torch.cat([words[:first], visual, words[first:]])
        rows: list[Tensor] = []
        keys_NC = attention_N = None
        for layer in decoder.layers[: geometry.prune_layer]:
            before_LD = hidden_LD
            hidden_LD, key_JLd, value_JLd = layer(hidden_LD, cos_Ld, sin_Ld, mask_LL)
            rows += [key_JLd, value_JLd]
        if geometry.prune_layer > 0:
            keys_NC = key_JLd[:, first:behind].permute(1, 0, 2).reshape(geometry.visual, -1)
        if "attention" in self.pruner.needs:
            attention_N = self.last_attention(before_LD, key_JLd, text_len + (behind - 1))[first:behind]

        pruned = self.pruner(hidden_LD[first:behind], keys_NC, attention_N)
        hidden_LD = torch.cat([hidden_LD[:first], pruned.hidden_SD, hidden_LD[behind:]])
        cos_Ld, sin_Ld = (
            torch.cat([rope[:first], rope[first:behind].index_select(0, pruned.kept_S), rope[behind:]])
            for rope in (cos_Ld, sin_Ld)
        )

        mask_LL = _cut(self.mask_late, late, late)
        for layer in decoder.layers[geometry.prune_layer :]:
            hidden_LD, key_JLd, value_JLd = layer(hidden_LD, cos_Ld, sin_Ld, mask_LL)
            rows += [key_JLd, value_JLd]
        logits = decoder.logits(hidden_LD, text_len + (geometry.late_base - 1))
        indices = [index.to(torch.int32) for index in (pruned.kept_S, pruned.order_S, pruned.filled_1)]
        return (logits, *indices, *rows)

    def last_attention(self, hidden_LD: Tensor, key_JLd: Tensor, last_1: Tensor) -> Tensor:
        """What the token at row `last_1` attends to in layer K-1, given the layer's input and keys. float32 [L]."""
        layer = cast(Layer, self.decoder.layers[self.geometry.prune_layer - 1])
        # One query once more, since the layer's own attention of all rows would be too large to hand out.
        query_H1d = layer.queries(*(rows.index_select(0, last_1) for rows in (hidden_LD, self.cos, self.sin)))
        mask_1L = _cut(self.mask_early.index_select(0, last_1), 1, key_JLd.shape[1])
        return self.row_attention(query_H1d, key_JLd, mask_1L)


class Step(nn.Module):
    """Tokens behind a filled cache: the caches are read, the new rows returned."""

    cos: Tensor
    sin: Tensor
    mask_LL: Tensor
    index_L: Tensor
    slot_C: Tensor
    last_position: Tensor

    def __init__(self, decoder: Decoder, geometry: Geometry, rope: tuple[Tensor, Tensor], tokens: int) -> None:
        super().__init__()
        self.decoder, self.geometry = decoder, geometry
        self.register_buffer("cos", rope[0], persistent=False)
        self.register_buffer("sin", rope[1], persistent=False)
        self.register_buffer("mask_LL", causal_mask(tokens, rope[0].dtype), persistent=False)
        self.register_buffer("index_L", torch.arange(tokens, dtype=torch.int32), persistent=False)
        slots = geometry.early_base + geometry.text_room
        self.register_buffer("slot_C", torch.arange(slots, dtype=torch.int32), persistent=False)
        last = torch.full((1,), geometry.text_room - 1, dtype=torch.int32)
        self.register_buffer("last_position", last, persistent=False)

    def step(self, ids: Tensor, last_1: Tensor, past: Tensor, caches: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """ids [1, L] at text positions past, past + 1, ... -> logits [V] of row last_1, keys and values [J, L, d]."""
        geometry, decoder, tokens = self.geometry, self.decoder, ids.shape[1]
        # Padding of an almost full cache would point behind the table; its rows are never read.
        position_L = torch.minimum(past + _cut(self.index_L, tokens), self.last_position)
        cos_Ld, sin_Ld = self.cos.index_select(0, position_L), self.sin.index_select(0, position_L)
        mask_LL = _cut(self.mask_LL, tokens, tokens)
        masks = {base: self.cache_mask(past, base) for base in (geometry.early_base, geometry.late_base)}
        hidden_LD = decoder.embed(ids[0]).to(cos_Ld.dtype)
        rows: list[Tensor] = []
        for index, layer in enumerate(decoder.layers):
            cache = (caches[2 * index], caches[2 * index + 1], masks[geometry.base(index)])
            hidden_LD, key_JLd, value_JLd = layer(hidden_LD, cos_Ld, sin_Ld, mask_LL, cache)
            rows += [key_JLd, value_JLd]
        return (decoder.logits(hidden_LD, last_1), *rows)

    def cache_mask(self, past: Tensor, base: int) -> Tensor:
        """0 for the slots that hold tokens, MASKED for those behind them. [1, C]."""
        empty_C = self.slot_C[: base + self.geometry.text_room] >= past + base
        return (empty_C.to(self.mask_LL.dtype) * MASKED).unsqueeze(0)


class Decode(Step):
    """One more token of the answer."""

    def __init__(self, decoder: Decoder, geometry: Geometry, rope: tuple[Tensor, Tensor]) -> None:
        super().__init__(decoder, geometry, rope, 1)

    def forward(self, ids: Tensor, past: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """ids int32 [1, 1], past int32 [1] text tokens in the cache, caches [J, C, d] -> logits, keys and values."""
        return self.step(ids, past * 0, past, caches)


class Extend(Step):
    """The next turn of a chat: up to T tokens at once."""

    def __init__(self, decoder: Decoder, geometry: Geometry, rope: tuple[Tensor, Tensor]) -> None:
        super().__init__(decoder, geometry, rope, geometry.text)

    def forward(self, ids: Tensor, text_len: Tensor, past: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """ids int32 [1, T], text_len int32 [1] of them valid, past int32 [1], caches -> logits, keys and values.

        ids may be fewer than T where no graph is traced.
        """
        return self.step(ids, text_len - 1, past, caches)


def _cut(table: Tensor, *sizes: int) -> Tensor:
    """The first rows, and columns, of a table made for a full bucket; itself, without an op, where it is as large."""
    for dim, size in enumerate(sizes):
        if table.shape[dim] != size:
            table = table.narrow(dim, 0, size)
    return table
