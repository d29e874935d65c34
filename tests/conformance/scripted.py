"""A session whose model says a script, as README.md describes it; the bookkeeping around it is the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from make_dialogs import BIAS, PLACES, STATE, STATE_LAYER
from vlmp.runtimes import Session
from vlmp.runtimes.bundle.manifest import Manifest, MethodName
from vlmp.runtimes.session import Array


class ScriptedSession(Session):
    """script: the tokens that the logits say. action: of the conformance files; it says in which call what goes wrong.

    stop: asks for a stop.
    """

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.script: Iterator[int] = iter(())
        self.action: dict[str, Any] = {}
        self.stop: Callable[[], None] = lambda: None
        self.calls: list[list[Any]] = []

    @property
    def runtime(self) -> str:
        return "scripted"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        spec = self.manifest.method(method)
        count = len(self.calls)
        if count == self.action.get("fails_at"):
            raise RuntimeError("the runtime failed")
        for tensor in spec.inputs:
            if 0 not in tensor.shape:
                given = inputs[tensor.name]
                assert (list(given.shape), str(given.dtype)) == (tensor.shape, tensor.dtype), tensor.name
        outputs = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in spec.outputs}
        stopped, broken = count == self.action.get("stop_in"), count == self.action.get("not_finite_at")
        if stopped:
            self.stop()
        if method == "vision":
            if not stopped:
                self.calls.append([method, None, []])
            for name, values in (("places", PLACES), ("bias_0", BIAS)):
                if name in outputs:
                    outputs[name][:] = values
            return outputs
        for name, values in (("places", PLACES if method == "prefill" else []), ("bias_cache_0", BIAS)):
            if any(tensor.name == name for tensor in spec.inputs):
                given = inputs.get(name, np.zeros(0))
                assert given.tolist() == values
        ids = [int(token) for token in inputs["ids"][0]]
        length = int(inputs["text_len"][0])
        past = int(inputs["past"][0])
        assert set(ids[length:]) <= {self.manifest.prompt.pad_id}
        if not stopped and not broken:
            self.calls.append([method, None if method == "prefill" else past, ids[:length]])
        for layer, base in self._bases():
            rows = [[7000 + slot, slot] for slot in range(base)] if method == "prefill" else []
            # Of padding there are rows, too, where rows are returned; they must never be stored.
            padding = [] if self.manifest.shape.kv.update == "in_place" else ids[length:]
            rows += [[token, past + place] for place, token in enumerate(ids[:length])] + [[9999, 9999]] * len(padding)
            self._put(layer, 0 if method == "prefill" else base + past, np.array(rows, np.float32), inputs, outputs)
        before = inputs[f"state_cache_{STATE_LAYER}"] if f"state_cache_{STATE_LAYER}" in inputs else np.zeros(STATE)
        assert method != "prefill" or not before.any()
        fed = [[token, past + place] for place, token in enumerate(ids[:length])]
        outputs[f"state_{STATE_LAYER}"][:] = np.array([*before.tolist(), *fed])[-STATE[0] :]
        if broken:
            outputs["logits"][7] = np.nan
        else:
            outputs["logits"][next(self.script, 0)] = 1
        if method == "prefill":
            kept = {"kept_0": PLACES, "kept": [1, 3], "order": [3, 1]}
            outputs.update({name: np.array(ids, np.int32) for name, ids in kept.items() if name in outputs})
        return outputs

    def _bases(self) -> list[tuple[int, int]]:
        """Layers with keys, each with its base."""
        return [(number, layer.base) for number, layer in self.manifest.shape.kv.keyed.items()]

    def _put(self, layer: int, slot: int, rows: Array, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> None:
        """Return new rows, or write them into the caches."""
        for kind, sign in (("key", 1), ("value", -1)):
            if self.manifest.shape.kv.update == "in_place":
                inputs[f"{kind}_cache_{layer}"][0, 0, slot : slot + len(rows)] = sign * rows
            else:
                outputs[f"{kind}_{layer}"][0] = sign * rows

    def stored(self) -> list[int]:
        """Text ids whose rows are in the caches, the same in each layer's, each at its place."""
        found = []
        for layer, base in self._bases():
            keys, values = (self._caches[f"{kind}_cache_{layer}"].reshape(-1, 2) for kind in ("key", "value"))
            np.testing.assert_array_equal(keys, -values)
            if self.past:
                assert keys[:base].tolist() == [[7000 + slot, slot] for slot in range(base)]
            text = keys[base : base + self.past]
            assert text[:, 1].tolist() == list(range(self.past))
            found.append(text[:, 0].astype(int).tolist())
        assert all(ids == found[0] for ids in found)
        fed = [[token, place] for place, token in enumerate(found[0])]
        wanted = np.array([*np.zeros(STATE).tolist(), *fed])[-STATE[0] :]
        state = self.progress.states.get(f"state_cache_{STATE_LAYER}", np.zeros(STATE))
        assert state.tolist() == wanted.tolist()
        return found[0]
