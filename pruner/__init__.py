"""Visual-token pruning as static-shape tensor ops: VLM-Pruner and its peers. Needs torch only.

What is here is told without importing torch, which takes seconds: a command line names the pruners.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from vlmp.pruner.interface import DEFAULT_PIVOTS, Loop, Need, Pruner, PrunerConfig, PruneResult
else:

    def __getattr__(name: str) -> Any:
        """What needs torch, imported when it is first asked for."""
        if name in __all__:
            return getattr(import_module("vlmp.pruner.interface"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


PRUNERS: dict[str, str] = {
    "vlm-pruner": "vlmp.pruner.vlm_pruner:VlmPruner",
    "none": "vlmp.pruner.none:KeepAll",
    "random": "vlmp.pruner.random:KeepRandom",
    "uniform": "vlmp.pruner.uniform:KeepUniform",
    "fastv": "vlmp.pruner.fastv:FastV",
    "divprune": "vlmp.pruner.divprune:DivPrune",
    "dart": "vlmp.pruner.dart:Dart",
    "local": "vlmp.pruner.local:KeepLocal",
    "contrast": "vlmp.pruner.contrast:KeepContrast",
}
"""Method name -> "module:class", a subclass of `Pruner`."""


class Traits(NamedTuple):
    """What a pruner's class says of itself: `place`, `needs` and `settings`."""

    layer: int | None = None
    needs: "tuple[Need, ...]" = ()
    settings: tuple[str, ...] = ()


TRAITS: dict[str, Traits] = {
    "vlm-pruner": Traits(
        needs=("keys",),
        settings=("pivots", "channels", "bss_weight", "threshold", "threshold_step", "batch", "fuse_weight"),
    ),
    "none": Traits(),
    "random": Traits(settings=("seed",)),
    "uniform": Traits(),
    "fastv": Traits(needs=("attention",)),
    "divprune": Traits(layer=0),
    "dart": Traits(needs=("keys",), settings=("pivots",)),
    "local": Traits(),
    "contrast": Traits(),
}
"""Method name -> what its class says, told before that is imported."""

SETTINGS: dict[str, type[int] | type[float]] = {
    "pivots": int, "channels": int, "bss_weight": float, "threshold": float, "threshold_step": float, "batch": int,
    "fuse_weight": float, "seed": int, "weigh": int,
}  # fmt: skip
"""Field of PrunerConfig, beside num_kept -> its type."""

WEIGH = "weigh"
"""The one that all methods take, but `none`."""

__all__ = [
    "DEFAULT_PIVOTS", "PRUNERS", "SETTINGS", "TRAITS", "WEIGH", "Loop", "PruneResult", "Pruner", "PrunerConfig",
    "Traits", "build_pruner", "prune", "pruner_class",
]  # fmt: skip


def pruner_class(name: str) -> "type[Pruner]":
    """The class of the pruner `name`. Raises ValueError listing the choices when there is no such pruner."""
    if name not in PRUNERS:
        raise ValueError(f"unknown pruner {name!r}: choose one of {', '.join(PRUNERS)}")
    module, attribute = PRUNERS[name].split(":")
    return getattr(import_module(module), attribute)


def build_pruner(
    name: str, grid: tuple[int, int], config: "PrunerConfig", loop: "Loop" = "while", tokens: int | None = None
) -> "Pruner":
    """The pruner `name` for a grid, of which an earlier stage has left so many tokens; None is all.

    Raises ValueError listing the choices when there is no such pruner.
    """
    return pruner_class(name)(grid, config, loop, tokens)


def prune(hidden_ND: "Tensor", keys_NC: "Tensor", grid: tuple[int, int], config: "PrunerConfig") -> "PruneResult":
    """Prune N visual tokens to `config.num_kept` by VLM-Pruner (arXiv 2512.02700).

    hidden_ND: hidden states after decoder layer K-1, float [N, D]. keys_NC: keys of layer K-1 after rotary embedding,
    float [N, n_kv * head_dim]. grid: (h, w) of the merged visual tokens, N = h * w. Returns PruneResult.
    Raises ValueError on shapes that disagree and, in eager mode, on values that are not finite.
    """
    import torch

    height, width = grid
    for name, values in (("hidden_ND", hidden_ND), ("keys_NC", keys_NC)):
        if values.ndim != 2 or values.shape[0] != height * width:
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}: a grid of {height} x {width} needs [{height * width}, width]"
            )
        if not torch.compiler.is_exporting() and not bool(torch.isfinite(values.float()).all()):
            raise ValueError(f"{name} holds values that are not finite in float32")
    return build_pruner("vlm-pruner", grid, config).to(hidden_ND.device)(hidden_ND, keys_NC)
