"""Small static-shape ops with defined ties, built from what every runtime has (no sort, no scatter)."""

import torch
from torch import Tensor


def stable_order(values_N: Tensor) -> Tensor:
    """Indices that sort `values_N` ascending, equal values by lower index. int64 [N].

    `sort` is missing in ExecuTorch and in the ONNX exporter, and `topk` leaves the order of equal values open. So
    values are ranked by one topk, and a second one over the exact integers (run of equal values) * N + index puts
    each run into the order of its indices.
    """
    count = values_N.shape[0]
    sorted_N, index_N = torch.topk(values_N, count, largest=False, sorted=True)
    rises_N = torch.cat([torch.zeros_like(index_N[:1]), (sorted_N[1:] != sorted_N[:-1]).to(torch.int64)])
    key_N = torch.cumsum(rises_N, 0) * count + index_N
    return torch.topk(key_N, count, largest=False, sorted=True).values % count


def stable_rank(values_N: Tensor) -> Tensor:
    """Place of each value in ascending order, equal values by lower index. int64 [N]."""
    return torch.topk(stable_order(values_N), values_N.shape[0], largest=False, sorted=True).indices


def squared_norm(values: Tensor) -> Tensor:
    """Sum of squares over the last axis."""
    return (values * values).sum(-1)


def unit_rows(rows_ND: Tensor) -> Tensor:
    """Rows divided by their L2 norm, so that their products are cosines; rows of zeros stay. float [N, D]."""
    norm_N1 = squared_norm(rows_ND).sqrt().unsqueeze(1)
    return rows_ND / norm_N1.clamp(min=1e-12)


def farthest(gap_N: Tensor, taken_N: Tensor) -> Tensor:
    """Index [1] of the largest gap among tokens not taken yet, the lowest index among equals. int64.

    One step of max-min (farthest-point) selection. A taken token's own gap is about 0; -1 keeps it from being chosen
    again where all others are duplicates of taken ones.
    """
    return first_argmax(choose(torch.logical_not(taken_N), gap_N, -1.0))


def first_argmax(values_N: Tensor) -> Tensor:
    """Index [1] of the highest value, the lowest index among equals. int64."""
    return torch.argmax(values_N, dim=0, keepdim=True)


def choose(condition: Tensor, value: Tensor, other: float) -> Tensor:
    """`value` where the condition holds, the number `other` elsewhere, in the dtype of `value`.

    Core ML knows `where` with two tensors only.
    """
    return torch.where(condition, value, torch.full_like(value, other))


def matmul(left_AB: Tensor, right_BC: Tensor) -> Tensor:
    """Product of two computed matrices, as a batch of one: XNNPACK takes `mm` with constant weights only."""
    return torch.bmm(left_AB.unsqueeze(0), right_BC.unsqueeze(0)).squeeze(0)
