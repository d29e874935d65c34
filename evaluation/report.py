"""From answers to figures: accuracy with its confidence interval, as JSON, Markdown and a plot.

Dims: Q questions, C pictures, R resamples.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from vlmp.evaluation.data import DataSet, Example
from vlmp.evaluation.run import Answered
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.bundle.writing import write_whole

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)
BOOTSTRAP_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Accuracy of one setting. accuracy, low, high and by_type lie in [0, 1]; low to high is the 95 % interval."""

    model: str
    runtime: str
    precision: str
    quantization: str
    pruner: str
    layers: list[int | str]
    """K of each stage."""
    keep: float
    kept: list[int]
    """Visual tokens that each stage leaves."""
    visual_tokens: int
    prefill_gmac: float
    """Multiply-accumulates of prefill with a full bucket of text, in billions; 0 in bundles that do not say."""
    cache_mib: float
    """Of keys and values, all slots."""
    dataset: str
    metric: str
    seeds: int
    accuracy: float
    low: float
    high: float
    n: int
    by_type: dict[str, float]
    figures: dict[str, float] = field(default_factory=dict)
    """What the data set's paper reports beside accuracy, on its own scale."""
    settings: list[dict[str, float]] = field(default_factory=list)
    """Of each stage's pruner."""

    @property
    def kept_tokens(self) -> int:
        """Visual tokens that the last stage leaves."""
        return self.kept[-1] if self.kept else self.visual_tokens


def summarize(answered: Sequence[Answered], data: DataSet) -> list[Row]:
    """A row for each setting, seeds of one averaged question by question."""
    groups: dict[str, list[Answered]] = {}
    for one in answered:
        groups.setdefault(one.subject.group, []).append(one)
    return [_row(group, data) for group in groups.values()]


def _row(group: list[Answered], data: DataSet) -> Row:
    score_Q = np.mean([[answer.score for answer in one.answers] for one in group], axis=0)
    low, high = interval(score_Q, data.examples)
    kinds = sorted({example.kind for example in data.examples})
    kind_Q = np.array([example.kind for example in data.examples])
    manifest, first = group[0].manifest, group[0].subject
    shape = manifest.shape
    figures: dict[str, float] = {}
    if data.figures:
        of_seed = [data.figures(data.examples, [answer.text for answer in one.answers]) for one in group]
        figures = {name: float(np.mean([each[name] for each in of_seed])) for name in of_seed[0]}
    return Row(
        model=str(first.facts.get("bundle", manifest.model)),
        runtime=group[0].runtime,
        precision=manifest.precision,
        quantization=manifest.quantization,
        pruner=str(first.facts.get("pruner", shape.pruner)),
        layers=[stage.where for stage in shape.stages],
        keep=shape.num_kept / shape.image.visual_tokens if first.facts.get("keep") is None else first.facts["keep"],
        kept=[stage.num_kept for stage in shape.stages],
        visual_tokens=shape.image.visual_tokens,
        prefill_gmac=sum(work.macs for work in manifest.method("prefill").work.values()) / 1e9,
        cache_mib=cache_bytes(manifest) / 2**20,
        dataset=data.name,
        metric=data.metric,
        seeds=len(group),
        accuracy=float(score_Q.mean()),
        low=low,
        high=high,
        n=len(score_Q),
        by_type={kind: float(score_Q[kind_Q == kind].mean()) for kind in kinds},
        figures=figures,
        settings=[dict(stage.settings) for stage in shape.stages],
    )


def cache_bytes(manifest: Manifest) -> int:
    """Keys and values of all layers, all slots."""
    kv = manifest.shape.kv
    rows = sum(2 * layer.kv_heads * layer.slots * layer.head_dim for layer in kv.keyed.values())
    return (rows + sum(prod(layer.state) for layer in kv.states.values())) * np.dtype(kv.dtype).itemsize


def interval(score_Q: NDArray[np.float64], examples: Sequence[Example]) -> tuple[float, float]:
    """Bootstrap interval of the mean. Pictures are resampled, not questions: those about one picture depend on it."""
    _, picture_Q = np.unique([example.image_id for example in examples], return_inverse=True)
    sum_C, count_C = np.bincount(picture_Q, score_Q), np.bincount(picture_Q)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    mean_R = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        chosen_C = rng.integers(0, len(count_C), len(count_C))
        mean_R[resample] = sum_C[chosen_C].sum() / count_C[chosen_C].sum()
    low, high = np.percentile(mean_R, INTERVAL)
    return float(low), float(high)


def write_report(rows: Sequence[Row], folder: Path, command: str) -> list[Path]:
    """`results.json`, `results.md` and, where anything is pruned, `accuracy.png`."""
    writers: dict[str, Callable[[], bytes | str]] = {
        "results.json": lambda: json.dumps([asdict(row) for row in rows], indent=2) + "\n",
        "results.md": lambda: markdown(rows, command),
    }
    if any(row.kept_tokens < row.visual_tokens for row in rows):
        writers["accuracy.png"] = lambda: _picture(rows)
    for name, content in writers.items():
        write_whole(folder / name, content())
    return [folder / name for name in writers]


def markdown(rows: Sequence[Row], command: str) -> str:
    """A table of all rows, stamped with the command that makes it."""
    kinds = sorted({kind for row in rows for kind in row.by_type} - {"all"})
    heads = ["model", "runtime", "pruner", "layer", "kept", "prefill, GMAC", "caches, MiB", "accuracy, %"]
    heads += ["95 % interval", *kinds]
    heads += rows[0].figures
    seeds = max(row.seeds for row in rows)
    about = f"{rows[0].dataset}, metric {rows[0].metric}, {rows[0].n} questions."
    lines = [
        f"`{command}`",
        "",
        f"{about} `random` is the mean of {seeds} seeds." if seeds > 1 else about,
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for row in rows:
        cells = [
            row.model, row.runtime, row.pruner, listed(row.layers), f"{listed(row.kept)} of {row.visual_tokens}",
            f"{row.prefill_gmac:.3g}", f"{row.cache_mib:.3g}", percent(row.accuracy),
            f"{percent(row.low)} to {percent(row.high)}",
            *(percent(row.by_type[kind]) if kind in row.by_type else "" for kind in kinds),
            *(f"{value:.1f}" for value in row.figures.values()),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def listed(numbers: Sequence[int | str]) -> str:
    """Numbers, one for each stage."""
    return ", ".join(map(str, numbers))


def percent(share: float) -> str:
    """Percent without the sign, one digit."""
    return f"{100 * share:.1f}"


def _picture(rows: Sequence[Row]) -> bytes:
    file = BytesIO()
    plot(rows, file)
    return file.getvalue()


def plot(rows: Sequence[Row], file: Path | BinaryIO) -> None:
    """Accuracy against the kept share, a line for each method with its interval; unpruned as a dashed line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    blue, orange, green, red, *more = pyplot.get_cmap("tab10").colors
    axes.set_prop_cycle(color=[blue, orange, green, *more])  # red stands out: it is VLM-Pruner's alone
    lines: dict[str, list[Row]] = {}
    for row in rows:
        name = row.pruner if row.runtime.startswith("pytorch") else f"{row.model} ({row.pruner})"
        if row.kept_tokens == row.visual_tokens:
            axes.axhline(100 * row.accuracy, color="black", linestyle="--", linewidth=1, label=f"{name}, all tokens")
        else:
            lines.setdefault(name, []).append(row)
    for name, points in lines.items():
        points = sorted(points, key=lambda row: row.kept_tokens / row.visual_tokens)
        kept = [100 * row.kept_tokens / row.visual_tokens for row in points]
        mean = np.array([100 * row.accuracy for row in points])
        reach = [mean - [100 * row.low for row in points], [100 * row.high for row in points] - mean]
        wide = {"linewidth": 2.5, "color": red, "zorder": 3} if name == "vlm-pruner" else {"linewidth": 1.3}
        axes.errorbar(kept, mean, yerr=np.abs(reach), marker="o", markersize=4, capsize=3, label=name, **wide)
    axes.set_xlabel("kept visual tokens, %")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"{rows[0].dataset}, {rows[0].n} questions")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=150, format="png")
    pyplot.close(figure)
