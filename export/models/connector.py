"""From the patches of a vision tower to visual tokens of the language model.

Dims: M patches, E vision width, m side of the square of patches of a token, N = M / m^2 visual tokens, D hidden size of
the language model.
"""

import torch
from torch import Tensor, nn
from vlmp.export.models.layers import activation, new_norm
from vlmp.export.models.spec import ConnectorSpec


class Connector(nn.Module):
    """Patches in merge order [M, E] -> visual tokens [N, D]: the patches of a token side by side, then a small MLP."""

    def __init__(self, spec: ConnectorSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = width * spec.merge**2
        if spec.norm:
            normed = width if spec.norm_place == "before" else self.inputs
            self.norm = new_norm(spec.norm, normed, spec.norm_eps)
        if spec.hidden is not None:
            self.hidden = nn.Linear(self.inputs, spec.hidden, bias=spec.bias)
            self.act = activation(spec.act)
        self.out = nn.Linear(spec.hidden or self.inputs, spec.width, bias=spec.bias)

    def forward(self, patch_ME: Tensor) -> Tensor:
        """patches [M, E] -> visual [N, D]."""
        spec = self.spec
        if spec.norm and spec.norm_place == "before":
            patch_ME = self.norm(patch_ME)
        merged_NE = patch_ME.reshape(patch_ME.shape[0] // spec.merge**2, self.inputs)
        if spec.norm and spec.norm_place == "after":
            merged_NE = self.norm(merged_NE)
        if spec.hidden is not None:
            merged_NE = self.act(self.hidden(merged_NE))
        return self.out(merged_NE)


def in_merge_order(plane: Tensor, merge: int) -> Tensor:
    """[m h, m w] -> [M]: the patches of a visual token follow each other, row by row."""
    rows, columns = plane.shape
    return plane.reshape(rows // merge, merge, columns // merge, merge).permute(0, 2, 1, 3).reshape(-1)


def patch_places(grid: tuple[int, int], merge: int) -> Tensor:
    """Row and column of each patch in merge order. float32 [2, M]. grid: of the visual tokens."""
    rows, columns = (side * merge for side in grid)
    row_M, column_M = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([in_merge_order(row_M, merge), in_merge_order(column_M, merge)]).float()
