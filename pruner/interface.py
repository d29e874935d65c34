"""What every pruning method takes and returns.

Dims: N visual tokens, of a merged grid of h x w (row major) all or those that an earlier stage has left, S kept tokens,
D hidden size, C key width.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

Loop = Literal["while", "unroll", "scan"]
"""How an exported graph repeats the selection step: a loop construct of the runtime, or unrolled copies."""

Need = Literal["keys", "attention"]
"""What decoder layer K-1 tells about the visual tokens, beside their hidden states behind it."""

DEFAULT_PIVOTS = 4
DEFAULT_BATCH = 16
MOST_PASSES = 1000
"""Each pass costs an exported graph a step, and the default settings need 8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunerConfig:
    """Settings of token pruning; the defaults are those of VLM-Pruner (arXiv 2512.02700).

    A method reads those that it names in `Pruner.settings`.

    Raises ValueError naming the setting, its value and the limit.
    """

    num_kept: int
    """S, how many visual tokens are kept."""
    pivots: int = DEFAULT_PIVOTS
    """How many tokens the selection starts from."""
    channels: int = 256
    """q, how many of the hidden channels (those of highest variance) similarity is computed on."""
    bss_weight: float = 0.5
    """lambda, how much distance on the grid raises the score of a token (Buffering for Spatial Sparsity)."""
    threshold: float = 0.8
    """tau0, in the first pass tokens with a score below it are added."""
    threshold_step: float = 0.1
    """By how much the threshold rises from pass to pass."""
    batch: int = DEFAULT_BATCH
    """B, how many tokens are judged at once."""
    fuse_weight: float = 0.3
    """beta, the share of a kept token's own hidden state when discarded ones are fused into it."""
    seed: int = 0
    """Which of the random sets is drawn."""
    weigh: int = 0
    """1: attention counts each kept token as those that it stands for (`weighing.py`). Of any method, which does not
    read it."""

    def __post_init__(self) -> None:
        for name in ("num_kept", "pivots", "channels", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.weigh not in (0, 1):
            raise ValueError(f"weigh={self.weigh}: must be 0 or 1")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: must be at least 0")
        if self.num_kept < self.pivots:
            raise ValueError(f"num_kept={self.num_kept}: must be at least the number of pivots, {self.pivots}")
        if not 0 <= self.bss_weight < math.inf:
            raise ValueError(f"bss_weight={self.bss_weight}: must be finite and not negative")
        if not 0 <= self.fuse_weight <= 1:
            raise ValueError(f"fuse_weight={self.fuse_weight}: must lie in [0, 1]")
        if not self.threshold_step > 0:
            raise ValueError(f"threshold_step={self.threshold_step}: must be greater than 0, or passes would never end")
        if not math.isfinite(self.threshold):
            raise ValueError(f"threshold={self.threshold}: must be finite")
        passes = (1 + self.bss_weight - self.threshold) / self.threshold_step
        if passes > MOST_PASSES:
            raise ValueError(
                f"threshold_step={self.threshold_step}: the threshold would rise {passes:.3g} times from "
                f"{self.threshold} to 1 + bss_weight, and at most {MOST_PASSES} are possible: raise the step"
            )


class PruneResult(NamedTuple):
    """The kept visual tokens.

    kept_S int64: indices in ascending order. hidden_SD: their (fused) hidden states, dtype of the input.
    order_S int64: the same indices in the order of selection. filled_1 int64: how many of them an unrolled graph of
    bounded length added by lowest score after its last step (0 in eager mode and in loops: they run to the end).
    """

    kept_S: Tensor
    hidden_SD: Tensor
    order_S: Tensor
    filled_1: Tensor


class Pruner(nn.Module, ABC):
    """A pruning method bound to a grid and settings; its call is traceable with static shapes."""

    place: ClassVar[int | None] = None
    """K where the method's paper prunes; None: it leaves that to the exporter's default."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the method reads of layer K-1. One that needs anything cannot stand before the language model, at K = 0."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Fields of PrunerConfig that the method reads, beside `num_kept`."""
    takes_patches: ClassVar[bool] = False
    """Whether its call takes `patches_NPD` as well: in a vision tower, the P patches that each token is made of."""

    @classmethod
    def fitting(cls, num_kept: int) -> dict[str, int]:
        """Settings that fit so many kept tokens, where the published ones, PrunerConfig's defaults, do not."""
        return {}

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        """grid (h, w): merged visual tokens. loop: how an exported graph repeats steps, where a method has any.

        tokens: N, where an earlier stage has left fewer than the whole grid.
        """
        super().__init__()
        self.grid, self.config, self.loop = grid, config, loop
        self.tokens = check_fits(grid, config, tokens)

    @property
    def exact(self) -> bool:
        """Whether an exported graph gives on every input what the eager method gives."""
        return True

    @abstractmethod
    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """Choose S of N tokens. Any float dtypes.

        hidden_ND: hidden states after layer K-1; with K = 0, what the vision encoder hands to the language model.
        keys_NC: keys of layer K-1 after rotary embedding. attention_N: share of the attention of layer K-1 that each
        token receives from the last token of the prompt, averaged over heads. Methods that do not name these two in
        `needs` ignore them. place_N int64: where on the grid each token stands, row major and ascending; None: the
        tokens are the whole grid. The result's indices are of the N tokens. Raises ValueError when what is needed is
        missing.
        """

    def unfused(self, hidden_ND: Tensor, order_S: Tensor) -> PruneResult:
        """The result of choosing the tokens order_S, int64 [S]: their hidden states as they are."""
        # Some runtimes lack `sort`; the S lowest of S distinct numbers come out sorted.
        kept_S = torch.topk(order_S, self.config.num_kept, largest=False, sorted=True).values
        return PruneResult(kept_S, hidden_ND.index_select(0, kept_S), order_S, torch.zeros_like(kept_S[:1]))


def needed(values: Tensor | None, what: str) -> Tensor:
    """The values that a method cannot do without. Raises ValueError when they are missing."""
    if values is None:
        raise ValueError(f"{what} is missing: this method chooses by it")
    return values


def check_fits(grid: tuple[int, int], config: PrunerConfig, tokens: int | None = None) -> int:
    """Return N, the tokens that come in: h * w unless given.

    Raises ValueError when the grid is empty, or has fewer than `tokens`, or these are fewer than `num_kept`.
    """
    height, width = grid
    if height < 1 or width < 1:
        raise ValueError(f"grid={grid}: both sides must be at least 1")
    places = height * width
    if tokens is not None and not 0 < tokens <= places:
        raise ValueError(f"tokens={tokens}: a grid of {height} x {width} has 1 to {places} visual tokens")
    if config.num_kept > (tokens or places):
        there = f"a grid of {height} x {width} has only {places}" if tokens is None else f"there are only {tokens}"
        raise ValueError(f"num_kept={config.num_kept}: {there} visual tokens")
    return tokens or places
