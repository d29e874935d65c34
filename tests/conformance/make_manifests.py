"""Cases of manifests: what a reader must get from a valid one, and what it must refuse."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from conformance_files import FOLDER, ROOT, write_json
from make_dialogs import CONTENTS, small_manifest
from make_texts import tiny

SCHEMA_1 = ROOT / "tests/runtimes/bundle/schema_1"
EXPORTED = (
    "onnx-pruned", "onnx-staged", "onnx-int4", "executorch-pruned", "executorch-staged", "executorch-int4",
    "coreml-pruned",
)  # fmt: skip
"""Taken from bundles of `make_steps.py`; they stay as they are until bundles are exported again."""
TOWERS = ("tower-rows", "tower-in_place")
"""Manifests of which a stage stands in the vision tower."""
UNKNOWN = {"colour": {"of": "a later version"}}
FIRST_SHAPE: tuple[str | int, ...] = ("shapes", 0)
Change = dict[str, Any]


def make_manifests(folder: Path, bundles: Path | None) -> None:
    """The folder manifest. bundles: where they were exported to; None: the manifests that are here are used again."""
    manifests = {"rows": small_manifest("rows"), "in_place": small_manifest("in_place")}
    manifests |= {f"later-{name}": later(manifest) for name, manifest in list(manifests.items())}
    manifests |= {f"second-{name}": second(small_manifest(name)) for name in ("rows", "in_place")}
    for resample in ("bilinear", "lanczos"):
        for name in ("rows", "in_place"):
            manifest = manifests[f"{resample}-{name}"] = small_manifest(name)
            manifest["shapes"][0]["image"]["resample"] = resample
    for kind in (*TOWERS, "rebuilt-rows", "rebuilt-in_place"):
        manifests[kind] = small_manifest(kind)
    for target in ("onnx", "executorch"):
        manifests[f"schema-1-{target}"] = json.loads((SCHEMA_1 / target / "manifest.json").read_text("utf-8"))
    for name in EXPORTED:
        path = bundles / name / "manifest.json" if bundles else FOLDER / f"manifest/{name}.json"
        manifests[name] = json.loads(path.read_text("utf-8"))
    for name, manifest in manifests.items():
        manifest.pop("cost", None)  # other with each export
        write_json(folder / f"manifest/{name}.json", **manifest)
    write_json(
        folder / "manifest/cases.json",
        valid=[{"file": f"{name}.json", "facts": facts(manifest)} for name, manifest in manifests.items()],
        bases=["rows.json", "in_place.json"],
        contents=CONTENTS | {"tokenizer.json": tiny()},
        hostile=hostile(),
        bases_tower=[f"{name}.json" for name in TOWERS],
        hostile_tower=hostile_tower(),
        bases_1=["schema-1-onnx.json", "schema-1-executorch.json"],
        hostile_1=hostile_1(),
        texts=["", "{", "[]", '"text"', "null", "[" * 20000, '{"schema_version": 2', '{"schema_version": 1e999}'],
    )


def facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs of a manifest; of schema 1 as if it were schema 2."""
    shape = manifest["shapes"][0] if manifest["schema_version"] > 1 else first_shape_of_1(manifest)
    image, prompt = shape["image"], manifest["prompt"]
    told = ("place", "index", "pruner", "tokens", "num_kept", "form", "weighs")
    absent = {"place": "layer", "form": "dropped", "weighs": False}  # of schema 1, and where it is left out
    stages = [{name: (absent | stage)[name] for name in told} for stage in shape["stages"]]
    return {
        **{name: manifest[name] for name in ("model", "target", "precision", "quantization", "vocab_size")},
        "image": {name: image[name] for name in ("height", "width", "fit", "pad_rgb", "resample", "visual_tokens")},
        "segments": [
            [segment[name] for name in ("rows", "columns", "first", "stride", "box")] for segment in image["segments"]
        ],
        "stages": stages,
        "num_kept": stages[-1]["num_kept"],
        "kv": {"update": shape["kv"]["update"], "dtype": shape["kv"]["dtype"], "layers": [
            layer.get("state") or [layer[name] for name in ("kv_heads", "head_dim", "base", "slots")]
            for layer in shape["kv"]["layers"]
        ]},
        "prompt": {
            name: prompt[name]
            for name in ("first", "following", "text_len", "max_new_tokens", "end_ids", "end_text_id", "pad_id",
                         "tokenizer_file")
        } | {"control_tokens": prompt.get("control_tokens", [])},
        "methods": {
            step: {
                **{name: method.get(name, "") for name in ("file", "entry", "data_file")},
                **{name: [[t["name"], t["shape"], t["dtype"]] for t in method[name]] for name in ("inputs", "outputs")},
            }
            for step, method in ((step, manifest["methods"][name]) for step, name in shape["methods"].items())
        },
    }  # fmt: skip


def first_shape_of_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Where version 2 has what version 1 had at its top."""
    image, pruner, kv = manifest["image"], manifest["pruner"], manifest["kv"]
    rows, columns = image["grid"]
    whole = {
        "rows": rows,
        "columns": columns,
        "first": 0,
        "stride": columns,
        "box": [0, 0, image["width"], image["height"]],
    }
    stage = {"index": pruner["layer"], "pruner": pruner["name"], "tokens": pruner["visual_tokens"],
             "num_kept": pruner["kept_tokens"]}  # fmt: skip
    kinds = ["early"] * kv["early_layers"] + ["late"] * (kv["layers"] - kv["early_layers"])
    layers = [
        {
            "kv_heads": kv["kv_heads"],
            "head_dim": kv["head_dim"],
            "base": kv[f"{kind}_base"],
            "slots": kv[f"{kind}_slots"],
        }
        for kind in kinds
    ]
    return {
        "image": {**image, "visual_tokens": pruner["visual_tokens"], "segments": [whole]},
        "stages": [stage],
        "kv": {"update": kv.get("update", "rows"), "dtype": kv["dtype"], "layers": layers},
        "methods": {name: name for name in ("vision", "prefill", "decode", "extend")},
    }


def later(manifest: dict[str, Any]) -> dict[str, Any]:
    """With fields and a picture size that today's readers have no use for: they read the same as without."""
    more = deepcopy(manifest)
    (shape,) = more["shapes"]
    for part in (more, more["prompt"], shape, shape["image"], shape["image"]["segments"][0], shape["stages"][0],
                 shape["kv"], shape["kv"]["layers"][0], more["methods"]["vision"],
                 more["methods"]["vision"]["inputs"][0], more["files"][0]):  # fmt: skip
        part |= UNKNOWN
    more["methods"]["vision_wide"] = deepcopy(more["methods"]["vision"])
    other = {**deepcopy(shape), "methods": {**shape["methods"], "vision": "vision_wide"}}
    other["image"] |= {"height": 28, "width": 84}
    more["shapes"].append(other)
    return more


def second(manifest: dict[str, Any]) -> dict[str, Any]:
    """With another picture size that does not fit together: nobody looks who takes the first."""
    (shape,) = manifest["shapes"]
    other = deepcopy(shape)
    other["kv"]["layers"][0]["slots"] = 4000
    other["image"]["height"] = 28
    manifest["shapes"].append(other)
    return manifest


def hostile_1() -> list[dict[str, Any]]:
    """The same of schema version 1. All are refused before anybody looks for files."""
    cases: list[dict[str, Any]] = []
    for kind, values in {
        "field": {
            ("image", "height"): [0, "308", True], ("image", "grid"): [[0, 11], None],
            ("image", "resample"): ["nearest"],
            ("pruner", "visual_tokens"): [0, "121"], ("pruner", "name"): [None], ("kv", "layers"): [0, -1, 10**9, "8"],
            ("kv", "early_layers"): [-1, 10**6], ("kv", "head_dim"): [0], ("kv", "late_slots"): [0, None],
            ("kv", "late_base"): [-1], ("prompt", "text_len"): [0], ("prompt", "first"): ["no mark"],
        },
        "stages": {("pruner", "layer"): [-1, 1000], ("pruner", "kept_tokens"): [0, 10**6]},
        "tensors": {("kv", "head_dim"): [2], ("vocab_size",): [3000], ("image", "width"): [28]},
    }.items():  # fmt: skip
        for at, wrong in values.items():
            cases += [
                {"class": kind, "field": at[-1], "change": [{"at": list(at), "value": value}], "files": {}}
                for value in wrong
            ]
    for part in ("image", "pruner", "kv"):
        cases.append({"class": "field", "field": part, "change": [{"at": [part]}], "files": {}})
    return cases


def hostile_tower() -> list[dict[str, Any]]:
    """What is wrong with a stage in the vision tower, and with tensors that are there for it."""
    cases: list[dict[str, Any]] = []

    def wrong(kind: str, *at: str | int, **to: Any) -> None:
        cases.append({"class": kind, "field": str(at[-1]), "change": [{"at": list(at), **to}], "files": {}})

    stages, methods = (*FIRST_SHAPE, "stages"), ("methods",)
    for at, values in {
        (*stages, 0, "place"): ["tower", 3], (*stages, 0, "index"): [-1, 1.5],
        (*stages, 0, "form"): ["merged", 3, "rebuilt"], (*stages, 0, "weighs"): [1],
        (*stages, 0, "num_kept"): [0, 5, 4], (*stages, 1, "place"): ["vision"], (*stages, 1, "tokens"): [4],
        (*stages, 1, "form"): ["rebuilt"],
    }.items():  # fmt: skip
        for value in values:
            wrong("stages", *at, value=value)
    wrong("stages", *stages, 1)
    cases[-1]["field"] = "stages"
    for at, value in {
        (*stages, 0, "weighs"): False, (*stages, 1, "weighs"): True, (*stages, 0, "place"): "layer",
        (*methods, "vision", "outputs", 0, "shape"): [4, 5], (*methods, "vision", "outputs", 1, "shape"): [2],
        (*methods, "vision", "outputs", 1, "dtype"): "float32", (*methods, "vision", "outputs", 1, "name"): "kept_0",
        (*methods, "vision", "outputs", 2, "name"): "bias_1", (*methods, "vision", "outputs", 2, "dtype"): "int32",
        (*methods, "prefill", "outputs", 0, "name"): "kept_0", (*methods, "prefill", "inputs", 2, "name"): "bias_0",
        (*methods, "prefill", "inputs", 3, "shape"): [4],
    }.items():  # fmt: skip
        wrong("tensors", *at, value=value)
    for step in ("vision", "prefill"):
        wrong("tensors", *methods, step, "outputs", 1)
    for step in ("prefill", "decode", "extend"):
        wrong("tensors", *methods, step, "inputs", 3)
    return cases


def hostile() -> list[dict[str, Any]]:
    """at: where in a base something is changed; value: what to; without one it is removed. files: other contents."""
    cases: list[dict[str, Any]] = []

    def wrong(kind: str, *at: str | int, **to: Any) -> None:
        cases.append({"class": kind, "field": str(at[-1]), "change": [{"at": list(at), **to}], "files": {}})

    shape, image, kv, prompt = FIRST_SHAPE, (*FIRST_SHAPE, "image"), (*FIRST_SHAPE, "kv"), ("prompt",)
    for version in (3, 0, -1, 10**6, "2", 2.5, None, True, [2]):
        wrong("version", "schema_version", value=version)
    wrong("version", "schema_version")
    for at in (
        ("model",), ("target",), ("vocab_size",), prompt, ("shapes",), ("methods",), image, kv, (*shape, "stages"),
        (*kv, "layers"), (*kv, "dtype"), (*image, "pad_rgb"), (*image, "fit"), (*image, "visual_tokens"),
        (*prompt, "first"), (*prompt, "following"), (*prompt, "end_ids"), (*prompt, "tokenizer_file"),
        ("methods", "decode", "inputs"), ("methods", "decode", "file"), (*shape, "methods", "extend"),
        ("methods", "extend"), ("files", 0, "sha256"),
    ):  # fmt: skip
        wrong("field", *at)
    for at, values in {
        ("vocab_size",): [0, -1, "2048", 1.5, True],
        ("precision",): ["float64", None],
        (*prompt, "text_len"): [0, -1, 1.5, "20", 2**40, None],
        (*prompt, "max_new_tokens"): [0, 2**40],
        (*prompt, "first"): [None, 3, ["a"], "no mark", ""],
        (*prompt, "following"): ["{prompt"],
        (*prompt, "end_ids"): [3, ["a"], [-1], None],
        (*prompt, "control_tokens"): ["<|im_end|>", [""], [3]],
        (*prompt, "end_text_id"): [-1, 2048, 10**9],
        (*prompt, "pad_id"): [-1, 2048],
        (*image, "height"): [0, -56, "56", 2**40],
        (*image, "frames"): [8],
        (*image, "fit"): ["crop", None],
        (*image, "resample"): ["nearest"],
        (*image, "pad_rgb"): [[1, 2, 300], [1, 2], "white", [1, 2, -1]],
        (*image, "visual_tokens"): [0, 2**40],
        ("shapes",): [[], {}, None],
        (*kv, "layers"): [[], 10**9, None],
        (*kv, "layers", 0, "head_dim"): [0, -2, "2"],
        (*kv, "layers", 1, "slots"): [4000, 0, -1],
        (*kv, "layers", 3, "state"): [[0, 2], [2], [2, 2, 2], [2, -2], [2, 1.5], "2", 4],
        (*kv, "dtype"): ["float64"],
        ("methods",): [[], None],
        ("methods", "vision", "inputs"): [None, 3],
        ("files",): [{}, None],
        ("files", 0, "path"): [3],
    }.items():
        for value in values:
            wrong("field", *at, value=value)
    wrong("field", *shape, "methods", "vision", value="see")
    cases[-1]["field"] = "see"
    stages = (*shape, "stages")
    for at, values in {
        (*stages, 1, "num_kept"): [4, 0, -1], (*stages, 1, "tokens"): [4], (*stages, 0, "num_kept"): [2, 5],
        (*stages, 0, "tokens"): [3], (*stages, 1, "index"): [1, 0, 4, -1], (*stages, 0, "index"): [-1, 2],
        (*stages, 1, "place"): ["vision", "tower"],
    }.items():  # fmt: skip
        for value in values:
            wrong("stages", *at, value=value)
    wrong("tensors", *stages, 0, "place", value="vision")
    wrong("tensors", "vocab_size", value=3000)
    wrong("tensors", *image, "height", value=84)
    wrong("tensors", "precision", value="float16")
    wrong("tensors", *kv, "dtype", value="float16")
    wrong("tensors", *kv, "layers", 0, "head_dim", value=4)
    wrong("tensors", *kv, "layers", 2, "kv_heads", value=2)
    wrong("tensors", *kv, "layers", 3, "state", value=[3, 2])
    wrong("tensors", *kv, "layers", 2, value={"state": [2, 2]})
    wrong("tensors", "methods", "prefill", "outputs", 0, "shape", value=[4096])
    wrong("tensors", "methods", "prefill", "outputs", 1, "name", value="kept_7")
    wrong("tensors", "methods", "prefill", "outputs", 1, "dtype", value="float32")
    wrong("tensors", "methods", "decode", "inputs", 0, "shape", value=[1, 7])
    wrong("tensors", "methods", "vision", "inputs", 0, "shape", value=[1, 3, 2**20, 2**20])
    for place in (("prompt", "tokenizer_file"), ("methods", "decode", "file"), ("files", 3, "path")):
        for name in ("../tokenizer.json", "/tokenizer.json", "a/../../tokenizer.json", "..", "a\\tokenizer.json", "",
                     "a\0b"):  # fmt: skip
            wrong("name", *place, value=name)
    wrong("unlisted", "methods", "decode", "file", value="other.pte")
    wrong("unlisted", "prompt", "tokenizer_file", value="other.json")
    wrong("size", "files", 0, "size_bytes", value=3)
    wrong("hash", "files", 0, "sha256", value="0" * 64)
    for kind, content in (("missing", None), ("size", "short"), ("hash", "a grapH\n")):
        cases.append({"class": kind, "field": "model.pte", "change": [], "files": {"model.pte": content}})
    return cases
