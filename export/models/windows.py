"""Windows of a vision tower: squares of visual tokens whose patches see each other alone (Qwen2.5-VL).

Where they do not divide the grid, those at its right and lower edge are smaller: there are four sizes at most, and the
windows of one size are put after one another. Dims: N visual tokens.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


def by_windows(grid: tuple[int, int], side: int) -> Tensor:
    """The visual tokens, numbered by rows, window by window. int64 [N]. grid, side: in visual tokens."""
    index = torch.arange(grid[0] * grid[1]).reshape(grid)
    parts = []
    for (top, rows, height), (left, columns, width) in _sizes(grid, side):
        part = index[top : top + rows * height, left : left + columns * width]
        parts.append(part.reshape(rows, height, columns, width).permute(0, 2, 1, 3).reshape(-1))
    return torch.cat(parts)


def window_numbers(grid: tuple[int, int], side: int) -> Tensor:
    """In which window each visual token is, of those numbered by rows. int64 [N]."""
    row_N = torch.arange(grid[0]).repeat_interleave(grid[1]) // side
    column_N = torch.arange(grid[1]).repeat(grid[0]) // side
    return row_N * grid[1] + column_N


def window_sizes(grid: tuple[int, int], side: int, merge: int) -> tuple[tuple[int, int], ...]:
    """(count, patches in each) of the windows of each size, in that order. merge: side of a visual token in patches."""
    return tuple(
        (rows * columns, height * width * merge**2) for (_, rows, height), (_, columns, width) in _sizes(grid, side)
    )


def _sizes(grid: tuple[int, int], side: int) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """For each size of window, down and across: where the first begins, how many there are, and how long they are."""
    down, across = (_runs(length, side) for length in grid)
    yield from ((rows, columns) for rows in down for columns in across)


def _runs(length: int, side: int) -> list[tuple[int, int, int]]:
    whole, rest = divmod(length, side)
    return [run for run in ((0, whole, side), (whole * side, 1, rest)) if run[1] and run[2]]
