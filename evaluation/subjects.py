"""What is asked: a model in PyTorch with one pruning setting, or a bundle on its runtime."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmp.evaluation.data import DataSet, Example
from vlmp.evaluation.identity import bundle_program, checkpoint_digests, eager_program, file_digest
from vlmp.export.schedule import DEFAULT_PRUNER, Stage, Vision, joined
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import MANIFEST_NAME, read_manifest
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.chat import Chat
from vlmp.runtimes.prompt import control_tokens, encode_turn, load_tokenizer
from vlmp.runtimes.session import open_session

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from vlmp.export.config import ExportConfig

LONGEST_LABEL = 160
"""Characters. A name may have 255 bytes, and a suffix, a seed and a temporary file's mark come after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One setting to be measured. `key` names its file of answers.

    `facts` is all that its answers depend on, and must be the same when it is resumed. Not in it are the number of
    threads and the room for text, which change no more than the order of additions.
    """

    key: str
    group: str
    """Subjects of one group are seeds of one setting; their scores are averaged."""
    facts: dict[str, Any]
    open: Callable[[], Chat]
    vision_key: str
    """Subjects with the same one see the same visual tokens."""


def eager_subjects(
    config: "ExportConfig",
    pruners: Sequence[str],
    keeps: Sequence[float],
    seeds: int,
    schedules: "Sequence[tuple[Stage, ...]]" = (),
) -> list[Subject]:
    """The grid of pruners and kept shares, and whole schedules; `none` once, `random` with several seeds.

    Raises UserError when the model cannot serve one of them.
    """
    from vlmp.export.plan import open_source, placed

    settings = [
        replace(config, pruner=pruner, keep=keep)
        for pruner in pruners
        for keep in ((None,) if pruner == "none" else keeps)
    ]
    settings += [replace(config, pruner=DEFAULT_PRUNER, prune_layer=None, stages=stages) for stages in schedules]
    subjects = []
    for setting in settings:
        source = open_source(setting)  # reads no weights, and refuses now what would end hours of answers later
        if source.family.spec.decoder.deep:  # such a model has a place of its own, which facts and names then tell
            setting = placed(setting, source.family)
        if setting.pruner == "random":
            subjects += [eager_subject(setting, seed=seed) for seed in range(seeds)]
        else:
            subjects.append(eager_subject(setting))
    return subjects


def eager_subject(config: "ExportConfig", label: str = "", **settings: float) -> Subject:
    """A model in PyTorch. label: the name of a variant of the method; settings: of the pruner of the short form."""
    from vlmp.export.checkpoint import locate
    from vlmp.export.eager import open_eager
    from vlmp.export.models import file_label, model_entry, model_label

    names = "+".join(dict.fromkeys(stage.pruner for stage in config.stages))
    label = label or names or config.pruner
    if settings:
        config = replace(config, pruner=",".join([config.pruner, *(f"{name}={settings[name]}" for name in settings)]))
    pruned = label
    if config.stages:
        pruned = joined(config.stages)
    else:
        keep = "all" if config.keep is None else f"{config.keep:g}"
        pruned += f"-{keep}" + ("" if config.prune_layer is None else f"-layer{config.prune_layer}")
    group = _file_name(f"{file_label(config.model)}-{pruned.replace(':', '-')}")
    seed = f"-seed{settings['seed']}" if "seed" in settings else ""
    checkpoint = checkpoint_digests(config.checkpoint or locate(model_entry(config.model).checkpoint))
    seen = {
        "model": model_label(config.model), "checkpoint": checkpoint, "image_size": config.image_size,
        "image_fit": config.image_fit,
    }  # fmt: skip
    facts = {
        **seen, "pruner": label, "keep": (config.stages or config.schedule)[-1].keep,
        "schedule": joined(config.schedule), "system_prompt": config.system_prompt,
        "program": eager_program(),
    }  # fmt: skip
    return Subject(
        key=group + seed,
        group=group,
        facts=facts,
        open=lambda: open_eager(config, counted=True),
        # A stage in the vision tower sees other visual tokens.
        vision_key=json.dumps(
            {**seen, "tower": joined([at for at in config.schedule if isinstance(at.place, Vision)])}
        ),
    )


def _file_name(label: str) -> str:
    """The label, or its beginning with a digest of all of it where a file system would refuse so long a name."""
    if len(label) <= LONGEST_LABEL:
        return label
    return f"{label[:LONGEST_LABEL]}-{sha256(label.encode()).hexdigest()[:12]}"


def fit_text(config: "ExportConfig", data: DataSet) -> "ExportConfig":
    """The same settings with a text bucket that the longest question fits into."""
    from vlmp.export.plan import open_source

    prompt = open_source(config).prompt
    _, tokens = longest(data, prompt.first, prompt.tokenizer, prompt.control_tokens)
    return replace(config, text_len=max(config.text_len, tokens))


def longest(data: DataSet, template: str, tokenizer: "Tokenizer", control_tokens: Sequence[str]) -> tuple[Example, int]:
    """The example with the longest first turn, and its length in tokens."""
    lengths = [len(encode_turn(tokenizer, template, example.question, control_tokens)) for example in data.examples]
    return max(zip(data.examples, lengths, strict=True), key=lambda pair: pair[1])


def bundle_subjects(bundles: Sequence[Path], threads: int | None) -> list[Subject]:
    """Bundles, each with the pruner inside it. Raises UserError when one is not a bundle, or is given twice."""
    subjects: list[Subject] = []
    for folder in bundles:
        manifest = read_manifest(folder)
        digest = file_digest(folder / MANIFEST_NAME)
        key = f"{folder.resolve().name}-{digest[:12]}"
        if any(subject.key == key for subject in subjects):
            raise UserError(f"--bundle {folder} is given twice")
        subjects.append(
            Subject(
                key=key,
                group=key,
                facts={
                    "bundle": folder.resolve().name,
                    "manifest": digest,
                    "target": manifest.target,
                    "program": bundle_program(manifest.target),
                },
                open=lambda folder=folder, manifest=manifest: Chat(open_session(folder, manifest, threads)),  # type: ignore[misc]
                vision_key=key,
            )
        )
    return subjects


def check_bundles(bundles: Sequence[Path], data: DataSet, max_new_tokens: int) -> None:
    """Raises UserError when a question or an answer of `max_new_tokens` does not fit into a bundle."""
    for folder in bundles:
        manifest: Manifest = read_manifest(folder, check_hashes=False)
        prompt = manifest.prompt
        if max_new_tokens > prompt.max_new_tokens:
            raise UserError(f"--max-new-tokens {max_new_tokens}: bundle {folder} allows 1 to {prompt.max_new_tokens}")
        tokenizer = load_tokenizer(folder, manifest)
        example, tokens = longest(data, prompt.first, tokenizer, control_tokens(tokenizer, prompt.control_tokens))
        if tokens > prompt.text_len:
            raise UserError(
                f"bundle {folder} takes {prompt.text_len} tokens of text, question {example.id!r} and its template "
                f"have {tokens}: export with --text-len {tokens}"
            )
