"""Where visual tokens are pruned, how far, and by what: a schedule of stages, as the command line spells it.

    PLACE:KEEP[:PRUNER[,SETTING=VALUE ...]]        2:0.222   4:0.111:divprune   2:0.111:vlm-pruner,batch=4,pivots=8
                                                   vision.2:0.5:local,weigh=1   vision.25%:0.5:local,form=dropped
                                                   first:0.222

Several stages are joined by a plus sign. Known without torch, so that a mistake is told at once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, get_args

from vlmp.pruner import PRUNERS, SETTINGS, TRAITS, WEIGH
from vlmp.runtimes.bundle.errors import UserError

DEFAULT_PRUNER = "vlm-pruner"
DEFAULT_KEEP = 0.111
DEFAULT_PRUNE_LAYER = 2
"""Of methods whose paper names no other place."""
PUBLISHED = "settings=published"
Form = Literal["rebuilt", "dropped"]
"""What becomes of the tokens that a stage in the vision tower does not keep."""
FORM = "PLACE:KEEP[:PRUNER[,SETTING=VALUE]], as 2:0.111:vlm-pruner,batch=4"

SCHEDULES: dict[str, str] = {
    "paper": "2:0.111:vlm-pruner,settings=published",
    "gentle": "vision.50%:0.5:local,weigh=1,form=dropped+first:0.111:vlm-pruner,weigh=1",
    "fast": "vision.13%:0.5:local,weigh=1,form=dropped+first:0.111:vlm-pruner,weigh=1",
    "fastest": "vision.13%:0.333:local,weigh=1,form=dropped+first:0.111:vlm-pruner,weigh=1",
}
"""Name -> stages, chosen by what they cost and what stays right: docs/results/accuracy.md."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Before decoder layer `index`; 0 is between the connector and the language model.

    first: the first that the method can stand before in a model, `index` or a later one.
    """

    index: int
    first: bool = False

    def __str__(self) -> str:
        return "first" if self.first else str(self.index)


@dataclass(frozen=True, slots=True)
class Vision:
    """Before block `index` of the vision tower; as a percentage, the block with that share of all before it."""

    index: int
    percent: bool = False

    def __str__(self) -> str:
        return f"vision.{self.index}{'%' if self.percent else ''}"

    def block(self, depth: int, possible: Sequence[int]) -> int:
        """The block that it means in a tower of `depth` blocks, the nearest of those that are possible."""
        wanted = self.index * depth / 100
        return min(possible, key=lambda block: (abs(block - wanted), block))


Place = Vision | Layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One place at which visual tokens are pruned."""

    place: Place
    keep: float
    """The share of the model's N visual tokens that is left after it."""
    pruner: str = DEFAULT_PRUNER
    settings: Mapping[str, float] = field(default_factory=dict)
    """Fields of PrunerConfig that were asked for."""
    published: bool = False
    """Whether the other settings are those of the paper; otherwise they follow the number of kept tokens."""
    form: Form = "rebuilt"
    """Of a stage in the vision tower: rebuilt, all tokens go on to the language model; dropped, those that are kept."""

    def __str__(self) -> str:
        form = f",form={self.form}" if self.form != "rebuilt" else ""
        return f"{self.place}:{_number(self.keep)}:{spelled(self.pruner, self.settings, self.published)}{form}"


def named_schedule(text: str) -> tuple[Stage, ...]:
    """The stages of a name in SCHEDULES, or as `parse_schedule` reads them. Raises UserError."""
    if text not in SCHEDULES and ":" not in text:
        raise UserError(
            f"unknown schedule {text!r}: choose one of {', '.join(SCHEDULES)}, or stages as 2:0.222+4:0.111"
        )
    return parse_schedule(SCHEDULES.get(text, text))


def parse_schedule(text: str) -> tuple[Stage, ...]:
    """Stages joined by plus signs. Raises UserError."""
    stages = tuple(parse_stage(part) for part in text.split("+"))
    check_schedule(stages)
    return stages


def parse_stage(text: str) -> Stage:
    """One stage. Raises UserError saying what is wrong with it."""
    place, _, rest = text.partition(":")
    keep, _, pruner = rest.partition(":")
    where = parse_place(place)
    if where is None or not rest or (rest.endswith(":") and not pruner):
        raise UserError(
            f"--stage {text}: must be {FORM}; PLACE is a decoder layer, 0 is before the language model, or "
            "first, the first possible one, or vision.BLOCK or vision.25% in the vision tower"
        )
    try:
        share = float(keep)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UserError(
            f"--stage {text}: {keep!r} must be the kept share of all visual tokens, greater than 0 and at most 1"
        )
    pruner, form = parse_form(pruner or DEFAULT_PRUNER, f"--stage {text}", tower=isinstance(where, Vision))
    name, settings, published = parse_pruner(pruner)
    if isinstance(where, Layer) and where.first:
        where = replace(where, index=least_layer(name))
    stage = Stage(place=where, keep=share, pruner=name, settings=settings, published=published, form=form)
    check_place(stage, f"--stage {text}")
    return stage


def parse_place(text: str) -> Place | None:
    """`2`, `first`, `vision.2` or `vision.25%`; None is none of these."""
    if text == "first":
        return Layer(0, first=True)
    found = re.fullmatch(r"([0-9]{1,4})|vision\.(?:([0-9]{1,4})|([0-9]{1,2})%)", text)
    if found is None:
        return None
    layer, block, percent = found.groups()
    return Layer(int(layer)) if layer else Vision(int(block or percent), percent=percent is not None)


def parse_pruner(text: str) -> tuple[str, dict[str, float], bool]:
    """`NAME[,SETTING=VALUE ...]` -> name, settings, whether the others are the published ones. Raises UserError."""
    name, *given = text.split(",")
    check_pruner(name)
    takes = settings_of(name)
    settings: dict[str, float] = {}
    for item in given:
        key, _, value = item.partition("=")
        if item == PUBLISHED:
            continue
        if key not in takes:
            known = ", ".join((*takes, PUBLISHED))
            raise UserError(f"pruner {text}: {name} has no setting {key!r}: it takes {known}")
        if key in settings:
            raise UserError(f"pruner {text}: {key} is given twice")
        try:
            settings[key] = SETTINGS[key](value)
        except ValueError:
            kind = "a whole number" if SETTINGS[key] is int else "a number"
            raise UserError(f"pruner {text}: {key}={value} must be {kind}") from None
    return name, settings, PUBLISHED in given


def parse_form(text: str, option: str, *, tower: bool) -> tuple[str, Form]:
    """What `parse_pruner` reads, and the form, which stands among its settings. Raises UserError."""
    name, *given = text.split(",")
    asked = [item for item in given if item.startswith("form=")]
    if not asked:
        return text, "rebuilt"
    if not tower:
        raise UserError(f"{option}: form is of a stage in the vision tower, others drop what they do not keep")
    if len(asked) > 1:
        raise UserError(f"{option}: form is given twice")
    for form in get_args(Form):
        if asked[0] == f"form={form}":
            return ",".join([name, *(item for item in given if item not in asked)]), form
    raise UserError(f"{option}: {asked[0]} must be form={' or form='.join(get_args(Form))}")


def settings_of(pruner: str) -> tuple[str, ...]:
    """What may be set of a pruner."""
    return (*TRAITS[pruner].settings, *([] if pruner == "none" else [WEIGH]))


def spelled(pruner: str, settings: Mapping[str, float], published: bool) -> str:
    """What `parse_pruner` reads."""
    own = (f"{name}={_number(value)}" for name, value in settings.items())
    return ",".join([pruner, *([PUBLISHED] if published else []), *own])


def _number(value: float) -> str:
    """All digits of a number, and no plus sign, which stands between stages."""
    return repr(value).removesuffix(".0").replace("e+", "e")


def check_schedule(stages: Sequence[Stage]) -> None:
    """Raises UserError unless each stage comes after the one before it and keeps fewer tokens."""
    if len(stages) > 1 and any(stage.pruner == "none" for stage in stages):
        raise UserError(f"schedule {joined(stages)}: pruner none keeps all visual tokens, leave its stage out")
    for before, stage in pairwise(stages):
        if isinstance(stage.place, Vision) and isinstance(before.place, Vision):
            raise UserError(
                f"--stage {stage}: one stage in the vision tower is possible, {before} is one: leave one out"
            )
        if _depth(stage.place) <= _depth(before.place):
            raise UserError(f"--stage {stage}: must come after the stage before it, at {before.place}")
        if rebuilds(before):
            if stage.keep == 1:
                raise UserError(
                    f"--stage {stage}: must keep less than all visual tokens, which {before.place} rebuilds"
                )
        elif stage.keep >= before.keep:
            raise UserError(f"--stage {stage}: must keep less than the stage before it, {before.keep:g}")


def rebuilds(stage: Stage) -> bool:
    """Whether all visual tokens go on after it."""
    return isinstance(stage.place, Vision) and stage.form == "rebuilt"


def check_stage(stage: Stage) -> None:
    """What `parse_stage` checks, of a stage that was not spelled. Raises UserError."""
    check_pruner(stage.pruner)
    if not 0 < stage.keep <= 1:
        raise UserError(f"--stage {stage}: the kept share must be greater than 0 and at most 1")
    check_place(stage, f"--stage {stage}")


def check_place(stage: Stage, option: str) -> None:
    """Raises UserError where the pruner cannot stand at the stage's place, or cannot keep that share."""
    tower = isinstance(stage.place, Vision)
    if tower and stage.pruner == "none":
        raise UserError(f"{option}: pruner none keeps all visual tokens, leave the stage in the vision tower out")
    least = least_layer(stage.pruner)
    share = isinstance(stage.place, Vision) and stage.place.percent  # which finds a block that is possible
    if stage.place.index < least and not share:
        needs = " and ".join(TRAITS[stage.pruner].needs)
        before, first = ("block", f"vision.{least}") if tower else ("layer", f"{least}")
        raise UserError(
            f"{option}: pruner {stage.pruner} chooses by the {needs} of the {before} before, "
            f"so it must be at least {first}"
        )
    if stage.pruner == "none" and stage.keep != 1:
        raise UserError(f"{option}: pruner none keeps all visual tokens, so its share is 1")


def joined(stages: Sequence[Stage]) -> str:
    """What `parse_schedule` reads."""
    return "+".join(str(stage) for stage in stages)


def check_pruner(name: str) -> None:
    """Raises UserError listing the choices when there is no such pruner."""
    if name not in PRUNERS:
        raise UserError(f"unknown pruner {name!r}: choose one of {', '.join(PRUNERS)}")


def least_layer(pruner: str) -> int:
    """The first decoder layer, or block of the vision tower, that the pruner can stand before."""
    return 1 if TRAITS[pruner].needs else 0


def layer_of(pruner: str) -> int:
    """K, the method's own place."""
    layer = TRAITS[pruner].layer
    return DEFAULT_PRUNE_LAYER if layer is None else layer


def _depth(place: Place) -> tuple[bool, int]:
    """Places in the order in which tokens come to them."""
    return isinstance(place, Layer), place.index
