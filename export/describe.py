"""A plan and its lowered methods become the manifest."""

from vlmp.export.geometry import Cut, KvLayer, TowerCut
from vlmp.export.models import model_label
from vlmp.export.plan import Plan
from vlmp.runtimes.bundle.manifest import (
    METHODS,
    ImageSpec,
    KvLayerSpec,
    KvSpec,
    Manifest,
    MethodName,
    MethodSpec,
    ParitySpec,
    SegmentSpec,
    ShapeSpec,
    StageSpec,
    StateLayerSpec,
)
from vlmp.runtimes.versions import package_version

TOKENIZER_NAME = "tokenizer.json"


def describe(plan: Plan, specs: dict[MethodName, MethodSpec]) -> Manifest:
    """The manifest without parity, cost and files. specs: the lowered methods; the model has been built by then."""
    config, source, target = plan.config, plan.source, plan.target
    return Manifest(
        model=model_label(config.model),
        checkpoint=source.name,
        target=target.name,
        precision=plan.precision,
        quantization=plan.quantization,
        vocab_size=source.geometry.vocab,
        prompt=source.prompt.spec(
            text_len=config.text_len, max_new_tokens=config.max_new_tokens, tokenizer_file=TOKENIZER_NAME
        ),
        shapes=[shape_of(plan)],
        methods={method: specs[method] for method in METHODS},
        parity=ParitySpec(status="skipped", runtime=""),
        notes=[*source.prompt.notes, *source.family.notes, *(plan.quantizer.notes if plan.quantizer else ())],
        tools={name: package_version(name) for name in ("vlmp", "torch")} | target.tools(),
    )


def shape_of(plan: Plan) -> ShapeSpec:
    """The picture size of the export, and all that follows from it."""
    geometry = plan.source.geometry
    rows, columns = geometry.grid
    unit = plan.source.family.picture.unit
    seen = (0, 0, columns * unit, rows * unit)  # of a picture of fixed size perhaps not the last pixels
    image = ImageSpec(
        height=geometry.height, width=geometry.width, fit=plan.config.image_fit, pad_rgb=plan.source.family.pad_rgb,
        resample=plan.source.family.picture.resample, visual_tokens=geometry.visual,
        segments=[SegmentSpec(rows=rows, columns=columns, first=0, stride=columns, box=seen)],
    )  # fmt: skip
    cuts: list[Cut | TowerCut] = [*([geometry.tower] if geometry.tower else []), *geometry.cuts]
    stages = [
        StageSpec(
            place="vision" if isinstance(cut, TowerCut) else "layer", index=stage.place.index, pruner=stage.pruner,
            tokens=pruner.tokens, num_kept=cut.kept, loop=plan.target.loop,
            form=cut.form if isinstance(cut, TowerCut) else "dropped",
            settings={name: getattr(pruner.config, name) for name in pruner.settings},
            by_prompt="attention" in pruner.needs and isinstance(cut, Cut), weighs=cut.weighs, exact=pruner.exact,
        )
        for stage, cut, pruner in zip(plan.config.schedule, cuts, plan.pruners, strict=True)
    ]  # fmt: skip
    layers = [
        KvLayerSpec(kv_heads=kv.heads, head_dim=kv.head_dim, base=geometry.base(i), slots=geometry.slots(i))
        if isinstance(kv, KvLayer)
        else StateLayerSpec(state=(kv.rows, kv.width))
        for i, kv in enumerate(geometry.kv)
    ]
    kv = KvSpec(update=plan.target.kv_update, dtype=plan.precision, layers=layers)
    return ShapeSpec(image=image, stages=stages, kv=kv, methods={method: method for method in METHODS})
