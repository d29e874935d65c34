"""Qwen2-VL (arXiv 2409.12191): its config, its vision tower, and the names in its checkpoint.

Dims: N visual tokens, M = 4 N patches, E vision width, D hidden size of the language model, d head size.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLConfig
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from vlmp.export.checkpoint import adapter_weights, read_config
from vlmp.export.geometry import Geometry
from vlmp.export.models.decoder import Decode, Decoder, DecoderSizes, Extend, Prefill
from vlmp.export.models.layers import PatchAttention, in_merge_order, prompt_positions, rope_rows, text_positions
from vlmp.export.models.loading import Names, load
from vlmp.export.pixels import Normalisation, read_normalisation
from vlmp.export.quantize import Part, Quantizer
from vlmp.export.weights import Weights
from vlmp.pruner import Pruner
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.manifest import MethodName

TEXT_SIZES = ("hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
              "num_hidden_layers", "num_key_value_heads", "vocab_size")  # fmt: skip
VISION_SIZES = ("depth", "embed_dim", "mlp_ratio", "num_heads", "patch_size")
PIXELS = Normalisation(mean=tuple(OPENAI_CLIP_MEAN), std=tuple(OPENAI_CLIP_STD), rescale=1 / 255)
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Qwen2VL:
    """A Qwen2-VL checkpoint: facts from its config, and its graphs.

    Raises UserError when the config asks for what the graphs do not compute.
    """

    name = "qwen2_vl"
    image_token = "<|image_pad|>"

    def __init__(self, checkpoint: Path) -> None:
        raw = read_config(checkpoint)
        self.checkpoint = checkpoint
        self.notes: list[str] = []
        try:
            self.config = Qwen2VLConfig.from_dict(raw)
            self.text, self.vision = self.config.text_config, self.config.vision_config
            self._check_sizes()
            self.rope_theta = float(self.text.rope_parameters["rope_theta"])
            self.mrope_section = list(self.text.rope_parameters.get("mrope_section", []))
            self.layers: int = self.text.num_hidden_layers
            self.max_positions: int = self.text.max_position_embeddings
            self.head_dim: int = self.text.hidden_size // self.text.num_attention_heads
            self.image_token_id: int = self.config.image_token_id
            self.merge_px: int = self.vision.patch_size * self.vision.spatial_merge_size
            self._check()
            self.pixels = self._read_pixels()
            self.pad_rgb = self.pixels.pad_rgb
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

    def _read_pixels(self) -> Normalisation:
        vision = self.vision
        sizes = {
            "patch_size": vision.patch_size, "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
        }  # fmt: skip
        return read_normalisation(self.checkpoint, PIXELS, sizes)

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
        holds: torch.dtype | None = None,
    ) -> dict[MethodName, nn.Module]:
        """The four graphs with the checkpoint's weights in `dtype`; prefill, decode and extend share one decoder.

        holds: what the export will keep values in where that is smaller than `dtype`. Raises UserError when the
        checkpoint's tensors do not fit its config, `holds` cannot hold them, or the quantizer's groups do not fit them.
        """

        def part(name: str) -> Part:
            """The part that a module of the decoder belongs to."""
            if not name.startswith("layers."):
                return "table"
            return "early" if int(name.split(".")[1]) < geometry.prune_layer else "late"

        holds = holds or dtype
        with Weights(self.checkpoint) as weights:
            table, head = self._words(weights)
            with torch.device("meta"):
                vision, decoder = Vision(self, geometry), Decoder(self.decoder_sizes(tied=head is None))
            load(vision, weights, vision_names(), dtype, quantizer, lambda _: "vision", holds)
            load(decoder, weights, decoder_names(table, head), dtype, quantizer, part, holds)
            for path in adapter_weights(self.checkpoint):
                self._note(f"{path.name} beside the weights is not read, since no adapter_config.json is there")
            if weights.unused:
                self._note(f"{len(weights.unused)} tensors of the checkpoint are not used, as {weights.unused[0]}")
        if head is None:
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

    def _words(self, weights: Weights) -> tuple[str, str | None]:
        """Names of the tensors of the embedding and of a head of its own, as transformers ties them.

        A config that ties them is believed unless the checkpoint has both and they differ; one of them serves as both.
        """
        if not self.config.tie_word_embeddings:
            return EMBED, HEAD
        if HEAD not in weights:
            return EMBED, None
        if EMBED not in weights:
            return HEAD, None
        shape = (self.text.vocab_size, self.text.hidden_size)
        if torch.equal(weights.get(EMBED, shape).float(), weights.get(HEAD, shape).float()):
            return EMBED, None
        self._note(f"config.json ties the head to the embedding, but {HEAD} differs from it: it is exported as it is")
        return EMBED, HEAD

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def decoder_sizes(self, *, tied: bool) -> DecoderSizes:
        """Of the language model. tied: whether its head is the embedding."""
        text = self.text
        return DecoderSizes(
            layers=text.num_hidden_layers,
            width=text.hidden_size,
            inner=text.intermediate_size,
            heads=text.num_attention_heads,
            kv_heads=text.num_key_value_heads,
            vocab=text.vocab_size,
            norm_eps=text.rms_norm_eps,
            tied=tied,
        )

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
        self.patch = nn.Conv2d(vision.in_channels, vision.embed_dim, vision.patch_size, vision.patch_size, bias=False)
        self.blocks = nn.ModuleList([VisionBlock(vision) for _ in range(vision.depth)])
        self.merge_norm = nn.LayerNorm(vision.embed_dim, eps=1e-6)
        self.merge_in = nn.Linear(vision.embed_dim * 4, vision.embed_dim * 4)
        self.merge_out = nn.Linear(vision.embed_dim * 4, vision.hidden_size)

    def bake(self, model: Qwen2VL, geometry: Geometry, dtype: torch.dtype) -> None:
        """Constants of the grid: normalisation and the 2D rotary rows of all patches in merge order."""
        std = torch.tensor(model.pixels.std).view(1, 3, 1, 1)
        mean = torch.tensor(model.pixels.mean).view(1, 3, 1, 1)
        self.register_buffer("scale", (1 / (1 / model.pixels.rescale * std)).to(dtype), persistent=False)
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
        patches = self.patch(image * self.scale + self.shift)
        width = patches.shape[1]
        hidden_ME = patches.reshape(width, rows, 2, columns, 2).permute(1, 3, 2, 4, 0).reshape(-1, width)
        for block in self.blocks:
            hidden_ME = block(hidden_ME, self.cos_Md, self.sin_Md)
        merged = self.merge_norm(hidden_ME).reshape(rows * columns, 4 * width)
        return self.merge_out(F.gelu(self.merge_in(merged)))


class VisionBlock(nn.Module):
    """Pre-norm transformer block with full attention over all patches."""

    def __init__(self, vision: "Qwen2VLConfig") -> None:
        super().__init__()
        width = vision.embed_dim
        self.attention = PatchAttention(vision.num_heads)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, int(width * vision.mlp_ratio))
        self.fc2 = nn.Linear(int(width * vision.mlp_ratio), width)

    def forward(self, hidden_ME: Tensor, cos_Md: Tensor, sin_Md: Tensor) -> Tensor:
        """hidden [M, E] -> [M, E]."""
        qkv_ME = self.qkv(self.norm1(hidden_ME))
        hidden_ME = hidden_ME + self.proj(self.attention(qkv_ME, cos_Md, sin_Md))
        inner = self.fc1(self.norm2(hidden_ME))
        return hidden_ME + self.fc2(inner * torch.sigmoid(1.702 * inner))


# --- Checkpoint names -------------------------------------------------------------------------------------------------


def vision_names() -> Names:
    """Of the vision tower."""
    blocks = {
        "norm1": "norm1", "norm2": "norm2", "qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2",
    }  # fmt: skip
    return {f"blocks.{{}}.{ours}": f"visual.blocks.{{}}.{theirs}" for ours, theirs in blocks.items()} | {
        "patch": "visual.patch_embed.proj",
        "merge_norm": "visual.merger.ln_q",
        "merge_in": "visual.merger.mlp.0",
        "merge_out": "visual.merger.mlp.2",
    }


def decoder_names(table: str, head: str | None) -> Names:
    """Of the decoder. table, head: tensors of the embedding and of the head; None is the embedding itself."""
    parts = {
        "norm1": ("input_layernorm",), "norm2": ("post_attention_layernorm",),
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "out": ("self_attn.o_proj",),
        "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down": ("mlp.down_proj",),
    }  # fmt: skip
    layers = {
        f"layers.{{}}.{ours}": tuple(f"model.layers.{{}}.{name}" for name in theirs) for ours, theirs in parts.items()
    }
    words = {"embed": table, "head": head} if head else {"embed": table}
    owners = {ours: tensor.removesuffix(".weight") for ours, tensor in words.items()}
    return {**layers, "norm": "model.norm", **owners}
