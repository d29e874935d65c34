"""A vision tower as a static graph, by its spec.

Dims: N visual tokens, m side of the square of patches of a token, M = m^2 N patches, E vision width, F width inside the
MLP, d head size, D hidden size of the language model.
"""

import torch
from torch import Tensor, nn
from vlmp.export.models.connector import Connector, patch_places
from vlmp.export.models.layers import JoinedLinear, PatchAttention, activation, new_norm
from vlmp.export.models.spec import ConnectorSpec, VisionSpec
from vlmp.export.pixels import Normalisation


class Vision(nn.Module):
    """image [1, 3, height, width] in 0..255 -> visual tokens [N, D]. grid: rows and columns of the visual tokens."""

    scale: Tensor
    shift: Tensor
    cos_Md: Tensor
    sin_Md: Tensor

    def __init__(self, spec: VisionSpec, connector: ConnectorSpec, grid: tuple[int, int]) -> None:
        super().__init__()
        self.spec, self.grid, self.merge = spec, grid, connector.merge
        self.patch = nn.Conv2d(3, spec.width, spec.patch, spec.patch, bias=spec.patch_bias)
        self.blocks = nn.ModuleList([VisionBlock(spec) for _ in range(spec.depth)])
        self.connector = Connector(connector, spec.width)

    def bake(self, pixels: Normalisation, dtype: torch.dtype) -> None:
        """Constants of the grid: normalisation, and the rotary rows of all patches in merge order."""
        std = torch.tensor(pixels.std).view(1, 3, 1, 1)
        mean = torch.tensor(pixels.mean).view(1, 3, 1, 1)
        self.register_buffer("scale", (1 / (1 / pixels.rescale * std)).to(dtype), persistent=False)
        self.register_buffer("shift", (-mean / std).to(dtype), persistent=False)
        if self.spec.rope == "halves":
            head_dim = self.spec.width // self.spec.heads
            place_2M = patch_places(self.grid, self.merge)
            frequency = 1.0 / self.spec.rope_theta ** (torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
            angle_Md = torch.cat([place_2M[0, :, None] * frequency, place_2M[1, :, None] * frequency], -1).repeat(1, 2)
            self.register_buffer("cos_Md", angle_Md.cos().to(dtype), persistent=False)
            self.register_buffer("sin_Md", angle_Md.sin().to(dtype), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """image float [1, 3, height, width], RGB 0..255 -> visual [N, D]."""
        rope = (self.cos_Md, self.sin_Md) if self.spec.rope == "halves" else None
        hidden_ME = self.patches(image)
        for block in self.blocks:
            hidden_ME = block(hidden_ME, rope)
        return self.connector(hidden_ME)

    def patches(self, image: Tensor) -> Tensor:
        """image -> patches [M, E] in merge order."""
        (rows, columns), merge = self.grid, self.merge
        patches = self.patch(image * self.scale + self.shift)
        width = patches.shape[1]
        return patches.reshape(width, rows, merge, columns, merge).permute(1, 3, 2, 4, 0).reshape(-1, width)


class VisionBlock(nn.Module):
    """Pre-norm transformer block with full attention over all patches."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        width, inner = spec.width, spec.inner
        self.gated = spec.gated
        self.attention = PatchAttention(spec.heads)
        self.norm1 = new_norm(spec.norm, width, spec.norm_eps)
        self.norm2 = new_norm(spec.norm, width, spec.norm_eps)
        self.qkv = JoinedLinear(width, (width, width, width), bias=spec.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.fc1 = JoinedLinear(width, (inner, inner) if spec.gated else (inner,), bias=spec.mlp_bias)
        self.fc2 = nn.Linear(inner, width, bias=spec.mlp_bias)
        self.act = activation(spec.act)

    def forward(self, hidden_ME: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        """hidden [M, E], cos and sin [M, d] or None -> [M, E]."""
        qkv_ME = self.qkv(self.norm1(hidden_ME))
        hidden_ME = hidden_ME + self.proj(self.attention(qkv_ME, rope))
        inner_MF = self.fc1(self.norm2(hidden_ME))
        if self.gated:
            gate_MF, up_MF = inner_MF.chunk(2, -1)
            return hidden_ME + self.fc2(self.act(gate_MF) * up_MF)
        return hidden_ME + self.fc2(self.act(inner_MF))


def vision_transforms(spec: VisionSpec) -> dict[str, str]:
    """Module -> the transform of its tensors that the spec asks for (see `loading.py`)."""
    return {"patch": "sum_frames"} if spec.patch_layout == "conv3d" else {}
