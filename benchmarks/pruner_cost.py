"""What the pruner costs inside the pruned prefill, per target, at a ninth of the tokens and the widths of Qwen2-VL-2B.

    python benchmarks/pruner_cost.py --target onnx --target executorch --image-size 448 --image-size 672

448 px have 256 visual tokens and keep 28, 672 px 576 and keep 64.

CPU seconds of one thread, so that other work on the machine does not count.
Baseline: the same export with a method that keeps the first S tokens and computes nothing. The difference of both
prefills is the pruner, with everything that it causes. Best of the runs, since noise only adds.
All 28 layers do not fit a small machine in float32, so prefill is measured at two depths, pruned at layer 1, and
continued linearly: every layer after the pruner does the same work. The default prunes at layer 2, so the true share
is a little smaller.
Core ML runs on a Mac only; on Linux the target is refused.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from time import process_time

import torch
from torch import Tensor
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.pruner import PRUNERS, TRAITS, Loop, PrunerConfig, PruneResult, Traits
from vlmp.pruner.interface import Pruner
from vlmp.runtimes import Chat, load
from vlmp.runtimes.image import open_image, to_pixels
from vlmp.runtimes.prompt import first_ids
from vlmp.runtimes.traits import traits_of

sys.path.insert(0, str(Path(__file__).parent))
from make_random import write_checkpoint

SHALLOW, DEEP, FULL = 2, 5, 28
KEEP = 64 / 576
RUNS = 15


class KeepFirst(Pruner):
    """The first S tokens: a pruner without cost."""

    index_N: Tensor

    def __init__(
        self, grid: tuple[int, int], config: PrunerConfig, loop: Loop = "while", tokens: int | None = None
    ) -> None:
        super().__init__(grid, config, loop, tokens)
        self.register_buffer("index_N", torch.arange(self.tokens), persistent=False)

    def forward(
        self,
        hidden_ND: Tensor,
        keys_NC: Tensor | None = None,
        attention_N: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> PruneResult:
        """Slices."""
        kept_S = self.index_N[: self.config.num_kept].clone()
        hidden_SD = hidden_ND[: self.config.num_kept].clone()
        return PruneResult(kept_S, hidden_SD, kept_S.clone(), torch.zeros_like(kept_S[:1]))


def main() -> None:
    """Export three thin models per target, time them interleaved, print the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=["onnx", "executorch", "coreml"], required=True)
    parser.add_argument("--image-size", type=int, action="append", metavar="SIDE", help="pixels, repeatable (672)")
    arguments = parser.parse_args()
    for target in arguments.target:
        if traits_of(target).interpreted:
            parser.error(f"{target} is interpreted on this machine, which says nothing of its times")
    # As a module of its own name, so that the registry can find the class.
    PRUNERS["first"] = "pruner_cost:KeepFirst"
    TRAITS["first"] = Traits()
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = {layers: Path(scratch) / f"l{layers}" for layers in (SHALLOW, DEEP)}
        for layers, folder in checkpoints.items():
            write_checkpoint(folder, layers=layers, vision_layers=1, vocab=4096)
        for target in arguments.target:
            for side in arguments.image_size or [672]:
                report(target, side, checkpoints, Path(scratch))


def report(target: str, side: int, checkpoints: dict[int, Path], scratch: Path) -> None:
    """Measure one target at one picture size and print its line."""
    plan = {"pruned": ("vlm-pruner", SHALLOW), "free": ("first", SHALLOW), "deep": ("first", DEEP)}
    prefills: dict[str, Callable[[], float]] = {}
    for name, (pruner, layers) in plan.items():
        config = ExportConfig(
            model="qwen2-vl-2b", targets=(target,), output=scratch / f"{target}-{side}-{name}",
            checkpoint=checkpoints[layers],
            pruner=pruner, keep=KEEP, prune_layer=1, image_size=(side, side), quant="none", verify=False,
        )  # fmt: skip
        export(config)
        prefills[name] = prefill_timer(Chat(load(config.output, threads=1)))
    times: dict[str, list[float]] = {name: [] for name in plan}
    for _ in range(RUNS):
        for name, prefill in prefills.items():
            times[name].append(prefill())
    best = {name: min(values) for name, values in times.items()}
    pruner = best["pruned"] - best["free"]
    full = best["pruned"] + (FULL - SHALLOW) * (best["deep"] - best["free"]) / (DEEP - SHALLOW)
    print(
        f"{target}, {side} px: pruner {pruner * 1e3:.1f} ms of a pruned prefill of {full * 1e3:.0f} ms "
        f"({FULL} layers): "
        f"{pruner / full:.2%}  [best of {RUNS}; {SHALLOW} layers: pruned {best['pruned'] * 1e3:.0f} ms, "
        f"without pruner {best['free'] * 1e3:.0f} ms; {DEEP} layers without pruner {best['deep'] * 1e3:.0f} ms]",
        flush=True,
    )


def prefill_timer(chat: Chat) -> Callable[[], float]:
    """A call that runs one warm prefill on a real photo and returns its CPU seconds."""
    photo = Path(str(files("vlmp.runtimes"))) / "assets" / "photo.jpg"
    session = chat.session
    visual = session.vision(to_pixels(open_image(photo), session.manifest.shape.image))
    ids = first_ids(chat.tokenizer, session.manifest.prompt, "What is in this picture?")

    def prefill() -> float:
        started = process_time()
        session.prefill(ids, visual)
        return process_time() - started

    prefill()
    return prefill


if __name__ == "__main__":
    started = process_time()
    main()
    print(f"{process_time() - started:.0f} CPU seconds in all")
