"""Qwen2-VL (arXiv 2409.12191) as four static graphs: vision, prefill, decode, extend.

Dims: N visual tokens, M = 4 N patches, E vision width, P prefix ids, S kept, T text bucket, L tokens of a call,
D hidden size, C cache slots, H query heads, J key/value heads, g = H / J, d head size, V vocabulary.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLConfig
from vlmp.export.bundle import MethodName
from vlmp.export.checkpoint import Weights, checkpoint_names, read_config, read_json
from vlmp.export.errors import UserError, one_line
from vlmp.export.geometry import Geometry
from vlmp.export.models.layers import (
    MASKED,
    RmsNorm,
    RowAttention,
    causal_mask,
    in_merge_order,
    prompt_positions,
    rope_rows,
    rotate,
    text_positions,
)
from vlmp.export.quantize import Part, QuantEmbedding, Quantizer, QuantLinear
from vlmp.pruner import Pruner

TEXT_SIZES = ("hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
              "num_hidden_layers", "num_key_value_heads", "vocab_size")  # fmt: skip
VISION_SIZES = ("depth", "embed_dim", "mlp_ratio", "num_heads", "patch_size")


class Qwen2VL:
    """A Qwen2-VL checkpoint: facts from its config, and its graphs.

    Raises UserError when the config asks for what the graphs do not compute.
    """

    name = "qwen2_vl"
    image_token = "<|image_pad|>"
    pad_rgb = (122, 116, 104)  # the mean colour: the normalisation maps it to about 0

    def __init__(self, checkpoint: Path) -> None:
        raw = read_config(checkpoint)
        self.checkpoint = checkpoint
        try:
            self.config = Qwen2VLConfig.from_dict(raw)
            self.text, self.vision = self.config.text_config, self.config.vision_config
            self._check_sizes()
            self.rope_theta = float(self.text.rope_parameters["rope_theta"])
            self.mrope_section = list(self.text.rope_parameters.get("mrope_section", []))
            self.layers: int = self.text.num_hidden_layers
            self.max_positions: int = self.text.max_position_embeddings
            self.head_dim: int = self.text.hidden_size // self.text.num_attention_heads
            self.merge_px: int = self.vision.patch_size * self.vision.spatial_merge_size
            self._check()
        except UserError:
            raise
        except Exception as error:  # transformers raises many kinds here, all meaning that the file is wrong
            path = checkpoint / "config.json"
            raise UserError(f"{path} is no Qwen2-VL config: {one_line(error)}") from error

    def _check_sizes(self) -> None:
        for section, names in ((self.text, TEXT_SIZES), (self.vision, VISION_SIZES)):
            for name in names:
                size = getattr(section, name)
                if not size >= 1:
                    raise UserError(f"{self.checkpoint / 'config.json'}: {name} is {size!r}, it must be at least 1")

    def _check(self) -> None:
        text, vision, path = self.text, self.vision, self.checkpoint / "config.json"
        wanted = {
            "text hidden_act": (text.hidden_act, "silu"),
            "vision hidden_act": (vision.hidden_act, "quick_gelu"),
            "rope_type": (text.rope_parameters.get("rope_type", "default"), "default"),
            "use_sliding_window": (bool(text.use_sliding_window), False),
            "entries of mrope_section": (len(self.mrope_section), 3),
            "vision rope_theta": (vision.rope_parameters["rope_theta"], 10000.0),
            "vision temporal_patch_size": (vision.temporal_patch_size, 2),
            "spatial_merge_size": (vision.spatial_merge_size, 2),
            "vision hidden_size": (vision.hidden_size, text.hidden_size),
            "sum of mrope_section": (sum(self.mrope_section), self.head_dim // 2),
            "hidden_size mod 2 heads": (text.hidden_size % (2 * text.num_attention_heads), 0),
            "vision embed_dim mod 4 heads": (vision.embed_dim % (4 * vision.num_heads), 0),
            "in_channels": (vision.in_channels, 3),
            "heads mod kv heads": (text.num_attention_heads % text.num_key_value_heads, 0),
        }
        for name, (value, right) in wanted.items():
            if value != right:
                raise UserError(f"{path}: {name} is {value!r}, only {right!r} is supported")
        self._check_pixels()

    def _check_pixels(self) -> None:
        """The normalisation of pixels is baked into the vision graph; a checkpoint may not ask for another one."""
        from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

        wanted = {
            "image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD, "rescale_factor": 1 / 255,
            "do_normalize": True, "do_rescale": True,
        }  # fmt: skip
        for path in (self.checkpoint / name for name in ("preprocessor_config.json", "processor_config.json")):
            if not path.is_file():
                continue
            settings = read_json(path)
            nested = settings.get("image_processor")
            settings = nested if isinstance(nested, dict) else settings
            for name, right in wanted.items():
                if settings.get(name, right) != right:
                    raise UserError(f"{path}: {name} is {settings[name]!r}, only {right!r} is supported")

    def geometry(
        self, *, height: int, width: int, prefix: int, kept: int, text: int, room: int, prune_layer: int
    ) -> Geometry:
        """All static sizes. height, width in pixels, multiples of `merge_px`."""
        return Geometry(
            height=height,
            width=width,
            grid=(height // self.merge_px, width // self.merge_px),
            prefix=prefix,
            kept=kept,
            text=text,
            room=room,
            layers=self.layers,
            prune_layer=prune_layer,
            kv_heads=self.text.num_key_value_heads,
            head_dim=self.head_dim,
            hidden=self.text.hidden_size,
            vocab=self.text.vocab_size,
        )

    @torch.no_grad()
    def build(
        self,
        geometry: Geometry,
        pruner: Pruner,
        prefix_ids: list[int],
        dtype: torch.dtype,
        quantizer: Quantizer | None = None,
    ) -> dict[MethodName, nn.Module]:
        """The four graphs with the checkpoint's weights in `dtype`; prefill, decode and extend share one decoder.

        Raises UserError when the checkpoint's tensors do not fit its config, or the quantizer's groups do not fit them.
        """
        with torch.device("meta"):
            vision, decoder = Vision(self, geometry), Decoder(self)

        def part(name: str) -> Part:
            """The part that a module of the decoder belongs to."""
            if not name.startswith("layers."):
                return "table"
            return "early" if int(name.split(".")[1]) < geometry.prune_layer else "late"

        tied = self.config.tie_word_embeddings
        with Weights(self.checkpoint) as weights:
            load(vision, weights, vision_names(), dtype, quantizer, lambda _: "vision")
            load(decoder, weights, decoder_names(tied=tied), dtype, quantizer, part)
        if tied:
            decoder.tie()
        vision.bake(self, geometry, dtype)
        text_rope = self.rope_rows(text_positions(geometry), dtype)
        methods: dict[MethodName, nn.Module] = {
            "vision": vision,
            "prefill": Prefill(
                decoder, pruner, geometry, prefix_ids, self.rope_rows(prompt_positions(geometry), dtype)
            ),
            "decode": Decode(decoder, geometry, text_rope),
            "extend": Extend(decoder, geometry, text_rope),
        }
        for module in methods.values():
            module.eval().requires_grad_(False)
        return methods

    def rope_rows(self, positions_3L: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin [L, d] of the checkpoint's M-RoPE."""
        return rope_rows(positions_3L, self.head_dim, self.rope_theta, self.mrope_section, dtype)


# --- Vision -----------------------------------------------------------------------------------------------------------


class Vision(nn.Module):
    """image [1, 3, height, width] in 0..255 -> visual tokens [N, D]."""

    scale: Tensor
    shift: Tensor
    cos_Md: Tensor
    sin_Md: Tensor

    def __init__(self, model: Qwen2VL, geometry: Geometry) -> None:
        super().__init__()
        vision = model.vision
        self.grid = geometry.grid
        # Two equal frames under a Conv3d are one image under the sum of its two kernels.
        self.patch = nn.Conv2d(vision.in_channels, vision.embed_dim, vision.patch_size, vision.patch_size, bias=False)
        self.blocks = nn.ModuleList([VisionBlock(vision) for _ in range(vision.depth)])
        self.merge_norm = nn.LayerNorm(vision.embed_dim, eps=1e-6)
        self.merge_in = nn.Linear(vision.embed_dim * 4, vision.embed_dim * 4)
        self.merge_out = nn.Linear(vision.embed_dim * 4, vision.hidden_size)

    def bake(self, model: Qwen2VL, geometry: Geometry, dtype: torch.dtype) -> None:
        """Constants of the grid: normalisation and the 2D rotary rows of all patches in merge order."""
        from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

        std = torch.tensor(OPENAI_CLIP_STD).view(1, 3, 1, 1)
        mean = torch.tensor(OPENAI_CLIP_MEAN).view(1, 3, 1, 1)
        self.register_buffer("scale", (1 / (255 * std)).to(dtype), persistent=False)
        self.register_buffer("shift", (-mean / std).to(dtype), persistent=False)
        head_dim = model.vision.embed_dim // model.vision.num_heads
        rows, columns = geometry.grid
        y_M, x_M = torch.meshgrid(torch.arange(2 * rows), torch.arange(2 * columns), indexing="ij")
        place_2M = torch.stack([in_merge_order(y_M), in_merge_order(x_M)]).float()
        frequency = 1.0 / 10000.0 ** (torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
        angle_Md = torch.cat([place_2M[0, :, None] * frequency, place_2M[1, :, None] * frequency], -1).repeat(1, 2)
        self.register_buffer("cos_Md", angle_Md.cos().to(dtype), persistent=False)
        self.register_buffer("sin_Md", angle_Md.sin().to(dtype), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """image float [1, 3, height, width], RGB 0..255 -> visual [N, D]."""
        rows, columns = self.grid
        hidden_EM = self.patch(image * self.scale + self.shift)[0]
        width = hidden_EM.shape[0]
        hidden_ME = hidden_EM.reshape(width, rows, 2, columns, 2).permute(1, 3, 2, 4, 0).reshape(-1, width)
        for block in self.blocks:
            hidden_ME = block(hidden_ME, self.cos_Md, self.sin_Md)
        merged = self.merge_norm(hidden_ME).reshape(rows * columns, 4 * width)
        return self.merge_out(F.gelu(self.merge_in(merged)))


class VisionBlock(nn.Module):
    """Pre-norm transformer block with full attention over all patches."""

    def __init__(self, vision: "Qwen2VLConfig") -> None:
        super().__init__()
        width = vision.embed_dim
        self.heads = vision.num_heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, int(width * vision.mlp_ratio))
        self.fc2 = nn.Linear(int(width * vision.mlp_ratio), width)

    def forward(self, hidden_ME: Tensor, cos_Md: Tensor, sin_Md: Tensor) -> Tensor:
        """hidden [M, E] -> [M, E]."""
        patches, width = hidden_ME.shape
        qkv = self.qkv(self.norm1(hidden_ME)).reshape(patches, 3, self.heads, -1).permute(1, 2, 0, 3)
        query_HMd, key_HMd, value_HMd = rotate(qkv[0], cos_Md, sin_Md), rotate(qkv[1], cos_Md, sin_Md), qkv[2]
        score_HMM = torch.bmm(query_HMd * query_HMd.shape[-1] ** -0.5, key_HMd.transpose(1, 2))
        mixed_HMd = torch.bmm(torch.softmax(score_HMM, -1), value_HMd)
        hidden_ME = hidden_ME + self.proj(mixed_HMd.permute(1, 0, 2).reshape(patches, width))
        inner = self.fc1(self.norm2(hidden_ME))
        return hidden_ME + self.fc2(inner * torch.sigmoid(1.702 * inner))


# --- Decoder ----------------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """Decoder layer: grouped-query attention over cached and new tokens, then a gated MLP."""

    def __init__(self, text: "Qwen2VLConfig") -> None:
        super().__init__()
        width, self.kv_heads = text.hidden_size, text.num_key_value_heads
        self.heads, self.head_dim = text.num_attention_heads, width // text.num_attention_heads
        self.norm1 = RmsNorm(width, text.rms_norm_eps)
        self.norm2 = RmsNorm(width, text.rms_norm_eps)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, self.kv_heads * self.head_dim)
        self.value = nn.Linear(width, self.kv_heads * self.head_dim)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, text.intermediate_size, bias=False)
        self.up = nn.Linear(width, text.intermediate_size, bias=False)
        self.down = nn.Linear(text.intermediate_size, width, bias=False)

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
        normed_LD = self.norm1(hidden_LD)
        query_HLd = self._queries(normed_LD, cos_Ld, sin_Ld)
        key_JLd = rotate(self._heads(self.key(normed_LD), self.kv_heads), cos_Ld, sin_Ld)
        value_JLd = self._heads(self.value(normed_LD), self.kv_heads)

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
        normed_LD = self.norm2(hidden_LD)
        hidden_LD = hidden_LD + self.down(F.silu(self.gate(normed_LD)) * self.up(normed_LD))
        return hidden_LD, key_JLd, value_JLd

    def queries(self, hidden_LD: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
        """The queries [H, L, d] of some of the tokens that `forward` takes, from the same hidden states."""
        return self._queries(self.norm1(hidden_LD), cos_Ld, sin_Ld)

    def _queries(self, normed_LD: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
        return rotate(self._heads(self.query(normed_LD), self.heads), cos_Ld, sin_Ld)

    def _heads(self, projected: Tensor, heads: int) -> Tensor:
        return projected.reshape(-1, heads, self.head_dim).permute(1, 0, 2)


class Decoder(nn.Module):
    """Embedding, layers and head, shared by prefill, decode and extend."""

    def __init__(self, model: Qwen2VL) -> None:
        super().__init__()
        text = model.text
        self.embed: nn.Embedding | QuantEmbedding = nn.Embedding(text.vocab_size, text.hidden_size)
        self.layers = nn.ModuleList([Layer(text) for _ in range(text.num_hidden_layers)])
        self.norm = RmsNorm(text.hidden_size, text.rms_norm_eps)
        self.head: nn.Linear | QuantLinear
        if not model.config.tie_word_embeddings:
            self.head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

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
        """ids int32 [1, T], text_len int32 [1], visual [N, D] -> logits [V], kept, order, filled, keys and values."""
        geometry, decoder = self.geometry, self.decoder
        first, behind = geometry.prefix, geometry.early_base
        words = decoder.embed(torch.cat([self.prefix_P, ids[0]])).to(visual.dtype)
        hidden_LD = torch.cat([words[:first], visual, words[first:]])
        rows: list[Tensor] = []
        keys_NC = attention_N = None
        for layer in decoder.layers[: geometry.prune_layer]:
            before_LD = hidden_LD
            hidden_LD, key_JLd, value_JLd = layer(hidden_LD, self.cos, self.sin, self.mask_early)
            rows += [key_JLd, value_JLd]
        if geometry.prune_layer > 0:
            keys_NC = key_JLd[:, first:behind].permute(1, 0, 2).reshape(geometry.visual, -1)
        if "attention" in self.pruner.needs:
            attention_N = self.last_attention(before_LD, key_JLd, text_len + (behind - 1))[first:behind]

        pruned = self.pruner(hidden_LD[first:behind], keys_NC, attention_N)
        hidden_LD = torch.cat([hidden_LD[:first], pruned.hidden_SD, hidden_LD[behind:]])
        cos_Ld, sin_Ld = (
            torch.cat([rope[:first], rope[first:behind].index_select(0, pruned.kept_S), rope[behind:]])
            for rope in (self.cos, self.sin)
        )

        for layer in decoder.layers[geometry.prune_layer :]:
            hidden_LD, key_JLd, value_JLd = layer(hidden_LD, cos_Ld, sin_Ld, self.mask_late)
            rows += [key_JLd, value_JLd]
        logits = decoder.logits(hidden_LD, text_len + (geometry.late_base - 1))
        indices = [index.to(torch.int32) for index in (pruned.kept_S, pruned.order_S, pruned.filled_1)]
        return (logits, *indices, *rows)

    def last_attention(self, hidden_LD: Tensor, key_JLd: Tensor, last_1: Tensor) -> Tensor:
        """What the token at row `last_1` attends to in layer K-1, given the layer's input and keys. float32 [L]."""
        layer = cast(Layer, self.decoder.layers[self.geometry.prune_layer - 1])
        # One query once more, since the layer's own attention of all rows would be too large to hand out.
        query_H1d = layer.queries(*(rows.index_select(0, last_1) for rows in (hidden_LD, self.cos, self.sin)))
        return self.row_attention(query_H1d, key_JLd, self.mask_early.index_select(0, last_1))


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
        geometry, decoder = self.geometry, self.decoder
        # Padding of an almost full cache would point behind the table; its rows are never read.
        position_L = torch.minimum(past + self.index_L, self.last_position)
        cos_Ld, sin_Ld = self.cos.index_select(0, position_L), self.sin.index_select(0, position_L)
        masks = {base: self.cache_mask(past, base) for base in (geometry.early_base, geometry.late_base)}
        hidden_LD = decoder.embed(ids[0]).to(cos_Ld.dtype)
        rows: list[Tensor] = []
        for index, layer in enumerate(decoder.layers):
            cache = (caches[2 * index], caches[2 * index + 1], masks[geometry.base(index)])
            hidden_LD, key_JLd, value_JLd = layer(hidden_LD, cos_Ld, sin_Ld, self.mask_LL, cache)
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
        """ids int32 [1, T], text_len int32 [1] of them valid, past int32 [1], caches -> logits, keys and values."""
        return self.step(ids, text_len - 1, past, caches)


# --- Checkpoint names -------------------------------------------------------------------------------------------------


def vision_names() -> dict[str, str]:
    """Our parameter prefix -> the checkpoint's. `{}` stands for the block's number."""
    blocks = {
        "norm1": "norm1", "norm2": "norm2", "qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2",
    }  # fmt: skip
    return {f"blocks.{{}}.{ours}": f"visual.blocks.{{}}.{theirs}" for ours, theirs in blocks.items()} | {
        "patch": "visual.patch_embed.proj",
        "merge_norm": "visual.merger.ln_q",
        "merge_in": "visual.merger.mlp.0",
        "merge_out": "visual.merger.mlp.2",
    }


def decoder_names(*, tied: bool) -> dict[str, str]:
    """The same for the decoder. A tied head is the embedding itself."""
    parts = {
        "norm1": "input_layernorm", "norm2": "post_attention_layernorm", "query": "self_attn.q_proj",
        "key": "self_attn.k_proj", "value": "self_attn.v_proj", "out": "self_attn.o_proj", "gate": "mlp.gate_proj",
        "up": "mlp.up_proj", "down": "mlp.down_proj",
    }  # fmt: skip
    layers = {f"layers.{{}}.{ours}": f"model.layers.{{}}.{theirs}" for ours, theirs in parts.items()}
    head = {} if tied else {"head": "lm_head"}
    return layers | {"embed": "model.embed_tokens", "norm": "model.norm"} | head


def load(
    root: nn.Module,
    weights: Weights,
    names: dict[str, str],
    dtype: torch.dtype,
    quantizer: Quantizer | None,
    part: Callable[[str], Part],
) -> None:
    """Put the checkpoint's tensors into a module built on the meta device, one by one, quantized as soon as read.

    part: of the model, by the name of a module. Raises UserError when a tensor is missing or has a shape that does not
    fit the config.
    """
    for ours, theirs in list(checkpoint_names(root, names)):
        owner_name, _, leaf = ours.rpartition(".")
        owner = root.get_submodule(owner_name)
        if isinstance(owner, QuantLinear):
            expected: tuple[int, ...] = (owner.outputs,)  # the bias, which comes behind its weight
        else:
            expected = tuple(owner.get_parameter(leaf).shape)
        if ours == "patch.weight":
            # Not in the checkpoint's precision: that would round the sum.
            kernel = weights.get(theirs, (expected[0], expected[1], 2, *expected[2:])).float().sum(2)
        else:
            kernel = weights.get(theirs, expected)
        if quantizer and leaf == "weight" and isinstance(owner, nn.Linear | nn.Embedding):
            layer = quantizer.layer(part(owner_name), theirs, kernel)
            if layer:
                above, _, name = owner_name.rpartition(".")
                setattr(
                    root.get_submodule(above), name, QuantEmbedding(layer) if isinstance(owner, nn.Embedding) else layer
                )
                continue
        setattr(owner, leaf, nn.Parameter(kernel.to(dtype), requires_grad=False))
