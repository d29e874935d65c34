"""A vision tower as a static graph, by its spec.

Dims: N visual tokens, m side of the square of patches of a token, M = m^2 N patches, E vision width, F width inside the
MLP, d head size, D hidden size of the language model. With a class token the blocks have M + 1 rows, the last one its.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vlmp.export.models.connector import Connector, in_merge_order, patch_places
from vlmp.export.models.layers import JoinedLinear, PatchAttention, activation, new_norm
from vlmp.export.models.loading import SCALED
from vlmp.export.models.spec import ConnectorSpec, VisionSpec
from vlmp.export.models.tower import TowerStage
from vlmp.export.models.windows import by_windows, window_numbers, window_sizes
from vlmp.export.pixels import Normalisation


class Vision(nn.Module):
    """image [1, 3, height, width] in 0..255 -> visual tokens [N, D], with n taps [N, D (1 + n)]: features after them.

    grid: rows and columns of the visual tokens. With a stage that drops tokens S of the N are left.
    """

    scale: Tensor
    shift: Tensor
    cos_Md: Tensor
    sin_Md: Tensor
    place_ME: Tensor
    class_1E: Tensor
    by_windows_N: Tensor
    by_rows_N: Tensor

    def __init__(
        self, spec: VisionSpec, connector: ConnectorSpec, grid: tuple[int, int], stage: TowerStage | None = None
    ) -> None:
        """stage: where some of the patches leave the tower."""
        super().__init__()
        self.spec, self.grid, self.merge = spec, grid, connector.merge
        self.patch = nn.Conv2d(3, spec.width, spec.patch, spec.patch, bias=spec.patch_bias)
        if spec.positions != "none":
            self.positions = nn.Parameter(torch.empty(int(spec.class_token) + spec.table**2, spec.width))
        if spec.class_token:
            self.class_token = nn.Parameter(torch.empty(spec.width))
        if spec.pre_norm:
            self.pre_norm = new_norm(spec.norm, spec.width, spec.norm_eps)
        windows = window_sizes(grid, spec.window // self.merge, self.merge) if spec.window else ()
        self.stage = stage
        last = spec.depth if stage is None else stage.cut.block  # from there on a mask keeps windows apart
        self.blocks = nn.ModuleList(
            [VisionBlock(spec, () if index in spec.full or index >= last else windows) for index in range(spec.depth)]
        )
        if spec.last_norm:
            self.last_norm = new_norm(spec.norm, spec.width, spec.norm_eps)
        self.connector = Connector(connector, spec.width)
        self.taps = nn.ModuleList([Connector(replace(connector, norm_place="after"), spec.width) for _ in spec.taps])

    def bake(self, pixels: Normalisation, dtype: torch.dtype) -> None:
        """Constants of the grid: normalisation, and what stands for the places of patches, in the order of patches.

        Learned positions are parameters until then, in the checkpoint's order: the class token's before the others.
        """
        spec = self.spec

        def keep(name: str, value: Tensor) -> None:
            self.register_buffer(name, value, persistent=False)

        std = torch.tensor(pixels.std).view(1, 3, 1, 1)
        mean = torch.tensor(pixels.mean).view(1, 3, 1, 1)
        keep("scale", (1 / (1 / pixels.rescale * std)).to(dtype))
        keep("shift", (-mean / std).to(dtype))
        patches = torch.arange(self.grid[0] * self.grid[1] * self.merge**2).reshape(-1, self.merge**2)
        if spec.window:
            order_N = by_windows(self.grid, spec.window // self.merge)
            keep("by_windows_N", order_N)
            keep("by_rows_N", order_N.argsort())
            patches = patches[order_N]
            if self.stage is not None:
                self.stage.bake(order_N.argsort(), window_numbers(self.grid, spec.window // self.merge))
        order_M = patches.reshape(-1)
        if spec.rope == "halves":
            head_dim = spec.width // spec.heads
            place_2M = patch_places(self.grid, self.merge)[:, order_M]
            frequency = 1.0 / spec.rope_theta ** (torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
            angle_Md = torch.cat([place_2M[0, :, None] * frequency, place_2M[1, :, None] * frequency], -1).repeat(1, 2)
            keep("cos_Md", angle_Md.cos().to(dtype))
            keep("sin_Md", angle_Md.sin().to(dtype))
        if spec.positions != "none":
            table = self.positions.float()
            places_PE = table[int(spec.class_token) :]
            rows, columns = (side * self.merge for side in self.grid)
            if spec.positions in ("corners", "antialias"):
                way = {"align_corners": True} if spec.positions == "corners" else {"antialias": True}
                plane_1Eyx = places_PE.T.reshape(1, -1, spec.table, spec.table)
                fitted = F.interpolate(plane_1Eyx, size=(rows, columns), mode="bilinear", **way)
                places_PE = fitted.flatten(2)[0].T
            if spec.positions == "bucket":
                row_y, column_x = buckets(rows, spec.table), buckets(columns, spec.table)
                places_PE = places_PE[(row_y[:, None] * spec.table + column_x).reshape(-1)]
            index = in_merge_order(torch.arange(rows * columns).reshape(rows, columns), self.merge)
            keep("place_ME", places_PE[index][order_M].to(dtype))
            if spec.class_token:
                keep("class_1E", (self.class_token.float() + table[0]).unsqueeze(0).to(dtype))
                del self.class_token
            del self.positions

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """image float [1, 3, height, width], RGB 0..255 -> visual [N, D (1 + n)].

        With a stage in the tower also int32 [S], which groups went through all of it; and where it hands over these
        alone, `visual` [S, D (1 + n)], and its bias [S] if it weighs.
        """
        spec, stage = self.spec, self.stage
        rope = (self.cos_Md, self.sin_Md) if spec.rope == "halves" else None
        hidden_ME, qkv_ME = self.patches(image), None
        masks: tuple[Tensor | None, Tensor | None] = None, None
        features: list[Tensor] = []
        chosen = None
        for index, block in enumerate(self.blocks):
            if stage is not None and index == stage.cut.block:
                chosen = stage(hidden_ME, qkv_ME, rope)
                hidden_ME, masks = stage.left(chosen, hidden_ME), stage.masks(chosen, hidden_ME.dtype)
                rope = rope and (stage.rows_left(chosen, rope[0]), stage.rows_left(chosen, rope[1]))
                features = [stage.taken(chosen, each) for each in features]
            hidden_ME, qkv_ME = block(hidden_ME, rope, masks[bool(spec.window) and index not in spec.full])
            if index in spec.taps:
                whole_ME = hidden_ME if stage is None or chosen is None else stage.back(chosen, hidden_ME)
                features.append(self.taps[spec.taps.index(index)](whole_ME))
        if stage is not None and chosen is not None:
            hidden_ME = stage.back(chosen, hidden_ME)
        elif spec.class_token:
            hidden_ME = hidden_ME[:-1]
        if spec.last_norm:
            hidden_ME = self.last_norm(hidden_ME)
        visual_ND = self.connector(hidden_ME)
        if features:
            visual_ND = torch.cat([visual_ND, *features], 1)
        if chosen is not None:
            bias_S = chosen.bias_S if chosen.share_NS is None else None
            return visual_ND, chosen.kept_S.to(torch.int32), *([] if bias_S is None else [bias_S])
        return visual_ND.index_select(0, self.by_rows_N) if spec.window else visual_ND

    def patches(self, image: Tensor) -> Tensor:
        """image -> what the blocks take: patches [M, E], those of a visual token after one another."""
        (rows, columns), merge, spec = self.grid, self.merge, self.spec
        patches = self.patch(image * self.scale + self.shift)
        width = patches.shape[1]
        patch_ME = patches.reshape(width, rows, merge, columns, merge).permute(1, 3, 2, 4, 0).reshape(-1, width)
        if spec.window:
            token_NW = patch_ME.reshape(rows * columns, -1)
            patch_ME = token_NW.index_select(0, self.by_windows_N).reshape(-1, width)
        if spec.positions != "none":
            patch_ME = patch_ME + self.place_ME
        if spec.class_token:
            patch_ME = torch.cat([patch_ME, self.class_1E])
        return self.pre_norm(patch_ME) if spec.pre_norm else patch_ME


class VisionBlock(nn.Module):
    """Pre-norm transformer block. windows: as PatchAttention takes them."""

    def __init__(self, spec: VisionSpec, windows: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        width, inner = spec.width, spec.inner
        self.gated = spec.gated
        self.attention = PatchAttention(spec.heads, windows)
        self.norm1 = new_norm(spec.norm, width, spec.norm_eps)
        self.norm2 = new_norm(spec.norm, width, spec.norm_eps)
        self.qkv = JoinedLinear(width, (width, width, width), bias=spec.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.fc1 = JoinedLinear(width, (inner, inner) if spec.gated else (inner,), bias=spec.mlp_bias)
        self.fc2 = nn.Linear(inner, width, bias=spec.mlp_bias)
        self.act = activation(spec.act)

    def forward(
        self, hidden_ME: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """hidden [M, E], cos and sin [M, d] or None, mask as PatchAttention takes it -> [M, E], projected [M, 3 E]."""
        qkv_ME = self.qkv(self.norm1(hidden_ME))
        hidden_ME = hidden_ME + self.proj(self.attention(qkv_ME, rope, mask))
        inner_MF = self.fc1(self.norm2(hidden_ME))
        if self.gated:
            gate_MF, up_MF = inner_MF.chunk(2, -1)
            return hidden_ME + self.fc2(self.act(gate_MF) * up_MF), qkv_ME
        return hidden_ME + self.fc2(self.act(inner_MF)), qkv_ME


def buckets(patches: int, table: int) -> Tensor:
    """The row of a table of positions for each patch of a column. int64 [patches].

    Computed step by step as transformers does, since it rounds: with 25 of both, some rows are taken twice.
    """
    edges = torch.arange(1 / table, 1.0, 1 / table)
    share = torch.arange(patches).float() * (1.0 / torch.tensor(patches))
    return torch.bucketize(share.clamp(max=1.0 - 1e-6), edges, right=True)


def vision_transforms(spec: VisionSpec) -> dict[str, str]:
    """Module -> the transform of its tensors that the spec asks for (see `loading.py`)."""
    patches = {"conv3d": "sum_frames", "hwc": "patch_of_hwc"}
    asked = {"patch": patches[spec.patch_layout]} if spec.patch_layout in patches else {}
    if spec.layer_scale:
        asked |= {"blocks.{}.proj": SCALED, "blocks.{}.fc2": SCALED}
    if spec.batch_dim:
        asked |= {"class_token": "one_of_a_batch", "positions": "one_of_a_batch"}
    return asked
