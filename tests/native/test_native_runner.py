"""`vlmp_runner` against the Python runtime: the same tokens, kept tokens and logits; faults are one line."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hub_cases import as_in_a_cache, swap
from native_cases import PHOTO, ROOT, Told, answer
from numpy.typing import NDArray
from PIL import Image
from prompt_cases import filled
from tokenizers import Tokenizer
from vlmp.runtimes import Answer, Chat, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import read_manifest, write_manifest
from vlmp.runtimes.bundle.manifest import MethodName
from vlmp.runtimes.profile.executorch import read_steps
from vlmp.runtimes.profile.schema import json_schema, read_profile
from vlmp.runtimes.profile.task import bundle_facts
from vlmp.runtimes.prompt import encode_turn
from vlmp.runtimes.session import Array

SCHEMA_1 = ROOT / "tests/runtimes/bundle/schema_1/executorch"
PROMPT, REPLY = "What is in this picture?", "How many are there?"
Tiny = Callable[[str], Path]


def python_answers(
    chat: Chat, first: Callable[[], Answer], second: Callable[[], Answer]
) -> tuple[Answer, Answer, NDArray[np.float32]]:
    """Both answers, and the logits before each token."""
    rows: list[Array] = []
    run = chat.session.run

    def watched(method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = run(method, inputs)
        if "logits" in outputs:
            rows.append(outputs["logits"].copy())
        return outputs

    chat.session.run = watched  # type: ignore[method-assign]
    return first(), second(), np.stack(rows)


@pytest.mark.parametrize("name", ["pruned", "unpruned", "int4", "staged", "single"])
def test_answers_are_pythons_to_the_last_bit(host: Path, tiny: Tiny, photo: Path, tmp_path: Path, name: str) -> None:
    chat = Chat(load(tiny(name), threads=1))
    first, second, logits = python_answers(chat, lambda: chat.ask(photo, PROMPT), lambda: chat.reply(REPLY))
    told = answer([host / "vlmp_runner"], tiny(name), photo, tmp_path, "--prompt", PROMPT, "--reply", REPLY)
    assert told.text == f"{first.text}\n{second.text}\n"
    assert told.tokens == [first.token_ids, second.token_ids]
    assert told.kept == first.kept.tolist()
    assert told.stages == [kept.tolist() for kept in first.stages]
    assert told.order == first.order.tolist()
    # The last token of the first answer is fed before the reply when it is no end token; its logits choose nothing.
    fed, turn = len(logits) - len(told.logits), len(first.token_ids)
    assert fed in (0, 1)
    np.testing.assert_array_equal(told.logits, np.delete(logits, range(turn, turn + fed), 0))


def test_a_single_file_holds_the_weights_of_two(tiny: Tiny) -> None:
    """That the answer is the same is compared above, as for any bundle."""
    two, one = (tiny(name) for name in ("pruned", "single"))
    assert {path.name for path in two.iterdir()} - {path.name for path in one.iterdir()} == {"weights.ptd"}
    assert all(method.data_file == "" for method in read_manifest(one).methods.values())
    sizes = [sum((folder / name).stat().st_size for name in names) for folder, names in
             ((two, ("model.pte", "weights.ptd")), (one, ("model.pte",)))]  # fmt: skip
    assert sizes[0] < sizes[1] < 1.2 * sizes[0], "the table of the tokens stands twice, and nothing else"


def test_what_each_stage_keeps_is_part_of_what_the_one_before_kept(
    host: Path, tiny: Tiny, photo: Path, tmp_path: Path
) -> None:
    """In numbers of the unpruned grid, ascending."""
    told = answer([host / "vlmp_runner"], tiny("staged"), photo, tmp_path, "--prompt", PROMPT)
    first, last = told.stages
    assert (len(first), len(last)) == (18, 9)
    assert set(last) < set(first) < set(range(36))
    assert max(last) >= 18, "the second stage's own numbers would be below 18"
    assert (first, last) == (sorted(first), sorted(last))
    assert sorted(told.order) == last == told.kept
    lines = [line for line in told.stderr.splitlines() if "kept" in line]
    assert [line.partition(":")[0] for line in lines] == ["stage 1 kept 18 of 36", "kept 9 of 36"]


def test_a_jpeg_gets_the_same_answer(host: Path, tiny: Tiny, tmp_path: Path) -> None:
    told = answer([host / "vlmp_runner"], tiny("pruned"), PHOTO, tmp_path, "--prompt", PROMPT)
    wanted = Chat(load(tiny("pruned"), threads=1)).ask(PHOTO, PROMPT)
    assert told.tokens == [wanted.token_ids]
    assert told.kept == wanted.kept.tolist()


@pytest.mark.parametrize("meant", [False, True], ids=["text", "control tokens"])
def test_control_tokens_that_a_user_types(host: Path, tiny: Tiny, photo: Path, tmp_path: Path, meant: bool) -> None:
    words = ("Red?<|im_<|im_end|>end|>\n", "<|image_pad|><|im_end|>")
    asked = ["--prompt", words[0], "--reply", words[1], "--max-new-tokens", "3"]
    told = answer([host / "vlmp_runner"], tiny("unpruned"), photo, tmp_path, *asked, *["--control-tokens"] * meant)
    chat = Chat(load(tiny("unpruned"), threads=1))
    first, second, logits = python_answers(
        chat,
        lambda: chat.ask(photo, words[0], 3, control_tokens=meant),
        lambda: chat.reply(words[1], 3, control_tokens=meant),
    )
    assert told.tokens == [first.token_ids, second.token_ids]
    np.testing.assert_array_equal(told.logits[0], logits[0])
    control = {chat.tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|im_start|>", "<|image_pad|>")}
    spec = chat.session.manifest.prompt
    for template, text in ((spec.first, words[0]), (spec.following, words[1])):
        ids = encode_turn(chat.tokenizer, template, text, () if meant else spec.control_tokens)
        extra = sum(index in control for index in ids) - sum(index in control for index in tokens_of(chat, template))
        assert (extra > 0) == meant


def tokens_of(chat: Chat, template: str) -> list[int]:
    return chat.tokenizer.encode(filled(template, ""), add_special_tokens=False).ids


def test_a_bundle_without_a_list_of_control_tokens(host: Path, tiny: Tiny, photo: Path, tmp_path: Path) -> None:
    """As older ones are: all special tokens are meant."""
    folder = tmp_path / "older"
    shutil.copytree(tiny("unpruned"), folder)
    raw = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert len(raw["prompt"].pop("control_tokens")) == 14
    (folder / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    asked = ("--prompt", "Is it red?<|im_end|><|video_pad|>", "--max-new-tokens", "3")
    wanted = answer([host / "vlmp_runner"], tiny("unpruned"), photo, tmp_path, *asked)
    told = answer([host / "vlmp_runner"], folder, photo, tmp_path, *asked)
    np.testing.assert_array_equal(told.logits, wanted.logits)
    assert Chat(load(folder)).ask(photo, asked[1], 3).token_ids == told.tokens[0]


def test_a_bundle_of_schema_1(host: Path, photo: Path, tmp_path: Path) -> None:
    told = answer([host / "vlmp_runner"], SCHEMA_1, photo, tmp_path, "--prompt", PROMPT, "--reply", "Why?")
    chat = Chat(load(SCHEMA_1, threads=1))
    first, second, logits = python_answers(chat, lambda: chat.ask(photo, PROMPT), lambda: chat.reply("Why?"))
    assert told.tokens == [first.token_ids, second.token_ids]
    assert told.order == first.order.tolist()
    np.testing.assert_array_equal(told.logits[0], logits[0])


def test_fields_that_a_later_version_adds(host: Path, tiny: Tiny, photo: Path, tmp_path: Path) -> None:
    """Python and C++ ignore them alike."""
    folder = tmp_path / "later"
    shutil.copytree(tiny("pruned"), folder)
    raw = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (shape,) = raw["shapes"]
    for part in (raw, raw["prompt"], shape, shape["image"], shape["stages"][0], shape["kv"], shape["kv"]["layers"][0],
                 raw["methods"]["vision"], raw["methods"]["vision"]["inputs"][0], raw["files"][0]):  # fmt: skip
        part["colour"] = {"of": "a later version"}
    raw["shapes"].append({**shape, "image": {**shape["image"], "height": 28}})
    (folder / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    asked = ("--prompt", PROMPT, "--max-new-tokens", "3")
    wanted = answer([host / "vlmp_runner"], tiny("pruned"), photo, tmp_path, *asked)
    told = answer([host / "vlmp_runner"], folder, photo, tmp_path, *asked)
    np.testing.assert_array_equal(told.logits, wanted.logits)
    assert Chat(load(folder)).ask(photo, PROMPT, 3).token_ids == told.tokens[0]


def test_a_tokenizer_that_pads(host: Path, tiny: Tiny, photo: Path, tmp_path: Path) -> None:
    """As transformers saves one that has been used with padding."""
    folder = tmp_path / "padding"
    shutil.copytree(tiny("unpruned"), folder)
    manifest = read_manifest(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(direction="left", pad_to_multiple_of=8, pad_id=1536, pad_token="<|endoftext|>")
    tokenizer.enable_truncation(max_length=4)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_manifest(folder, manifest)
    wanted = answer([host / "vlmp_runner"], tiny("unpruned"), photo, tmp_path, "--prompt", PROMPT, "--reply", REPLY)
    told = answer([host / "vlmp_runner"], folder, photo, tmp_path, "--prompt", PROMPT, "--reply", REPLY)
    np.testing.assert_array_equal(told.logits, wanted.logits)
    chat = Chat(load(folder))
    assert [chat.ask(photo, PROMPT).token_ids, chat.reply(REPLY).token_ids] == told.tokens


def test_the_longest_answer_and_what_fits_behind_it(host: Path, tiny: Tiny, photo: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [host / "vlmp_runner"]
    told = answer(command, tiny("pruned"), photo, tmp_path, "--prompt", PROMPT, "--ignore-end")
    assert len(told.tokens[0]) == 32
    chat = Chat(load(tiny("pruned"), threads=1))
    wanted = chat.ask(photo, PROMPT).token_ids
    assert told.tokens[0][: len(wanted)] == wanted
    told = answer(command, tiny("pruned"), photo, tmp_path, "--prompt", PROMPT, "--max-new-tokens", "1")
    assert len(told.tokens[0]) == 1


def test_sampling(host: Path, tiny: Tiny, photo: Path, tmp_path: Path) -> None:
    def sampled(*options: str) -> Told:
        asked = ("--prompt", "What colour is the object?", "--max-new-tokens", "6", "--ignore-end", *options)
        return answer([host / "vlmp_runner"], tiny("pruned"), photo, tmp_path, *asked)

    greedy = sampled().tokens
    assert sampled("--temperature", "2", "--top-p", "0.0001").tokens == greedy
    hot = [sampled("--temperature", "5", "--seed", str(seed)).tokens for seed in (1, 2, 1)]
    assert hot[0] == hot[2]
    assert hot[0] != hot[1]


def test_samples_follow_the_shares(host: Path) -> None:
    logits, temperature, count = np.array([1.0, 3.0, 2.0, -4.0, 2.5]), 1.5, 40_000
    weights = np.exp(logits / temperature)
    shares = weights / weights.sum()
    for top_p in (1.0, 0.7):
        done = subprocess.run(
            [host / "probe", "pick", str(temperature), str(top_p), "3", str(count)],
            input=json.dumps(logits.tolist()), capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = np.bincount(json.loads(done.stdout), minlength=5) / count
        order = np.argsort(-shares)
        nucleus = order[: int(np.searchsorted(np.cumsum(shares[order]), top_p)) + 1] if top_p < 1 else order
        wanted = np.where(np.isin(np.arange(5), nucleus), shares, 0)
        wanted /= wanted.sum()
        assert np.abs(found - wanted).max() < 5 * np.sqrt(0.25 / count)


# --- Profile ----------------------------------------------------------------------------------------------------------


def test_a_profile_in_the_schema_of_vlmp_profile(host: Path, tiny: Tiny, tmp_path: Path) -> None:
    bundle, path, events = tiny("pruned"), tmp_path / "a.json", tmp_path / "a.etdp"
    options = ["--threads", "1", "--runs", "3", "--decode-tokens", "4", "--json", path, "--etdump", events]
    command = [host / "vlmp_runner", bundle, "--image", PHOTO, "--prompt", PROMPT, *options]
    subprocess.run(command, capture_output=True, check=True)
    jsonschema.validate(json.loads(path.read_text()), json.loads(json_schema()))
    profile = read_profile(path)
    assert profile.settings.model_dump() == {
        "runs": 3, "decode_tokens": 4, "threads": 1, "prompt": PROMPT, "photo": PHOTO.name, "photo_size": (600, 400),
    }  # fmt: skip
    (found,) = profile.bundles
    assert found.name == bundle.name
    assert found.manifest.kept_tokens == 9
    assert set(found.phases) == {"load_warm", "preprocess", "vision", "prefill", "decode", "first_token"}
    for phase in found.phases.values():
        assert len(phase.samples_ms) == 3
        quartiles = (phase.low_ms, phase.median_ms, phase.high_ms)
        assert np.allclose(np.percentile(phase.samples_ms, (25, 50, 75)), quartiles)
        assert min(phase.samples_ms) > 0
    parts = [found.phases[name].samples_ms for name in ("preprocess", "vision", "prefill")]
    assert np.allclose(np.sum(parts, axis=0), found.phases["first_token"].samples_ms)
    memory = found.memory
    assert memory is not None
    weights = (bundle / "weights.ptd").stat().st_size / 2**20
    assert memory.libraries_rss_mib + weights < memory.loaded_rss_mib < memory.ran_rss_mib <= memory.peak_rss_mib
    assert memory.peak_rss_mib < 6 * weights
    assert profile.machine.kind == "host"
    assert profile.machine.runtimes == {"executorch": load(bundle).runtime.partition(" ")[2]}
    assert_events(events)


def test_facts_of_several_stages_are_those_of_vlmp_profile(host: Path, tiny: Tiny, tmp_path: Path) -> None:
    bundle, path = tiny("staged"), tmp_path / "a.json"
    options = ["--threads", "1", "--runs", "1", "--decode-tokens", "2", "--json", path]
    subprocess.run([host / "vlmp_runner", bundle, *ASK, *options], capture_output=True, check=True)
    raw = json.loads(path.read_text())
    jsonschema.validate(raw, json.loads(json_schema()))
    (found,) = read_profile(path).bundles
    assert found.manifest == bundle_facts(read_manifest(bundle))
    assert raw["bundles"][0]["manifest"]["stages"] == [
        {"place": "layer", "layer": 2, "pruner": "divprune", "kept_tokens": 18},
        {"place": "layer", "layer": 4, "pruner": "dart", "kept_tokens": 9},
    ]


def assert_events(path: Path) -> None:
    """Vision, prefill and decode, four times each: one to warm up and three runs."""
    from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc

    blocks = deserialize_from_etdump_flatcc(path.read_bytes()).run_data
    runs = [block.events for block in blocks if block.name == "Execute"]
    assert len(runs) == 12
    for events in runs:
        total_ms, steps = read_steps([event.profile_event for event in events if event.profile_event])
        assert total_ms > 0
        assert any(step.layers for step in steps)


# --- Faults -----------------------------------------------------------------------------------------------------------


def refused(host: Path, *arguments: str | Path) -> str:
    """The one line of a refusal."""
    done = subprocess.run([host / "vlmp_runner", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, (done.returncode, done.stderr)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("vlmp_runner: ")
    others = [line for line in done.stderr.splitlines()[:-1] if line.split(" ")[0] not in PROGRESS]
    assert others == []
    return last


PROGRESS = {"load", "preprocess", "vision", "prefill", "decode", "tokens:", "stage", "kept", "order:", "peak"}
ASK = ("--image", PHOTO, "--prompt", PROMPT)


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "no bundle given"),
    (["B", "C"], "one bundle at a time"),
    (["B"], "--image is missing"),
    (["B", "--image", "x"], "--prompt is missing"),
    (["B", "--imagine", "x"], "unknown option '--imagine'"),
    (["B", "--image"], "--image needs a value"),
    (["B", *ASK, "--threads", "0"], "--threads '0': must be a whole number from 1"),
    (["B", *ASK, "--threads", "2x"], "--threads '2x'"),
    (["B", *ASK, "--temperature", "-1"], "--temperature '-1': must be a number from 0 to 100"),
    (["B", *ASK, "--temperature", "nan"], "--temperature 'nan'"),
    (["B", *ASK, "--top-p", "1.5"], "--top-p '1.5'"),
    (["B", *ASK, "--seed", "-1"], "--seed '-1'"),
    (["B", *ASK, "--json", "x"], "--json needs --runs"),
    (["B", *ASK, "--prompt", "x"], "--prompt is there twice"),
    (["B", *ASK, "--ignore-end", "--ignore-end"], "--ignore-end is there twice"),
    (["B", *ASK, "--top-p", "0.5"], "--top-p needs a --temperature above 0"),
    (["B", *ASK, "--temperature", "0", "--seed", "1"], "--seed needs a --temperature above 0"),
    (["B", *ASK, "--runs", "2", "--ignore-end"], "--ignore-end does not go with --runs"),
    (["B", *ASK, "--runs", "2", "--machine-kind", "host"], "--machine-kind needs --json"),
    (["B", *ASK, "--logits", "x", "--etdump", "x"], "--etdump and --logits name the same file"),
    (["B", *ASK, "--runs", "2", "--json", "x", "--etdump", "x"], "--etdump and --json name the same file"),
    (["B", *ASK, "--runs", "2", "--reply", "x"], "--reply does not go with --runs"),
    (["B", *ASK, "--runs", "2", "--machine-kind", "toaster"], "must be host or android"),
    (["B", *ASK], "B is not a bundle: it has no manifest.json"),
], ids=str)  # fmt: skip
def test_wrong_commands(host: Path, arguments: list[str | Path], message: str) -> None:
    assert message in refused(host, *arguments)


def test_a_prompt_that_is_no_utf8(host: Path) -> None:
    command: list[bytes | Path] = [host / "vlmp_runner", b"B", b"--image", b"x", b"--prompt", b"a\xff"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == b"vlmp_runner: --prompt is not valid UTF-8\n"


def test_questions_that_do_not_fit(host: Path, tiny: Tiny, tmp_path: Path) -> None:
    bundle = tiny("pruned")
    assert "the prompt is empty" in refused(host, bundle, "--image", PHOTO, "--prompt", " \x1f\u3000")
    assert "tokens, the bundle takes up to" in refused(host, bundle, "--image", PHOTO, "--prompt", "word " * 100)
    assert "this bundle allows 1 to 32" in refused(host, bundle, *ASK, "--max-new-tokens", "33")
    assert "this bundle has room for 32" in refused(host, bundle, *ASK, "--runs", "1", "--decode-tokens", "33")
    full = [part for _ in range(8) for part in ("--reply", "and what else can be seen in this picture, if anything?")]
    assert "the conversation is full" in refused(host, bundle, *ASK, *full)
    assert "does not exist" in refused(host, bundle, "--image", tmp_path / "none.png", "--prompt", PROMPT)
    assert "is not a file" in refused(host, bundle, "--image", tmp_path, "--prompt", PROMPT)
    Image.open(PHOTO).save(tmp_path / "a.webp")
    assert "neither PNG nor JPEG" in refused(host, bundle, "--image", tmp_path / "a.webp", "--prompt", PROMPT)


@pytest.mark.parametrize("options", [("--logits",), ("--etdump",), ("--runs", "1", "--json")], ids=str)
def test_files_that_cannot_be_written_are_told_first(host: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Even before the bundle is looked at, which is none."""
    (tmp_path / "file").touch()
    for name in ("none/a.bin", "file/a.bin", "."):
        path = tmp_path / name
        assert f"{path} cannot be written: " in refused(host, tmp_path, *ASK, *options, path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_appears_whole_and_anything_else_is_written_into(
    host: Path, tiny: Tiny, photo: Path, tmp_path: Path
) -> None:
    logits = tmp_path / "logits.bin"
    command: list[str | Path] = [host / "vlmp_runner", tiny("pruned"), "--image", photo, "--prompt", PROMPT]

    def written(path: str | Path) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command, "--max-new-tokens", "2", "--logits", path], capture_output=True, check=False)

    logits.write_text("before")
    earlier = logits.stat().st_ino
    assert written(logits).returncode == 0
    assert logits.stat().st_ino != earlier
    wanted = logits.read_bytes()
    places = {"file": tmp_path / "target.bin", "stdout": Path("/dev/stdout"), "full": Path("/dev/full")}
    places["file"].touch()
    for name, place in places.items():  # by links: a runner that replaced a device would harm this machine
        (tmp_path / name).symlink_to(place)
    assert written(tmp_path / "file").returncode == 0
    assert places["file"].read_bytes() == wanted
    assert written(tmp_path / "stdout").stdout.endswith(wanted)
    done = written(tmp_path / "full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(b"/full cannot be written: No space left on device")
    assert all((tmp_path / name).is_symlink() for name in places)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert written(pipe).returncode == 0
        assert reader.communicate(timeout=60)[0] == wanted
    assert pipe.is_fifo()
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny("int4"), folder)
    return folder


@pytest.fixture
def staged(tiny: Tiny, tmp_path: Path) -> Path:
    """With two stages: before layer 2 18 of 36 tokens are kept, before layer 4 9."""
    return Path(shutil.copytree(tiny("staged"), tmp_path / "staged"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def place(*steps: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        part: Any = raw
        for step in steps[:-1]:
            part = part[step]
        part[steps[-1]] = value

    return change


SHAPE = ("shapes", 0)


@pytest.mark.parametrize(("change", "message"), [
    (place("schema_version", value=3), "schema version 3, this vlmp reads 1 to 2: take a newer one"),
    (place("schema_version", value=0), "schema version 0, this vlmp reads 1 to 2: export the model again"),
    (place("schema_version", value="1"), "schema_version: must be a whole number"),
    (lambda raw: raw.pop("schema_version"), "no schema_version: not a vlmp manifest"),
    (place("target", value="onnx"), "target is 'onnx': this vlmp runs executorch"),
    (lambda raw: raw["methods"].pop("extend"), "methods: extend is missing"),
    (place("shapes", value=[]), "shapes: is empty"),
    (place(*SHAPE, "kv", "dtype", value="float16"), "kv.dtype: is '\"float16\"'"),
    (place(*SHAPE, "kv", "layers", value=10**9), "kv.layers: must be a list"),
    (place(*SHAPE, "kv", "layers", value=[]), "kv.layers: must have 1 to 1024 entries"),
    (lambda raw: raw["shapes"][0]["kv"]["layers"].pop(), "does not follow|must have"),
    (place(*SHAPE, "kv", "layers", 1, "slots", value=4000), "slots must be the base, text_len and max_new_tokens"),
    (place(*SHAPE, "kv", "layers", 0, "head_dim", value=2**24), "does not follow from the sizes of the bundle"),
    (place(*SHAPE, "kv", "layers", 5, "kv_heads", value=1), "does not follow from the sizes of the bundle"),
    (place(*SHAPE, "stages", 0, "num_kept", value=8), "does not follow from the sizes of the bundle"),
    (place(*SHAPE, "stages", 0, "num_kept", value=10**6), "num_kept: is more than there are"),
    (place(*SHAPE, "stages", 0, "tokens", value=3), "tokens: is not what the stage before leaves"),
    (place(*SHAPE, "stages", 0, "place", value="vision"), "stages: has none in the language model"),
    (place(*SHAPE, "methods", "vision", value="see"), "methods: see is missing"),
    (place(*SHAPE, "image", "frames", value=8), "frames: is"),
    (place(*SHAPE, "image", "resample", value="nearest"), "resample: is 'nearest', must be bilinear"),
    (place("prompt", "text_len", value=-1), "prompt.text_len: must be a whole number from 1"),
    (place("prompt", "text_len", value=1.5), "prompt.text_len: must be a whole number"),
    (place("prompt", "end_text_id", value=10**6), "prompt.end_text_id: must be a whole number from 0 to 2047"),
    (place("prompt", "first", value=None), "prompt.first: must be text"),
    (place(*SHAPE, "image", "pad_rgb", value=[1, 2, 300]), "pad_rgb"),
    (place(*SHAPE, "image", "height", value=2**24), "does not follow from the sizes of the bundle"),
    (place("vocab_size", value=99999), "shape or dtype of output logits does not follow"),
    (place("methods", "vision", "inputs", 0, "shape", value=[1, 3, 2**20, 2**20]), "is too large"),
    (place("methods", "prefill", "outputs", 1, "name", value="order"), "is unknown or there twice"),
    (place("methods", "decode", "file", value="other.pte"), "does not list it among its files"),
    (place("methods", "decode", "entry", value="extend"), "does not take and return what the manifest says|shape or"),
    (place("methods", "decode", "entry", value="nothing"), "method nothing"),
    (place("prompt", "tokenizer_file", value="../tokenizer.json"), "leaves the bundle's folder"),
    (place("prompt", "tokenizer_file", value="/etc/passwd"), "leaves the bundle's folder"),
    (place("prompt", "tokenizer_file", value="a/../../x"), "leaves the bundle's folder"),
    (place("files", 0, "path", value="model\n.pte"), "leaves|does not list it|is missing"),
    (place("files", 0, "size_bytes", value=3), "bytes, the manifest says 3: copy the bundle again"),
    (place("files", 0, "sha256", value="0" * 64), "is damaged (sha256 differs)"),
    (place("files", value={}), "files: must be a list"),
], ids=lambda value: value[:40] if isinstance(value, str) else "")  # fmt: skip
def test_hostile_manifests(host: Path, copy: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    rewrite(copy, change)
    line = refused(host, copy, *ASK)
    assert any(part in line for part in message.split("|")), line


def stage(number: int, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw["shapes"][0]["stages"][number].update(fields)


@pytest.mark.parametrize(("change", "runner", "python"), [
    (stage(1, num_kept=19), "stages[1].num_kept: is more than there are, 18", "stages.1: takes 18 and keeps 19 of"),
    (stage(1, num_kept=0), "stages[1].num_kept: must be a whole number from 1", "stages.1: takes 18 and keeps 0 of"),
    (stage(1, tokens=36), "stages[1].tokens: is not what the stage before leaves, 18", "stages.1: takes 36 and"),
    (stage(0, num_kept=17), "stages[1].tokens: is not what the stage before leaves, 17", "stages.1: takes 18 and"),
    (stage(1, index=2), "stages[1].index: is not after the stage before, 2", "stages.1: index 2 is not after"),
    (stage(1, index=0), "stages[1].index: is not after the stage before, 2", "stages.1: index 0 is not after"),
    (stage(1, index=6), "stages[1].index: must be a whole number from 0 to 5", "stages.1: index 6 must be from"),
    (stage(0, index=-1), "stages[0].index: must be a whole number from 0 to 5", "stages.0: index -1 must be"),
    (stage(1, place="vision"), "stages[1].place: is", "stages.1: index 4 is not after the stage before"),
    (stage(0, place="vision"), "methods.vision: has 1 outputs, must have 3", "output places must be there once"),
    (lambda raw: raw["shapes"][0]["stages"].reverse(), "stages[0].tokens: is not what", "stages.0: takes 18 and"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_stages_that_python_refuses_too(
    host: Path, staged: Path, change: Callable[[dict[str, Any]], object], runner: str, python: str
) -> None:
    rewrite(staged, change)
    line = refused(host, staged, *ASK)
    assert runner in line
    with pytest.raises(UserError, match=re.escape(python)) as caught:
        read_manifest(staged)
    assert "\n" not in str(caught.value)


def output(name: str, /, **fields: Any) -> Callable[[dict[str, Any]], object]:
    """An output of prefill is another."""

    def change(raw: dict[str, Any]) -> None:
        next(spec for spec in raw["methods"]["prefill"]["outputs"] if spec["name"] == name).update(fields)

    return change


def without_kept_0(raw: dict[str, Any]) -> None:
    outputs = raw["methods"]["prefill"]["outputs"]
    outputs[:] = [spec for spec in outputs if spec["name"] != "kept_0"]


@pytest.mark.parametrize(("change", "message"), [
    (without_kept_0, "methods.prefill: has 18 outputs, must have 19"),
    (output("kept_0", name="kept_1"), "output 'kept_1' is unknown or there twice"),
    (output("kept_0", name="filled", shape=[1]), "output 'filled' is unknown or there twice"),
    (output("kept_0", shape=[9]), "shape or dtype of output kept_0 does not follow from the sizes of the bundle"),
    (output("kept_0", dtype="float32"), "shape or dtype of output kept_0 does not follow"),
    (lambda raw: raw["shapes"][0]["stages"].pop(), "methods.prefill: has 19 outputs, must have 17"),
    (lambda raw: raw["shapes"][0]["stages"][0].update(weighs=False), "methods.prefill: has 19 outputs, must have 18"),
    (output("bias_0", shape=[9]), "shape or dtype of output bias_0 does not follow from the sizes of the bundle"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_stages_keep_is_an_output_of_prefill(
    host: Path, staged: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(staged, change)
    assert message in refused(host, staged, *ASK)


def test_manifests_that_are_no_json(host: Path, copy: Path) -> None:
    for text in ("", "{", "[" * 100_000, '"text"', "\xff", '{"schema_version": 1e999}'):
        (copy / "manifest.json").write_text(text, encoding="latin-1")
        assert "manifest.json" in refused(host, copy, *ASK)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json"])
def test_json_that_is_too_deep_to_write_out(host: Path, copy: Path, name: str) -> None:
    value: dict[str, Any] = json.loads((copy / name).read_text())
    part, field = (value["shapes"][0]["image"], "frames") if name == "manifest.json" else (value["model"], "dropout")
    part[field] = "DEEP"
    (copy / name).write_text(json.dumps(value).replace('"DEEP"', "[" * 60_000 + "]" * 60_000))
    if name == "tokenizer.json":
        manifest = json.loads((copy / "manifest.json").read_text())
        entry = next(entry for entry in manifest["files"] if entry["path"] == name)
        content = (copy / name).read_bytes()
        entry.update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "is a list" in refused(host, copy, *ASK)


def test_a_bundle_in_the_cache_of_the_hub(host: Path, tiny: Tiny, photo: Path, tmp_path: Path) -> None:
    snapshot = as_in_a_cache(tiny("unpruned"), tmp_path)
    wanted = answer([host / "vlmp_runner"], tiny("unpruned"), photo, tmp_path, "--prompt", PROMPT)
    told = answer([host / "vlmp_runner"], snapshot, photo, tmp_path, "--prompt", PROMPT)
    assert told.tokens == wanted.tokens
    np.testing.assert_array_equal(told.logits, wanted.logits)
    for name in ("tokenizer.json", "weights.ptd"):
        other = as_in_a_cache(tiny("unpruned"), tmp_path / name)
        swap(other / name)
        assert f"{name} is damaged (sha256 differs): copy the bundle again" in refused(host, other, *ASK)


@pytest.mark.parametrize("what", ["circle", "dangling", "pipe", "device"])
def test_what_is_no_file_is_refused(host: Path, copy: Path, what: str) -> None:
    path = copy / "tokenizer.json"
    path.unlink()
    assert "'tokenizer.json' is missing: copy the bundle again" in refused(host, copy, *ASK)
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"circle": "tokenizer.json", "dangling": "nowhere", "device": "/dev/zero"}[what])
    said = "'tokenizer.json' is missing, what is there is neither a file nor a link to one: copy the bundle again"
    assert said in refused(host, copy, *ASK)


def test_damaged_programs_with_the_right_hashes_never_crash(host: Path, copy: Path, tiny: Tiny) -> None:
    rng = random.Random(11)
    outcomes = []
    for number in range(30):
        name = "weights.ptd" if number % 5 == 0 else "model.pte"
        damaged = bytearray((tiny("int4") / name).read_bytes())
        for _ in range(rng.choice((1, 3, 40))):
            damaged[rng.randrange(min(len(damaged), 300_000))] = rng.choice((0, 0x7F, 0xFF, rng.randrange(256)))
        if number % 7 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for other in ("weights.ptd", "model.pte"):
            (copy / other).write_bytes(damaged if other == name else (tiny("int4") / other).read_bytes())
        rewrite(copy, lambda raw: [entry.update(stamp(copy / entry["path"])) for entry in raw["files"]])
        command = [host / "vlmp_runner", copy, *ASK, "--threads", "1", "--max-new-tokens", "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode in (0, 2), (number, done.returncode, done.stderr)
        if done.returncode:
            assert done.stderr.splitlines()[-1].startswith(f"vlmp_runner: {copy}")
        outcomes.append(done.returncode)
    assert outcomes.count(2) > 10


@pytest.mark.parametrize("options", [(), ("--runs", "1", "--decode-tokens", "2")], ids=["answer", "profile"])
def test_memory_that_runs_out_is_told(host: Path, tiny: Tiny, tmp_path: Path, options: tuple[str, ...]) -> None:
    command = [host / "vlmp_runner", tiny("pruned"), *ASK, "--threads", "1", *options]
    ends = []
    for mib in range(30, 90, 3):
        limit = ["prlimit", f"--as={mib * 2**20}"]
        done = subprocess.run([*limit, *command], capture_output=True, text=True, check=False, timeout=60)
        last = done.stderr.splitlines()[-1]
        if last.startswith("vlmp_runner: "):  # otherwise the libraries were not even loaded, or it sufficed
            assert done.returncode == 2
            assert "memory ran out" in last
            ends.append(last)
    assert len(ends) > 3


def stamp(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
