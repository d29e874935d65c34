"""What a model is, in values: a family's file makes them of a checkpoint's config, the shared modules compute them.

Every field is a choice that some family makes otherwise. Of a field made with `_only` some values are computed yet; a
spec with another one cannot be built, so that no choice is ever left out silently.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Resample

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu"]
"""gelu is the exact one, gelu_tanh its approximation; quick_gelu is x sigmoid(1.702 x)."""
Norm = Literal["layer", "rms"]


def _only(*values: Any) -> Any:
    """A field of which only these values are computed yet; the first is its default."""
    return field(default=values[0], metadata={"only": values})


class _Computed:
    """The check that all specs share."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Raises UserError naming the first field with a value that is not computed."""
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            computed = each.metadata.get("only")
            if computed and value not in computed:
                kind, known = type(self).__name__, " or ".join(map(repr, computed))
                raise UserError(f"{kind}: {each.name} is {value!r}, only {known} is computed yet")


# --- Language model ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeSpec(_Computed):
    """Rotary embedding, and with it what the position of a token is."""

    theta: float
    layout: Literal["1d", "mrope", "interleaved"] = "1d"
    """1d: a token's place in the prompt. The others (M-RoPE): time, row and column, of which each frequency takes one;
    `mrope` in bands after one another, `interleaved` in turn."""
    sections: tuple[int, ...] = ()
    """How many frequencies take time, row and column. Empty with layout 1d."""
    factor: float = _only(1.0)
    """What positions are divided by."""
    rotated: float = _only(1.0)
    """Share of a head's channels that turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec(_Computed):
    """One decoder layer, as far as layers of a model may differ."""

    kv_heads: int = 0
    head_dim: int = 0
    """Of attention."""
    inner: int
    """Width inside the MLP."""
    mixer: Literal["attention", "conv", "delta"] = _only("attention", "conv")
    """conv: a gated short convolution over neighbouring tokens."""
    window: int = _only(0)
    """Tokens before it that a token sees; 0 is all."""
    kv_from: int | None = _only(None)
    """Layer whose keys and values it uses; None is its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderSpec(_Computed):
    """The language model: RMSNorm, a mixer of tokens and a gated MLP in every layer."""

    width: int
    vocab: int
    heads: int
    layers: tuple[LayerSpec, ...]
    rope: RopeSpec
    tied: bool
    """Whether the head is the embedding."""
    norm_eps: float
    norm_offset: Literal[0, 1] = 0
    """1: the checkpoint holds norm weights less one."""
    act: Activation = "silu"
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    """RMSNorm over each head of queries and keys, before they turn."""
    scale: float | None = _only(None)
    """Of scores; None is 1 / sqrt(head size)."""
    sandwich: bool = _only(False)
    """Norms after attention and after the MLP, too."""
    embed_scale: float = _only(1.0)
    softcap: float = _only(0.0)
    """Of logits; 0 is none."""
    image_block: bool = _only(False)
    """Whether all tokens of the image see each other."""
    deep: int = 0
    """First layers to whose output of the visual tokens features are added (DeepStack)."""
    conv_kernel: int = 0
    """Tokens that a convolution mixes, its own the last one; 0 where no layer is one."""

    def __post_init__(self) -> None:
        """Raises UserError as all specs do, and where layers need more than one table of rotary rows."""
        _Computed.__post_init__(self)
        sizes = sorted({layer.head_dim for layer in self.layers if layer.mixer == "attention"})
        if len(sizes) > 1:
            raise UserError(f"DecoderSpec: layers have heads of {sizes} channels, only one size is computed yet")

    @property
    def head_dim(self) -> int:
        """Of all layers with attention."""
        return next(layer.head_dim for layer in self.layers if layer.mixer == "attention")


# --- Vision -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionSpec(_Computed):
    """The vision tower: a pre-norm transformer over the patches of a picture."""

    depth: int
    """Blocks that are computed; a checkpoint may hold more."""
    width: int
    heads: int
    inner: int
    patch: int
    """Side of a patch, in pixels."""
    patch_layout: Literal["conv", "conv3d", "hwc"] = "conv"
    """conv3d: the checkpoint's kernel takes two frames, which are the same picture here; hwc: it has a linear layer
    over the values of a patch, by row, column and channel."""
    patch_bias: bool = False
    norm: Norm = "layer"
    norm_eps: float
    qkv_bias: bool = True
    act: Activation
    gated: bool = False
    """Whether the MLP is gated, as the language model's."""
    mlp_bias: bool = True
    rope: Literal["none", "halves"] = "none"
    """halves: one half of a head's frequencies turns with the row of a patch, the other with its column."""
    rope_theta: float = 10000.0
    positions: Literal["none", "table", "corners", "antialias", "bucket"] = "none"
    """How a learned table of positions is fitted to the grid; table: as it is, for a grid of its own size; corners:
    bilinearly, its corners on those of the grid; antialias: bilinearly, as pictures are; bucket: a patch takes the row
    of its place as a share of the side."""
    table: int = 0
    """Side of that table, in patches."""
    class_token: bool = False
    """Whether a learned token stands before the patches; what becomes of it is dropped after the blocks."""
    pre_norm: bool = False
    last_norm: bool = False
    """Norms before the blocks and after them."""
    qk_norm: bool = _only(False)
    window: int = 0
    """Side of a window in patches, whose patches see each other alone; 0: all patches see each other."""
    full: tuple[int, ...] = ()
    """Blocks in which all patches see each other all the same."""
    taps: tuple[int, ...] = ()
    """Blocks after which visual features branch off (DeepStack), each through a connector of its own, whose norm is
    over the patches of a token together."""
    layer_scale: bool = False
    """Whether the checkpoint has factors for the outputs of attention and MLP; they become part of their weights."""
    batch_dim: bool = False
    """Whether the class token and the table of positions stand there with a dim for a batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorSpec(_Computed):
    """From patches to visual tokens of the language model's width."""

    merge: int
    """Side of the square of patches that becomes one token."""
    norm: Norm | None = None
    norm_place: Literal["before", "after"] = "before"
    """before: over each patch; after: over the patches of a token together."""
    norm_eps: float = 1e-6
    hidden: int | None = None
    """Width between its two linear layers; None is a single one."""
    act: Activation = "gelu"
    bias: bool = True
    width: int
    """Of a visual token."""
    pool: int = _only(1)
    newline: Literal["none", "row", "end"] = _only("none")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSpec(_Computed):
    """Which pictures the vision graph takes."""

    unit: int
    """Side of the area that becomes one visual token, in pixels."""
    size: tuple[int, int] = (448, 448)
    """(height, width) in pixels, unless told otherwise."""
    fixed: bool = False
    """Whether the model takes no other size."""
    resample: Resample = "bicubic"
    """Pillow's filter for photos, where the checkpoint's image processor does not name one."""
    tiles: tuple[int, int] = _only((1, 1))
    frames: int = _only(1)


# --- Prompt -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSpec(_Computed):
    """What of the prompt is not in a checkpoint's files. What its tokenizer puts before a text (BOS) is."""

    image_token: str
    open: str = ""
    """What the family's processor writes before the visual tokens, beside the chat template."""
    close: str = ""
    """The same after them."""
    end_token: str | None = None
    """What an answer ends with where the chat template writes no special token there; None is the tokenizer's eos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec(_Computed):
    """A whole model."""

    decoder: DecoderSpec
    vision: VisionSpec
    connector: ConnectorSpec
    picture: PictureSpec
    prompt: PromptSpec
    image_token_id: int
    max_positions: int
    """Longest sequence that the model was made for."""
