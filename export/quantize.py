"""Named quantization presets, and linear layers whose weights are integer codes.

A weight is code x scale, symmetric around 0, with one scale for each output row or for each group of its inputs. Every
target keeps the codes in the form that its kernels read, and its layer computes in PyTorch what they compute: that is
what an export is verified against.

Dims: O outputs, I inputs, G groups of inputs, g inputs of a group, L rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vlmp.export.config import UNQUANTIZED, check_preset
from vlmp.export.models.layers import PatchAttention
from vlmp.runtimes.bundle.errors import UserError

SMALLEST_SCALE = 1e-7
"""Of weights that are all zero; any less would be 0 in float16."""
SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Candidates for a group's largest value relative to the one it has: clipping an outlier may round the rest better."""
SCALE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
CHUNK = 1 << 18
"""Weights that are quantized at a time: so many floats stay in a core's cache."""

Part = Literal["vision", "early", "late", "table"]
"""The vision tower, the decoder layers before the pruner, those behind it, and the embedding with the head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """How the weights of one part are stored."""

    bits: Literal[4, 8]
    group: int | None = None
    """Inputs that share a scale; None is a whole output row."""
    smaller_groups: tuple[int, ...] = ()
    """Other sizes that the target's kernels take, largest first, for weights that `group` does not divide."""
    palette: int | None = None
    """Rows that share a table of values, in which codes are places; None is codes times scales."""
    scale_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """What the kernels keep scales in; codes are chosen for scales rounded to it."""

    @property
    def largest(self) -> int:
        """The largest code; the smallest is its negative."""
        return 2 ** (self.bits - 1) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """What a target makes of each part; the pruner and the norms are never quantized."""

    description: str
    parts: Mapping[Part, Scheme]
    """Parts that are missing stay in the precision of the export."""
    patch_attention: Callable[[PatchAttention], nn.Module] | None = None
    """What computes attention in the vision tower, if it is not in the precision of the export."""


class QuantLinear(nn.Module):
    """A linear layer that holds integer codes: weight [O, I] float -> codes and scales in a target's own form."""

    bias: nn.Parameter | None

    def __init__(self, weight_OI: Tensor, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme
        self.outputs, self.inputs = weight_OI.shape
        self.group = scheme.group or self.inputs
        self.lowering = False
        """Whether a target's own operator stands for what this computes: set while a graph is traced."""
        self.in_parts = False
        """Whether `product` takes some rows of the weight at a time: faster, but not to be traced or counted."""
        self.register_parameter("bias", None)
        self.encode(weight_OI)

    def encode(self, weight_OI: Tensor) -> None:
        """Turn the weight into codes and scales."""
        self.pack(*quantize_weight(weight_OI, self.scheme))

    def pack(self, codes_OI: Tensor, scale_OG: Tensor) -> None:
        """Store codes int8 [O, I] and scales float32 [O, G]."""
        self.codes = constant(codes_OI)
        self.scale = constant(scale_OG)

    def kernel_bytes(self) -> list[tuple[Tensor, int]]:
        """The weight's tensors, and the bytes that the target's kernels read of each however they are held here."""
        codes = self.outputs * self.inputs * self.scheme.bits // 8
        return [(self.codes, codes), (self.scale, self.scale.numel() * SCALE_BYTES[self.scheme.scale_dtype])]

    def rows(self, index_L: Tensor) -> Tensor:
        """Rows of the weight, as an embedding reads them. int [L] -> float32 [L, I]."""
        codes_LI = self.codes.index_select(0, index_L).float()
        scale_LG1 = self.scale.index_select(0, index_L).unsqueeze(-1)
        return (codes_LI.reshape(-1, self.inputs // self.group, self.group) * scale_LG1).reshape(-1, self.inputs)

    def weight(self) -> Tensor:
        """The weight that the codes stand for. float32 [O, I]."""
        return self.rows(torch.arange(self.outputs, dtype=torch.int32))

    def product(self, hidden_LI: Tensor) -> Tensor:
        """hidden [..., I] times the weight that the codes stand for, with the bias. [..., O]."""
        if not self.in_parts:
            return F.linear(hidden_LI, self.weight(), self.bias)
        # As floats these rows stay in a core's cache, and no whole weight is written.
        some = torch.arange(self.outputs, dtype=torch.int32).split(max(1, CHUNK // self.inputs))
        parts = [F.linear(hidden_LI, self.rows(index_L).to(hidden_LI.dtype)) for index_L in some]
        product_LO = torch.cat(parts, -1)
        return product_LO if self.bias is None else product_LO + self.bias

    def forward(self, hidden_LI: Tensor) -> Tensor:
        """hidden [L, I] -> [L, O]."""
        raise TypeError(f"{type(self).__name__} does not say how it computes")


class QuantEmbedding(nn.Module):
    """A table of words that holds integer codes; a tied head is the same layer."""

    def __init__(self, linear: QuantLinear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, index_L: Tensor) -> Tensor:
        """int [L] -> [L, I]."""
        return self.linear.rows(index_L)


class Kernels(Protocol):
    """What makes a target's quantized layers."""

    def __call__(self, weight_OI: Tensor, scheme: Scheme) -> QuantLinear:
        """A layer with the codes of `weight_OI`."""
        ...


def find_preset(name: str, target: str, presets: Mapping[str, Preset]) -> Preset | None:
    """The target's preset of this name, None for no quantization. Raises UserError listing the choices."""
    check_preset(target, presets, name)
    return None if name == UNQUANTIZED else presets[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantizer:
    """A preset with the layers of a target."""

    preset: Preset
    kernels: Kernels
    notes: list[str] = field(default_factory=list)
    """What a user should know of the weights, a sentence each; complete when all layers are made."""

    def layer(self, part: Part, name: str, weight_OI: Tensor) -> QuantLinear | None:
        """The quantized layer, None where the preset leaves the part alone.

        Raises UserError when groups or tables do not fit.
        """
        scheme = self.preset.parts.get(part)
        if scheme is None:
            return None
        outputs, inputs = weight_OI.shape
        if scheme.group is not None and inputs % scheme.group:
            scheme = self._in_smaller_groups(scheme, name, inputs)
        if scheme.palette is not None and outputs % scheme.palette:
            raise UserError(
                f"{name} has {outputs} outputs, which tables of {scheme.palette} rows do not divide: use --quant int4"
            )
        return self.kernels(weight_OI, scheme)

    def swap_attention(self, vision: nn.Module) -> None:
        """Put what the preset has for attention in the place of it."""
        if (kind := self.preset.patch_attention) is None:
            return
        for parent in list(vision.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is PatchAttention:
                    setattr(parent, name, kind(child))

    def _in_smaller_groups(self, scheme: Scheme, name: str, inputs: int) -> Scheme:
        sizes = (scheme.group, *scheme.smaller_groups)
        fitting = next((size for size in scheme.smaller_groups if inputs % size == 0), None)
        if fitting is None:
            groups = " or ".join(map(str, sizes))
            raise UserError(f"{name} has {inputs} inputs, which groups of {groups} do not divide: use --quant none")
        note = f"weights of {inputs} inputs are in groups of {fitting}, since {scheme.group} does not divide {inputs}"
        if note not in self.notes:
            self.notes.append(note)
        return replace(scheme, group=fitting)


def compute_in_parts(module: nn.Module) -> None:
    """Let quantized layers compute fast from now on; a graph of it can no longer be traced."""
    for part in module.modules():
        if isinstance(part, QuantLinear):
            part.in_parts = True


def constant(value: Tensor) -> nn.Parameter:
    """A tensor of any dtype as a weight of a module."""
    return nn.Parameter(value, requires_grad=False)


def quantize_weight(weight_OI: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Codes int8 [O, I] and scales float32 [O, G]; at 4 bits those of smallest error among `SHRINK`."""
    # Some rows at a time: floats of the whole weight several times over would be most of an export's memory.
    rows = max(1, CHUNK // weight_OI.shape[1])
    codes, scales = zip(*(_quantize_rows(part, scheme) for part in weight_OI.split(rows)), strict=True)
    return torch.cat(codes), torch.cat(scales)


def _quantize_rows(weight_OI: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    outputs, inputs = weight_OI.shape
    weight_OGg = weight_OI.float().reshape(outputs, -1, scheme.group or inputs)
    widest_OG1 = weight_OGg.abs().amax(-1, keepdim=True)

    def scales(share: float) -> Tensor:
        scale_OG1 = (widest_OG1 * (share / scheme.largest)).clamp_min(SMALLEST_SCALE)
        return scale_OG1.to(getattr(torch, scheme.scale_dtype)).float()

    def codes(scale_OG1: Tensor) -> Tensor:
        return (weight_OGg / scale_OG1).round_().clamp_(-scheme.largest, scheme.largest)

    best_OG1 = scales(1.0)
    if scheme.bits == 4:
        tried = [scales(share) for share in SHRINK]
        errors = [codes(scale_OG1).mul_(scale_OG1).sub_(weight_OGg).square_().sum(-1) for scale_OG1 in tried]
        best_OG1 = torch.stack(tried).gather(0, torch.stack(errors).argmin(0)[None, ..., None])[0]
    return codes(best_OG1).to(torch.int8).reshape(outputs, inputs), best_OG1.squeeze(-1)
