"""The weights of a checkpoint, read tensor by tensor from safetensors."""

import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from vlmp.export.checkpoint import weight_files
from vlmp.runtimes.bundle.errors import UserError

LORA = (".lora_", "base_model.model.")
"""In names of tensors that belong to an adapter, not to the model."""
PACKED = (".qweight", ".qzeros", ".weight_packed", ".weight_scale", ".weight_scale_inv", ".absmax", ".SCB")
"""Ends of the names that tools of quantization give to what they put in place of a weight."""
QUANT_STATE = ".quant_state."
"""In the names of bitsandbytes."""
Prefixes = tuple[tuple[str, str], ...]
"""How names of tensors may begin, and how they do on the hub; the longer one before one that it begins with."""


class Weights:
    """Tensors of a checkpoint by name, memory-mapped; names of all layouts that the family's prefixes list are found.

    Like transformers it reads model.safetensors, else the files of the index, else whatever safetensors there are: a
    stray file must not replace tensors. Raises UserError when there are no safetensors or a file is damaged.
    """

    def __init__(self, folder: Path, prefixes: Prefixes) -> None:
        self.folder = folder
        self._files: dict[Path, Any] = {}
        self._places: dict[str, list[tuple[Path, str]]] = {}
        """Our name -> file and stored name; several where a tensor stands there under several names."""
        self._asked: set[str] = set()
        for path in weight_files(folder):
            try:
                self._files[path] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is truncated or damaged ({error}): download it again") from None
            for name in self._files[path].keys():  # noqa: SIM118 (not a dict)
                if any(part in name for part in LORA):
                    raise UserError(
                        f"{path}: {name} belongs to an adapter: merge it into its model first (peft: merge_and_unload)"
                    )
                self._places.setdefault(canonical(name, prefixes), []).append((path, name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    @property
    def unused(self) -> list[str]:
        """Stored names of the tensors that nobody has asked for."""
        return [stored for name, places in self._places.items() if name not in self._asked for _, stored in places]

    def get(self, name: str, shape: tuple[int, ...], holds: torch.dtype = torch.float32) -> Tensor:
        """The tensor `name`, whose values `holds` must be able to hold.

        Raises UserError when it is missing, of another shape, not a float tensor, has values that are not finite or too
        large, or stands there twice with different values.
        """
        if name not in self._places:
            hint = self._quantized() or f"; it has {next(iter(self._places), 'none')} and others"
            raise UserError(f"{self.folder}: the checkpoint has no tensor {name}, which its config asks for{hint}")
        self._asked.add(name)
        (path, stored), *others = self._places[name]
        tensor = self._read(path, stored, shape)
        for other_path, other in others:
            if not torch.equal(self._read(other_path, other, shape).float(), tensor.float()):
                raise UserError(
                    f"{path}: {stored} and {other} in {other_path.name} are the same tensor of the model with "
                    "different values: remove the wrong one"
                )
        low, high = (value.item() for value in torch.aminmax(tensor))
        if not math.isfinite(low) or not math.isfinite(high):
            raise UserError(f"{path}: {stored} holds values that are not finite (NaN or infinite): it is broken")
        largest = max(-low, high)
        if largest > torch.finfo(holds).max:
            kind = str(holds).removeprefix("torch.")
            raise UserError(f"{path}: {stored} holds {largest:.3g}, too large for {kind}: choose --precision float32")
        return tensor

    def _quantized(self) -> str:
        """The end of a sentence on tensors that only quantized weights have, empty where there are none."""
        packed = next((each for each in self._places if each.endswith(PACKED) or QUANT_STATE in each), None)
        return f"; it has {packed}, so it is quantized: one in full precision is needed" if packed else ""

    def _read(self, path: Path, stored: str, shape: tuple[int, ...]) -> Tensor:
        found = tuple(self._files[path].get_slice(stored).get_shape())
        if found != shape:
            hint = self._quantized()
            raise UserError(f"{path}: {stored} has shape {list(found)}, the config asks for {list(shape)}{hint}")
        with safe_open(path, framework="pt") as file:  # a mapping of its own: pages that were read go with the tensor
            tensor = file.get_tensor(stored)
        if tensor.dtype == torch.float64:
            return tensor.float()
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise UserError(
                f"{path}: {stored} is {tensor.dtype}, only float32, float16 and bfloat16 are supported: a checkpoint "
                "in full precision is needed"
            )
        return tensor


def canonical(name: str, prefixes: Prefixes) -> str:
    """The hub's name of a tensor, in whatever layout it was saved."""
    for stored, hub in prefixes:
        if name.startswith(stored):
            return hub + name.removeprefix(stored)
    return name
