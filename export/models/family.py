"""What every family shares: a checkpoint's config becomes specs, and specs with its weights the four graphs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from vlmp.export.checkpoint import adapter_weights, read_config
from vlmp.export.geometry import Cut, Geometry, KvLayer, StateLayer, TowerCut
from vlmp.export.models.decoder import Decode, Decoder, Extend, Prefill, decoder_transforms
from vlmp.export.models.loading import Names, load
from vlmp.export.models.positions import prompt_positions, rope_rows, text_positions, text_start
from vlmp.export.models.spec import ModelSpec
from vlmp.export.models.tower import TowerStage
from vlmp.export.models.vision import Vision, vision_transforms
from vlmp.export.pixels import Normalisation, read_normalisation, read_resample
from vlmp.export.quantize import Part, Quantizer
from vlmp.export.weights import Prefixes, Weights
from vlmp.pruner import Pruner
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.manifest import MethodName

EMBED, HEAD = "embed", "head"
"""Modules of the decoder that may share a tensor."""


class SpecFamily(ABC):
    """A checkpoint whose model is all in its specs; a family says how its config becomes them.

    Raises UserError when the config asks for what the graphs do not compute.
    """

    title: ClassVar[str]
    """What people call the family."""
    config_class: ClassVar[Any]
    """transformers' own, which reads old and new configs."""
    prefixes: ClassVar[Prefixes]
    vision_names: ClassVar[Names]
    decoder_names: ClassVar[Names]
    """With `embed` and `head`."""
    pixels: ClassVar[Normalisation]
    """What the image processor does where the checkpoint does not say."""

    def __init__(self, checkpoint: Path) -> None:
        raw = read_config(checkpoint)
        self.checkpoint = checkpoint
        self.notes: list[str] = []
        path = checkpoint / "config.json"
        try:
            self.config = self.config_class.from_dict(raw)
            for name, size in self.sizes().items():
                if not size >= 1:
                    raise UserError(f"{path}: {name} is {size!r}, it must be at least 1")
            for name, (value, right) in self.wanted().items():
                if value != right:
                    raise UserError(f"{path}: {name} is {value!r}, only {right!r} is supported")
            self.spec = self.specs()
            self.normalisation = read_normalisation(checkpoint, self.pixels, self.processor_sizes())
            resample = read_resample(checkpoint, self.spec.picture.resample)
        except UserError:
            raise
        except Exception as error:  # transformers raises many kinds here, all meaning that the file is wrong
            raise UserError(f"{path} is no {self.title} config: {one_line(error)}") from error
        self.picture, self.prompt = replace(self.spec.picture, resample=resample), self.spec.prompt
        self.layers = len(self.spec.decoder.layers)
        self.max_positions, self.image_token_id = self.spec.max_positions, self.spec.image_token_id
        self.pad_rgb = self.normalisation.pad_rgb

    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """What of the config must be at least 1, by name."""

    @abstractmethod
    def wanted(self) -> Mapping[str, tuple[object, object]]:
        """Values of the config, and the only ones that the graphs compute, by name."""

    @abstractmethod
    def specs(self) -> ModelSpec:
        """The config as specs."""

    @abstractmethod
    def processor_sizes(self) -> dict[str, int]:
        """Settings of the image processor, and the only values that are served. What its file leaves out passes."""

    def geometry(
        self,
        *,
        height: int,
        width: int,
        prefix: int,
        cuts: tuple[Cut, ...],
        text: int,
        room: int,
        tower: TowerCut | None = None,
    ) -> Geometry:
        """All static sizes. height, width in pixels, multiples of `picture.unit`."""
        decoder, grid = self.spec.decoder, (height // self.picture.unit, width // self.picture.unit)
        return Geometry(
            height=height,
            width=width,
            grid=grid,
            prefix=prefix,
            text_start=text_start(decoder.rope, prefix, grid),
            cuts=cuts,
            text=text,
            room=room,
            kv=tuple(
                StateLayer(rows=decoder.conv_kernel - 1, width=decoder.width)
                if layer.mixer == "conv"
                else KvLayer(heads=layer.kv_heads, head_dim=layer.head_dim)
                for layer in decoder.layers
            ),
            hidden=decoder.width,
            vocab=decoder.vocab,
            deep=decoder.deep,
            tower=tower,
        )

    @torch.no_grad()
    def build(
        self,
        geometry: Geometry,
        pruners: Sequence[Pruner],
        prefix_ids: list[int],
        dtype: torch.dtype,
        quantizer: Quantizer | None = None,
        holds: torch.dtype | None = None,
    ) -> dict[MethodName, nn.Module]:
        """The four graphs with the checkpoint's weights in `dtype`; prefill, decode and extend share one decoder.

        pruners: of each stage in order, that of the vision tower first.
        holds: what the export will keep values in where that is smaller than `dtype`. Raises UserError when the
        checkpoint's tensors do not fit its config, `holds` cannot hold them, or the quantizer's groups do not fit them.
        """
        stage = None
        if geometry.tower is not None:
            first, *pruners = pruners
            vision_spec = self.spec.vision
            stage = TowerStage(
                first, geometry.tower, vision_spec.heads, self.spec.connector.merge, class_token=vision_spec.class_token
            )
        vision, decoder = self._load(geometry, dtype, quantizer, holds or dtype, stage)
        vision.bake(self.normalisation, dtype)
        rope, head_dim = self.spec.decoder.rope, self.spec.decoder.head_dim
        prompt_rope = rope_rows(rope, head_dim, prompt_positions(rope, geometry), dtype)
        text_rope = rope_rows(rope, head_dim, text_positions(rope, geometry), dtype)
        methods: dict[MethodName, nn.Module] = {
            "vision": vision,
            "prefill": Prefill(decoder, pruners, geometry, prefix_ids, prompt_rope),
            "decode": Decode(decoder, geometry, text_rope),
            "extend": Extend(decoder, geometry, text_rope),
        }
        for module in methods.values():
            module.eval().requires_grad_(False)
        return methods

    def _load(
        self,
        geometry: Geometry,
        dtype: torch.dtype,
        quantizer: Quantizer | None,
        holds: torch.dtype,
        stage: TowerStage | None,
    ) -> tuple[Vision, Decoder]:
        """The modules with the checkpoint's weights."""

        def part(name: str) -> Part:
            """The part that a module of the decoder belongs to."""
            if not name.startswith("layers."):
                return "table"
            return "early" if int(name.split(".")[1]) in geometry.groups[0] else "late"

        spec = self.spec
        with Weights(self.checkpoint, self.prefixes) as weights:
            words = self._words(weights)
            tied = HEAD not in words
            with torch.device("meta"):
                vision = Vision(spec.vision, spec.connector, geometry.grid, stage)
                decoder = Decoder(replace(spec.decoder, tied=tied))
            names = {**self.decoder_names, **words}
            seen, heard = vision_transforms(spec.vision), decoder_transforms(spec.decoder)
            load(vision, weights, self.vision_names, seen, dtype, quantizer, lambda _: "vision", holds)
            load(decoder, weights, names, heard, dtype, quantizer, part, holds)
            for path in adapter_weights(self.checkpoint):
                self._note(f"{path.name} beside the weights is not read, since no adapter_config.json is there")
            if weights.unused:
                self._note(f"{len(weights.unused)} tensors of the checkpoint are not used, as {weights.unused[0]}")
        if tied:
            decoder.tie()
        return vision, decoder

    def _words(self, weights: Weights) -> Names:
        """Owners of the tensors of the embedding and of a head of its own, as transformers ties them.

        A config that ties them is believed unless the checkpoint has both and they differ; one of them serves as both.
        """
        embed, head = str(self.decoder_names[EMBED]), str(self.decoder_names[HEAD])
        table, rows = f"{embed}.weight", f"{head}.weight"
        if not self.spec.decoder.tied:
            return {EMBED: embed, HEAD: head}
        if rows not in weights:
            return {EMBED: embed}
        if table not in weights:
            return {EMBED: head}
        shape = (self.spec.decoder.vocab, self.spec.decoder.width)
        if torch.equal(weights.get(table, shape).float(), weights.get(rows, shape).float()):
            return {EMBED: embed}
        self._note(f"config.json ties the head to the embedding, but {rows} differs from it: it is exported as it is")
        return {EMBED: embed, HEAD: head}

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
