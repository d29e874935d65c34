"""The decoder of a vision-language model, by its spec, as three static graphs: prefill, decode, extend.

Dims: N visual tokens, P prefix ids, S kept, T text bucket, L tokens of a call, D hidden size, C cache slots, J
key/value heads, d head size, V vocabulary, r rows of a convolution's state.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from vlmp.export.geometry import Geometry, StateLayer
from vlmp.export.models.layers import MASKED, RmsNorm, RowAttention, causal_mask
from vlmp.export.models.mixers import AttentionLayer, Context, ConvLayer, Layer, LayerResult
from vlmp.export.models.spec import DecoderSpec
from vlmp.export.quantize import QuantEmbedding, QuantLinear
from vlmp.pruner import Pruner, PruneResult
from vlmp.pruner.weighing import tokens_stood_for


class Decoder(nn.Module):
    """Embedding, layers and head, shared by prefill, decode and extend."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.embed: nn.Embedding | QuantEmbedding = nn.Embedding(spec.vocab, spec.width)
        kinds: dict[str, type[Layer]] = {"attention": AttentionLayer, "conv": ConvLayer}
        self.layers = nn.ModuleList([kinds[layer.mixer](spec, layer) for layer in spec.layers])
        self.norm = RmsNorm(spec.width, spec.norm_eps)
        self.head: nn.Linear | QuantLinear
        if not spec.tied:
            self.head = nn.Linear(spec.width, spec.vocab, bias=False)

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


def run_layers(
    layers: Iterable[nn.Module],
    hidden: Tensor,
    context: Any,
    rows: list[Tensor],
    caches: Iterable[Any] = repeat(None),
    features: Iterable[Tensor] = (),
) -> tuple[Tensor, LayerResult]:
    """One or more layers after one another. Returns hidden, the output of the last, and all that it left.

    rows: gets what each has cached. caches: of each; without them all are empty. features: shaped as hidden,
    what is added to the output of the first of them.
    """
    residual, delta = hidden, None
    for layer, cache, feature in zip(layers, caches, chain(features, repeat(None)), strict=False):  # some have no end
        last: LayerResult = layer(residual, delta, context, cache)
        if feature is not None:
            last = last._replace(hidden=last.hidden + feature)
        residual, delta = last.residual, last.hidden
        rows += last.cached
    return last.residual + last.hidden, last


class Prefill(nn.Module):
    """First turn: layers group by group, each over the visual tokens that the stage before it has left."""

    prefix_P: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        decoder: Decoder,
        pruners: Sequence[Pruner],
        geometry: Geometry,
        prefix_ids: list[int],
        rope: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.decoder, self.pruners, self.geometry = decoder, nn.ModuleList(pruners), geometry
        self.row_attention = RowAttention()
        self.register_buffer("prefix_P", torch.tensor(prefix_ids, dtype=torch.int32), persistent=False)
        self.register_buffer("cos", rope[0], persistent=False)
        self.register_buffer("sin", rope[1], persistent=False)
        for group, base in enumerate(geometry.bases):
            self.register_buffer(f"mask_{group}", causal_mask(base + geometry.text, rope[0].dtype), persistent=False)
            self.register_buffer(f"tail_{group}", state_rows(geometry, base), persistent=False)

    def forward(
        self, ids: Tensor, text_len: Tensor, visual: Tensor, places: Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """ids int32 [1, T], text_len int32 [1], visual [N, D (1 + n)] -> logits [V], what is kept, rows, biases.

        places int32 [N]: where the visual tokens stand, where the vision tower has dropped others; bias [N]: what it
        has found that each of them counts for, if it weighs.
        rows: keys and values, or the state, of each layer. biases [S]: of each stage that weighs, added to the scores
        of what it has kept, in all layers after it.
        What is kept: kept of each stage but the last, then its kept, order and filled, as `Geometry.outputs` has them.
        ids may be fewer than T where no graph is traced.
        """
        geometry, decoder, first = self.geometry, self.decoder, self.geometry.prefix
        place_N = None if places is None else places.to(torch.int64)
        cos_Ld, sin_Ld = (self.prompt_rows(table, ids.shape[1], place_N) for table in (self.cos, self.sin))
        words = decoder.embed(torch.cat([self.prefix_P, ids[0]])).to(visual.dtype)
        hidden_LD, *features = among_text(words, visual, geometry)
        rows: list[Tensor] = []
        biases: list[Tensor] = []
        bias_S = bias
        choice = Choice(place_N=place_N)
        context = self.context(0, text_len, cos_Ld, sin_Ld, bias_S)
        hidden_LD, last = self.run_group(0, hidden_LD, context, rows, features)
        for stage, pruner in enumerate(self.pruners):
            after = geometry.bases[stage]
            keys_NC = attention_N = None
            if last is not None and last.key is not None:
                keys_NC = last.key[:, first:after].permute(1, 0, 2).reshape(after - first, -1)
                if "attention" in cast(Pruner, pruner).needs:
                    attention_N = self.last_attention(stage, last, context, text_len + (after - 1))[first:after]

            pruned = pruner(hidden_LD[first:after], keys_NC, attention_N, choice.place_N)
            choice = choice.then(pruned)
            if geometry.cuts[stage].weighs:
                bias_S = tokens_stood_for(hidden_LD[first:after], pruned.kept_S, bias_S)
                biases.append(bias_S.to(visual.dtype))
            elif geometry.weighed[stage + 1] is None:
                bias_S = None
            hidden_LD = torch.cat([hidden_LD[:first], pruned.hidden_SD, hidden_LD[after:]])

            def left(rows_L: Tensor, kept_S: Tensor = pruned.kept_S, after: int = after) -> Tensor:
                return torch.cat([rows_L[:first], rows_L[first:after].index_select(0, kept_S), rows_L[after:]])

            cos_Ld, sin_Ld = left(cos_Ld), left(sin_Ld)
            # A kept token gets its own features: fused are only hidden states.
            to_come = range(geometry.cuts[stage].layer, geometry.deep)
            features = [left(each) if layer in to_come else each for layer, each in enumerate(features)]
            context = self.context(stage + 1, text_len, cos_Ld, sin_Ld, bias_S)
            hidden_LD, last = self.run_group(stage + 1, hidden_LD, context, rows, features)
        logits = decoder.logits(hidden_LD, text_len + (geometry.bases[-1] - 1))
        return (logits, *choice.outputs(), *rows, *biases)

    def prompt_rows(self, table_Xd: Tensor, tokens: int, place_N: Tensor | None) -> Tensor:
        """Of a rotary table the rows of prefix, visual tokens, and so many text tokens."""
        first, whole = self.geometry.prefix, self.geometry.whole_base
        if place_N is None:
            return _cut(table_Xd, whole + tokens)
        visual_Nd = table_Xd.index_select(0, place_N + first)
        return torch.cat([table_Xd[:first], visual_Nd, table_Xd[whole : whole + tokens]])

    def context(self, group: int, text_len: Tensor, cos_Ld: Tensor, sin_Ld: Tensor, bias_S: Tensor | None) -> Context:
        """What the layers of a group are given beside their tokens. bias_S: added to the scores of visual tokens."""
        tokens = cos_Ld.shape[0]
        mask_LL = _cut(self.get_buffer(f"mask_{group}"), tokens, tokens)
        if bias_S is not None:
            mask_LL = mask_LL + over_slots(bias_S.to(mask_LL.dtype), self.geometry.prefix, tokens)
        tail_r = self.get_buffer(f"tail_{group}")
        return Context(cos_Ld, sin_Ld, mask_LL, text_len + tail_r if len(tail_r) else None)

    def run_group(
        self, group: int, hidden_LD: Tensor, context: Context, rows: list[Tensor], features: list[Tensor]
    ) -> tuple[Tensor, LayerResult | None]:
        """The layers of a group; nothing is done, and nothing left, in an empty one. features: of the first layers."""
        layers = self.geometry.groups[group]
        if not layers:
            return hidden_LD, None
        own = slice(layers.start, layers.stop)
        return run_layers(self.decoder.layers[own], hidden_LD, context, rows, features=features[own])

    def last_attention(self, stage: int, last: LayerResult, context: Context, last_1: Tensor) -> Tensor:
        """What the token at row `last_1` attends to in the layer before a stage, which left `last`. float32 [L]."""
        layer = cast(AttentionLayer, self.decoder.layers[self.geometry.cuts[stage].layer - 1])
        assert last.key is not None
        # One query once more, since the layer's own attention of all rows would be too large to hand out.
        given = (rows.index_select(0, last_1) for rows in (last.before, context.cos_Ld, context.sin_Ld))
        return self.row_attention(layer.queries(*given), last.key, context.mask_LL.index_select(0, last_1))


def among_text(words: Tensor, visual: Tensor, geometry: Geometry) -> list[Tensor]:
    """Prompt [L, D] of words [P + T, D] and visual tokens [N, D (1 + n)], and each of the n features shaped as it."""
    first, width = geometry.prefix, geometry.hidden
    parts = [visual]
    if geometry.deep:
        # Slices, since XNNPACK has no split.
        parts = [visual[:, start : start + width] for start in range(0, geometry.visual_width, width)]
    around = [words, *[torch.zeros_like(words)] * geometry.deep]
    return [torch.cat([text[:first], part, text[first:]]) for text, part in zip(around, parts, strict=True)]


class Choice(NamedTuple):
    """What the stages so far have kept, in numbers of the model's N visual tokens."""

    earlier: tuple[Tensor, ...] = ()
    """int64, tokens kept by each stage but the last, ascending."""
    place_N: Tensor | None = None
    """int64, tokens that are left, ascending; None: all of them."""
    order_S: Tensor | None = None
    """int64, the same in the order of selection."""
    filled_1: Tensor | None = None
    """int64, how many were added by lowest score, in all stages."""

    def then(self, pruned: PruneResult) -> "Choice":
        """After one more stage, which chose among those that are left."""
        kept_S, order_S, filled_1 = pruned.kept_S, pruned.order_S, pruned.filled_1
        if self.place_N is None:
            return Choice((), kept_S, order_S, filled_1)
        kept_S, order_S = (self.place_N.index_select(0, index_S) for index_S in (kept_S, order_S))
        if self.filled_1 is None:  # those before were dropped in the vision tower, which says so itself
            return Choice((), kept_S, order_S, filled_1)
        return Choice((*self.earlier, self.place_N), kept_S, order_S, self.filled_1 + filled_1)

    def outputs(self) -> list[Tensor]:
        """int32: kept of each earlier stage, kept, order, filled."""
        made = (*self.earlier, self.place_N, self.order_S, self.filled_1)
        return [index.to(torch.int32) for index in made if index is not None]


class Step(nn.Module):
    """Tokens after a filled cache: the caches are read, the new rows returned."""

    cos: Tensor
    sin: Tensor
    mask_LL: Tensor
    tail_r: Tensor
    index_L: Tensor
    slot_C: Tensor
    last_position: Tensor

    def __init__(self, decoder: Decoder, geometry: Geometry, rope: tuple[Tensor, Tensor], tokens: int) -> None:
        super().__init__()
        self.decoder, self.geometry = decoder, geometry
        self.register_buffer("cos", rope[0], persistent=False)
        self.register_buffer("sin", rope[1], persistent=False)
        self.register_buffer("mask_LL", causal_mask(tokens, rope[0].dtype), persistent=False)
        self.register_buffer("tail_r", state_rows(geometry, 0), persistent=False)
        self.register_buffer("index_L", torch.arange(tokens, dtype=torch.int32), persistent=False)
        slots = geometry.whole_base + geometry.text_room
        self.register_buffer("slot_C", torch.arange(slots, dtype=torch.int32), persistent=False)
        last = torch.full((1,), geometry.text_room - 1, dtype=torch.int32)
        self.register_buffer("last_position", last, persistent=False)

    def step(self, ids: Tensor, last_1: Tensor, past: Tensor, caches: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """ids [1, L] at text positions past, past + 1, ... -> logits [V] of row last_1, and rows as of `Prefill`."""
        geometry, decoder, tokens = self.geometry, self.decoder, ids.shape[1]
        # Padding of an almost full cache would point behind the table; its rows are never read.
        position_L = torch.minimum(past + _cut(self.index_L, tokens), self.last_position)
        cos_Ld, sin_Ld = self.cos.index_select(0, position_L), self.sin.index_select(0, position_L)
        mask_LL = _cut(self.mask_LL, tokens, tokens)
        rest = iter(caches)
        held = [[next(rest) for _ in geometry.cached(layer, 0)] for layer in range(geometry.layers)]
        biases = dict(zip(sorted({by for by in geometry.weighed if by is not None}), rest, strict=True))
        masks = []
        for by, base in zip(geometry.weighed, geometry.bases, strict=True):
            mask_1C = self.cache_mask(past, base)
            if by is not None:
                mask_1C = mask_1C + over_slots(biases[by], geometry.prefix, mask_1C.shape[1])
            masks.append(mask_1C)
        filled = [
            (*held[layer], mask_1C) for layers, mask_1C in zip(geometry.groups, masks, strict=True) for layer in layers
        ]
        rows: list[Tensor] = []
        words_LD = decoder.embed(ids[0]).to(cos_Ld.dtype)
        tail_r = last_1 + 1 + self.tail_r if len(self.tail_r) else None
        context = Context(cos_Ld, sin_Ld, mask_LL, tail_r)
        hidden_LD, _ = run_layers(decoder.layers, words_LD, context, rows, filled)
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
        """ids int32 [1, 1], past int32 [1] text tokens in the cache, caches -> logits, rows.

        caches: keys and values [J, C, d] or the state [r, D] of each layer, then the biases [S] of each stage that
        weighs.
        """
        return self.step(ids, past * 0, past, caches)


class Extend(Step):
    """The next turn of a chat: up to T tokens at once."""

    def __init__(self, decoder: Decoder, geometry: Geometry, rope: tuple[Tensor, Tensor]) -> None:
        super().__init__(decoder, geometry, rope, geometry.text)

    def forward(self, ids: Tensor, text_len: Tensor, past: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """ids int32 [1, T], text_len int32 [1] of them valid, past int32 [1], caches -> logits, rows.

        caches: as `Decode` takes them.
        ids may be fewer than T where no graph is traced.
        """
        return self.step(ids, text_len - 1, past, caches)


def state_rows(geometry: Geometry, before: int) -> Tensor:
    """Which rows a convolution's state is after `before` tokens, where no text follows them. int32 [r]."""
    rows = next((kv.rows for kv in geometry.kv if isinstance(kv, StateLayer)), 0)
    return torch.arange(before, before + rows, dtype=torch.int32)


def over_slots(bias_S: Tensor, first: int, slots: int) -> Tensor:
    """A row of scores with `bias_S` from slot `first` on, and zeros elsewhere. [1, slots]."""
    after = slots - first - bias_S.shape[0]
    return torch.cat([bias_S.new_zeros(first), bias_S, bias_S.new_zeros(after)]).unsqueeze(0)


def _cut(table: Tensor, *sizes: int) -> Tensor:
    """The first rows, and columns, of a table made for a full bucket; itself, without an op, where it is as large."""
    for dim, size in enumerate(sizes):
        if table.shape[dim] != size:
            table = table.narrow(dim, 0, size)
    return table


def decoder_transforms(spec: DecoderSpec) -> dict[str, str]:
    """Module -> the transform of its tensors that the spec asks for (see `loading.py`)."""
    norms = ("norm", *(f"layers.{{}}.{name}" for name in ("input_norm", "mlp_norm", "q_norm", "k_norm")))
    return (dict.fromkeys(norms, "plus_one") if spec.norm_offset else {}) | (
        {"layers.{}.conv": "by_token"} if spec.conv_kernel else {}
    )
