"""The config and a checkpoint become a plan: all sizes and choices of one export, every one of them checked.

Nothing is built or written here, so that what cannot be served is refused before the first bundle is begun.
"""

from dataclasses import dataclass, replace

from vlmp.export import checkpoint as checkpoints
from vlmp.export.config import ExportConfig, Precision, check_precision
from vlmp.export.geometry import Cut, Geometry, TowerCut
from vlmp.export.models import Family, check_model_type, model_entry, open_family
from vlmp.export.prompt import ChatPrompt, read_prompt
from vlmp.export.quantize import Quantizer, find_preset
from vlmp.export.schedule import Layer, Stage, Vision, layer_of, least_layer, parse_pruner, rebuilds
from vlmp.export.targets import Target, open_target
from vlmp.pruner import DEFAULT_PIVOTS, TRAITS, Pruner, PrunerConfig, build_pruner, pruner_class
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import MANIFEST_NAME, check_output
from vlmp.runtimes.prompt import encode_turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A checkpoint that has been opened and checked against the settings."""

    name: str
    """What the manifest calls it."""
    family: Family
    prompt: ChatPrompt
    geometry: Geometry
    pruners: tuple[PrunerConfig, ...]
    """Of each stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One export for one target."""

    config: ExportConfig
    source: Source
    target: Target
    precision: Precision
    quantization: str
    """The preset's name."""
    quantizer: Quantizer | None
    pruners: tuple[Pruner, ...]
    """Of each stage."""


def make_plans(config: ExportConfig, targets: list[Target]) -> list[Plan]:
    """A plan for each target, with the checkpoint opened once. Raises UserError on what cannot be served."""
    source = open_source(config)
    return [make_plan(config, source, target) for target in targets]


def make_plan(config: ExportConfig, source: Source, target: Target) -> Plan:
    """The plan for one target. Raises UserError when the target has no such precision or quantization."""
    check_precision(target.name, target.precisions, config.precision)
    config = placed(config, source.family)
    quantization = quantization_of(config)
    preset = find_preset(quantization, target.name, target.presets)
    return Plan(
        config=config,
        source=source,
        target=target,
        precision=config.precision or target.precisions[0],
        quantization=quantization,
        quantizer=Quantizer(preset=preset, kernels=target.quantized) if preset else None,
        pruners=build_pruners(config, source, target),
    )


def build_pruners(config: ExportConfig, source: Source, target: Target) -> tuple[Pruner, ...]:
    """The pruner of each stage, for what the stage before it leaves."""
    pruners: list[Pruner] = []
    tokens = None
    for stage, settings in zip(config.schedule, source.pruners, strict=True):
        pruners.append(build_pruner(stage.pruner, source.geometry.grid, settings, target.loop, tokens))
        tokens = None if rebuilds(stage) else settings.num_kept
    return tuple(pruners)


def open_targets(config: ExportConfig) -> list[Target]:
    """The targets of the config, after all checks that need no checkpoint. Raises UserError."""
    model_entry(config.model, config.checkpoint)
    _ = config.schedule  # which checks it
    targets = [open_target(name, single_file=config.single_file) for name in config.targets]
    if len(targets) > 1 and (config.output / MANIFEST_NAME).exists():
        raise UserError(f"output {config.output} is itself a bundle, not a folder for several: choose another --output")
    for target in targets:
        check_precision(target.name, target.precisions, config.precision)
        find_preset(quantization_of(config), target.name, target.presets)
        check_output(config.outputs[target.name], overwrite=config.overwrite)
    return targets


def open_source(config: ExportConfig) -> Source:
    """Find and read the checkpoint, and check the settings against it. Raises UserError."""
    entry = model_entry(config.model, config.checkpoint)
    folder = config.checkpoint or checkpoints.locate(entry.checkpoint)
    model_type = str(checkpoints.read_config(folder).get("model_type"))
    check_model_type(config.model, entry, model_type, folder)
    family = open_family(model_type, folder)
    height, width = config.image_size or entry.image_size or family.picture.size
    side = family.picture.unit
    if family.picture.fixed:  # a last part that fills no token is not seen
        if (height, width) != family.picture.size:
            only = "x".join(map(str, family.picture.size))
            raise UserError(f"--image-size {height}x{width}: this model takes pictures of {only} pixels only")
    elif height < side or width < side or height % side or width % side:
        raise UserError(f"--image-size {height}x{width}: both sides must be multiples of {side} pixels")
    config = placed(config, family)
    check_tower(config, family)
    pruners = pruner_configs(config, (height // side) * (width // side), family.layers)
    check_key_places(config, family)
    prompt = read_prompt(folder, family.prompt, config.system_prompt)
    check_text_len(config, prompt)
    tower: TowerCut | None = None
    cuts: tuple[Cut, ...] = ()
    for at, own in zip(config.schedule, pruners, strict=True):
        if isinstance(at.place, Vision):
            tower = TowerCut(block=at.place.index, kept=own.num_kept, form=at.form, weighs=bool(own.weigh))
        else:
            cuts = (*cuts, Cut(at.place.index, own.num_kept, bool(own.weigh)))
    geometry = family.geometry(
        height=height, width=width, prefix=len(prompt.prefix_ids), cuts=cuts, text=config.text_len,
        room=config.max_new_tokens, tower=tower,
    )  # fmt: skip
    check_lengths(geometry, family, prompt)
    local = config.checkpoint is not None or entry.checkpoint.startswith("folder:")
    name = checkpoints.identity(folder) if local else checkpoints.hub_identity(entry.checkpoint, folder)
    return Source(name=name, family=family, prompt=prompt, geometry=geometry, pruners=tuple(pruners))


def placed(config: ExportConfig, family: Family) -> ExportConfig:
    """The config with the places of its stages in this model, where they were named otherwise or not at all."""
    if config.stages:
        return replace(config, stages=tuple(in_model(stage, family) for stage in config.stages))
    if config.prune_layer is not None:
        return config
    return replace(config, prune_layer=own_layer(parse_pruner(config.pruner)[0], family))


def in_model(stage: Stage, family: Family) -> Stage:
    """The stage before a block or layer of the model, where it names a share of the blocks, or the first layer."""
    if isinstance(stage.place, Layer) and stage.place.first:
        places = key_places(family) if TRAITS[stage.pruner].needs else []
        return replace(stage, place=Layer(places[0] if places else stage.place.index))
    if not isinstance(stage.place, Vision) or not stage.place.percent:
        return stage
    depth, least = family.spec.vision.depth, least_layer(stage.pruner)
    possible = [block for block in whole_blocks(family) if block >= least] or [least]
    return replace(stage, place=Vision(stage.place.block(depth, possible)))


def whole_blocks(family: Family) -> list[int]:
    """The blocks that a vision tower can be cut before: with windows, those after a block that sees the picture."""
    spec = family.spec.vision
    return [full + 1 for full in spec.full if full + 1 < spec.depth] if spec.window else list(range(spec.depth))


def own_layer(pruner: str, family: Family) -> int:
    """K, a method's own place in a model: within the language model after all layers that features are added to, and
    where the layer before has keys, so that methods can be compared."""
    layer = layer_of(pruner)
    if not layer:
        return layer
    least = max(layer, family.spec.decoder.deep)
    return next((place for place in key_places(family) if place >= least), least)


def key_places(family: Family) -> list[int]:
    """Layers before which a method can choose by the keys of the one before."""
    layers = family.spec.decoder.layers
    return [place for place in range(1, len(layers)) if layers[place - 1].mixer == "attention"]


def quantization_of(config: ExportConfig) -> str:
    """The preset's name, as asked for or the model's default."""
    return model_entry(config.model, config.checkpoint).quant if config.quant is None else config.quant


def check_key_places(config: ExportConfig, family: Family) -> None:
    """Raises UserError where the layer before a stage has not what its pruner chooses by."""
    places = key_places(family)
    for stage in config.schedule:
        needs = TRAITS[stage.pruner].needs
        if needs and isinstance(stage.place, Layer) and stage.place.index not in places:
            where = f"--stage {stage}" if config.stages else f"--prune-layer {stage.place}"
            raise UserError(
                f"{where}: pruner {stage.pruner} chooses by the {' and '.join(needs)} of the layer before, which in "
                f"this model is a convolution and has none: choose one of {', '.join(map(str, places))}"
            )


def pruner_configs(config: ExportConfig, visual: int, layers: int) -> list[PrunerConfig]:
    """The settings of each stage's pruner, with S = share * N rounded half up.

    Raises UserError where the model has no such layer, or a stage cannot keep so many tokens.
    """
    configs: list[PrunerConfig] = []
    left = visual
    for number, stage in enumerate(config.schedule):
        option = f"--stage {stage}" if config.stages else f"--keep {stage.keep:.4g}"
        if isinstance(stage.place, Layer) and stage.place.index >= layers:
            where = f"--stage {stage}" if config.stages else f"--prune-layer {stage.place}"
            raise UserError(f"{where}: this model has {layers} layers, so {least_layer(stage.pruner)} to {layers - 1}")
        if number and stage.pruner == "none":  # added after a stage in the vision tower
            configs.append(PrunerConfig(num_kept=left, pivots=min(DEFAULT_PIVOTS, left)))
            continue
        configs.append(pruner_config(stage, visual, option))
        if number and configs[-1].num_kept >= left:
            raise UserError(
                f"{option} keeps {configs[-1].num_kept} of {visual} visual tokens, as many as the stage before it: "
                "leave one of the two out, or choose a larger --image-size"
            )
        left = visual if rebuilds(stage) else configs[-1].num_kept
    return configs


def check_tower(config: ExportConfig, family: Family) -> None:
    """Raises UserError where the vision tower has no such block, or cannot be cut before it."""
    spec = family.spec.vision
    for stage in config.schedule:
        if not isinstance(stage.place, Vision):
            continue
        block = stage.place.index
        if block >= spec.depth:
            least = least_layer(stage.pruner)
            raise UserError(
                f"--stage {stage}: this model's vision tower has {spec.depth} blocks, so vision.{least} to "
                f"vision.{spec.depth - 1}"
            )
        if block not in whole_blocks(family):
            possible = ", ".join(f"vision.{whole}" for whole in whole_blocks(family))
            raise UserError(
                f"--stage {stage}: the blocks of this model's vision tower see windows of the picture, so tokens can "
                f"leave it only after a block that sees all of it: {possible or 'it has none before another'}"
            )


def pruner_config(stage: Stage, visual: int, option: str) -> PrunerConfig:
    """The settings of one stage's pruner: those asked for, and for the rest the published or the fitting ones.

    Raises UserError when S lies outside [pivots, N], or [1, N] for methods without pivots, or a setting is refused.
    """
    kind = pruner_class(stage.pruner)
    kept = int(stage.keep * visual + 0.5)
    settings: dict[str, float] = {**({} if stage.published else kind.fitting(kept)), **stage.settings}
    pivots = settings.pop("pivots", DEFAULT_PIVOTS)
    least = int(pivots) if "pivots" in kind.settings else 1
    if visual < least:
        raise UserError(
            f"this image size gives {visual} visual tokens, pruner {stage.pruner} starts from {least}: "
            "choose a larger --image-size, or --pruner none"
        )
    if kept < least:
        raise UserError(
            f"{option} keeps {kept} of {visual} visual tokens: at least {least} are needed, "
            f"so the share must be at least {least / visual:.4g}"
        )
    try:
        return PrunerConfig(num_kept=kept, pivots=min(int(pivots), kept), **settings)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"pruner {stage.pruner}: {error}") from error


def check_text_len(config: ExportConfig, prompt: ChatPrompt) -> None:
    """Raises UserError when the bucket cannot hold the template and a word."""
    around = max(len(encode_turn(prompt.tokenizer, template, "")) for template in (prompt.first, prompt.following))
    if config.text_len < around + 2:
        raise UserError(
            f"--text-len {config.text_len}: the chat template alone takes {around} tokens; use at least {around + 2}"
        )


def check_lengths(geometry: Geometry, family: Family, prompt: ChatPrompt) -> None:
    """Raises UserError when the whole chat is longer than the model was made for, or the tokenizer is another's."""
    longest = geometry.whole_base + geometry.text_room
    if longest > family.max_positions:
        raise UserError(
            f"{geometry.visual} visual tokens, --text-len {geometry.text} and --max-new-tokens {geometry.room} make up "
            f"to {longest} positions, this model has {family.max_positions}: choose less of one of them"
        )
    known = prompt.tokenizer.get_vocab_size()
    if known > geometry.vocab:
        raise UserError(
            f"the checkpoint's tokenizer has {known} tokens, its config says vocab_size {geometry.vocab}: the files of "
            "two models are mixed"
        )
    image_token = family.prompt.image_token
    image_id = prompt.tokenizer.token_to_id(image_token)
    if image_id != family.image_token_id:
        raise UserError(
            f"the checkpoint's tokenizer has {image_token} as {image_id}, its config says image_token_id "
            f"{family.image_token_id}: the files of two models are mixed"
        )
