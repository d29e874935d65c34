"""Checkpoints as people have them: what transformers makes of each is right, and what it does not serve is refused.

Copies of vlmp-tiny, changed, asked about one held-out scene. The same question to transformers gives the right answer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL.Image import Image
from reference import Original
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, Qwen2VLProcessor
from transformers.utils import logging as transformers_logging
from vlmp.evaluation.scenes import sample
from vlmp.export.config import ExportConfig
from vlmp.export.eager import open_eager
from vlmp.export.models.spec import PromptSpec
from vlmp.export.pipeline import export
from vlmp.export.plan import open_source
from vlmp.export.prompt import read_prompt
from vlmp.runtimes import Chat
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.session import load

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
PROMPT = PromptSpec(image_token="<|image_pad|>")
QUESTION = "What is in this picture?"
RIGHT = "9"
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def scene() -> Image:
    """That of the demo."""
    return next(scene.image for _, scene, asked in sample("test", 7, 600) if len(asked) >= 5)


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return load_file(TINY / "model.safetensors")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of vlmp-tiny that a test may change."""
    shutil.copytree(TINY, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    yield
    transformers_logging.set_verbosity(before)


def write(folder: Path, tensors: Tensors, file: str = "model.safetensors") -> None:
    # Tensors of one storage cannot be saved.
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / file, metadata={"format": "pt"})


def change(folder: Path, file: str, **values: Any) -> None:
    """Set fields of a JSON file, which may be new; None removes one."""
    path = folder / file
    settings = json.loads(path.read_text()) if path.is_file() else {}
    settings |= values
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))


def config_of(folder: Path, **settings: Any) -> ExportConfig:
    values: dict[str, Any] = {"pruner": "none", "text_len": 48, "max_new_tokens": 24} | settings
    return ExportConfig(model="vlmp-tiny", targets=(), output=Path("unused"), checkpoint=folder, **values)


def ours(folder: Path, scene: Image) -> tuple[str, list[int], Chat]:
    chat = open_eager(config_of(folder))
    answer = chat.ask(scene, QUESTION, 16)
    return answer.text, answer.token_ids, chat


def theirs(folder: Path, scene: Image) -> tuple[str, list[int]]:
    original = Original.open(folder)
    ids, _ = original.generate(original.inputs(scene, QUESTION), 16)
    return original.processor.tokenizer.decode(ids, skip_special_tokens=True), ids


def assert_same_answer(folder: Path, scene: Image, right: str = RIGHT) -> Chat:
    text, ids, chat = ours(folder, scene)
    assert (text, ids) == theirs(folder, scene)
    assert text == right
    return chat


def refusal(folder: Path, **settings: Any) -> str:
    """What is said of a checkpoint that is not served, one line that names its folder."""
    with pytest.raises(UserError) as refused:
        open_eager(config_of(folder, **settings))
    line = str(refused.value)
    assert "\n" not in line
    assert str(folder) in line
    return line


# --- Head and embedding -----------------------------------------------------------------------------------------------


def turned(tensors: Tensors) -> Tensor:
    """A head in which each digit has the row of the one after it."""
    head = tensors[EMBED].clone()
    digits = AutoTokenizer.from_pretrained(TINY).convert_tokens_to_ids([str(digit) for digit in range(10)])
    head[digits] = head[[*digits[1:], digits[0]]]
    return head


def test_a_head_that_differs_from_the_embedding_is_its_own(checkpoint: Path, tensors: Tensors, scene: Image) -> None:
    write(checkpoint, {**tensors, HEAD: turned(tensors)})
    chat = assert_same_answer(checkpoint, scene, right="8")
    assert chat.session.manifest.notes == [
        "config.json ties the head to the embedding, but lm_head.weight differs from it: it is exported as it is"
    ]


def test_a_head_of_its_own_reaches_the_bundle(checkpoint: Path, tensors: Tensors, scene: Image, tmp_path: Path) -> None:
    write(checkpoint, {**tensors, HEAD: turned(tensors)})
    export(replace(config_of(checkpoint), targets=("onnx",), output=tmp_path / "bundle"))
    assert Chat(load(tmp_path / "bundle")).ask(scene, QUESTION).text == "8"
    assert "lm_head.weight differs" in read_manifest(tmp_path / "bundle").notes[0]


def test_a_head_equal_to_the_embedding_is_tied(checkpoint: Path, tensors: Tensors, scene: Image) -> None:
    write(checkpoint, {**tensors, HEAD: tensors[EMBED].float()})
    chat = assert_same_answer(checkpoint, scene)
    decoder = chat.session.methods["prefill"].decoder  # type: ignore[attr-defined]
    assert decoder.head.weight is decoder.embed.weight
    assert chat.session.manifest.notes == []


def test_a_head_without_an_embedding_is_both(checkpoint: Path, tensors: Tensors, scene: Image) -> None:
    write(checkpoint, {name: tensor for name, tensor in tensors.items() if name != EMBED} | {HEAD: tensors[EMBED]})
    assert_same_answer(checkpoint, scene)


@pytest.mark.parametrize(
    ("top", "text", "tied"),
    [
        (True, None, True), (None, True, True), (False, True, True), (True, False, True), (True, True, True),
        (False, None, False), (None, False, False), (None, None, False), (False, False, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("own", [False, True], ids=["no head", "own head"])
def test_every_nesting_of_the_tie(
    checkpoint: Path, tensors: Tensors, scene: Image, top: bool | None, text: bool | None, tied: bool, own: bool
) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    inner = config["text_config"] | ({} if text is None else {"tie_word_embeddings": text})
    change(checkpoint, "config.json", tie_word_embeddings=top, text_config=inner)
    if own:
        write(checkpoint, {**tensors, HEAD: turned(tensors)})
        assert_same_answer(checkpoint, scene, right="8")
    elif tied:
        assert_same_answer(checkpoint, scene)
    else:  # transformers draws a random one
        assert "the checkpoint has no tensor lm_head.weight" in refusal(checkpoint)


# --- Tensors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["model.language_model.", "language_model."])
def test_two_copies_of_a_tensor(checkpoint: Path, tensors: Tensors, scene: Image, other: str) -> None:
    twin = DOWN.replace("model.", other, 1)
    write(checkpoint, {**tensors, twin: tensors[DOWN]})
    assert_same_answer(checkpoint, scene)
    write(checkpoint, {**tensors, twin: tensors[DOWN] * 2})
    line = refusal(checkpoint)
    assert DOWN in line
    assert twin in line
    assert "the same tensor of the model with different values" in line


def test_two_copies_of_a_tensor_in_two_files(checkpoint: Path, tensors: Tensors) -> None:
    (checkpoint / "model.safetensors").unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write(checkpoint, tensors, names[0])
    write(checkpoint, {DOWN: tensors[DOWN] * 2}, names[1])
    (checkpoint / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {**dict.fromkeys(tensors, names[0]), "x": names[1]}})
    )
    line = refusal(checkpoint)
    assert all(name in line for name in (*names, DOWN))


def test_shards_in_a_subfolder_of_the_index(checkpoint: Path, tensors: Tensors, scene: Image) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "weights").mkdir()
    weight_map = {}
    for shard in range(2):
        part = dict(list(tensors.items())[shard::2])
        write(checkpoint, part, f"weights/{shard}.safetensors")
        weight_map.update(dict.fromkeys(part, f"weights/{shard}.safetensors"))
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert_same_answer(checkpoint, scene)
    (checkpoint / "weights/1.safetensors").unlink()
    assert "weights/1.safetensors is listed in model.safetensors.index.json but missing" in refusal(checkpoint)


def test_tensors_that_are_not_used_are_told(checkpoint: Path, tensors: Tensors, scene: Image) -> None:
    write(checkpoint, {**tensors, "model.lm_head.weight": turned(tensors), "score.bias": torch.zeros(2)})
    chat = assert_same_answer(checkpoint, scene)  # transformers calls both unexpected
    assert chat.session.manifest.notes == ["2 tensors of the checkpoint are not used, as model.lm_head.weight"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", [DOWN, "visual.patch_embed.proj.weight", EMBED])
def test_a_tensor_that_is_not_finite_is_named(checkpoint: Path, tensors: Tensors, name: str, value: float) -> None:
    broken = tensors[name].clone()
    broken.view(-1)[7] = value
    write(checkpoint, {**tensors, name: broken})
    for settings in ({}, {"pruner": "vlm-pruner"}):
        assert f"{name} holds values that are not finite" in refusal(checkpoint, **settings)


def test_a_tensor_too_large_for_float16_is_named_before_it_is_lowered(
    checkpoint: Path, tensors: Tensors, tmp_path: Path, scene: Image
) -> None:
    large = tensors[DOWN].float()
    large[3, 3] = 1e5
    write(checkpoint, {**tensors, DOWN: large})
    config = replace(config_of(checkpoint), targets=("coreml",), output=tmp_path / "bundle", image_size=(112, 112))
    lines: list[str] = []
    with pytest.raises(UserError, match=f"{DOWN} holds 1e.05, too large for float16: choose --precision float32"):
        export(config, lines.append)
    assert lines == ["checkpoint", "coreml: weights"]
    assert not (tmp_path / "bundle").exists()
    ours(checkpoint, scene)  # float32 holds it


@pytest.mark.parametrize(
    ("name", "stage"),
    [("visual.merger.mlp.2.weight", "vision"), ("model.layers.5.mlp.down_proj.weight", "prefill")],
)
def test_a_stage_that_overflows_in_float16_is_named(
    checkpoint: Path, tensors: Tensors, tmp_path: Path, name: str, stage: str
) -> None:
    write(checkpoint, {**tensors, name: tensors[name].float() * (6e4 / tensors[name].float().abs().max())})
    config = replace(config_of(checkpoint), targets=("coreml",), output=tmp_path / "bundle", image_size=(112, 112))
    with pytest.raises(UserError, match=f"^{stage} of the checkpoint overflows in float16: choose --precision float32"):
        export(config)
    assert list(tmp_path.iterdir()) == [checkpoint]


# --- Adapters and quantized checkpoints -------------------------------------------------------------------------------

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct", "r": 8}
WAY_OUT = "merge it into its model first (peft: merge_and_unload, then save_pretrained)"


@pytest.mark.parametrize("weights", [True, False], ids=["beside weights", "alone"])
@pytest.mark.parametrize("config", [True, False], ids=["config.json", "no config.json"])
def test_an_adapter_is_refused_by_name(checkpoint: Path, tensors: Tensors, weights: bool, config: bool) -> None:
    change(checkpoint, "adapter_config.json", **ADAPTER)
    write(checkpoint, {"base_model.model.x.lora_A.weight": torch.zeros(2, 2)}, "adapter_model.safetensors")
    if not weights:
        (checkpoint / "model.safetensors").unlink()
    if not config:
        (checkpoint / "config.json").unlink()
    line = refusal(checkpoint)
    assert "holds an adapter of Qwen/Qwen2-VL-2B-Instruct (adapter_config.json)" in line
    assert WAY_OUT in line


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_without_its_config_is_refused(checkpoint: Path, file: str) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / file)
    line = refusal(checkpoint)
    assert f"holds an adapter ({file})" in line
    assert WAY_OUT in line


def test_weights_of_an_adapter_without_its_config_are_told(checkpoint: Path, tensors: Tensors, scene: Image) -> None:
    write(checkpoint, {"x": torch.zeros(1)}, "adapter_model.safetensors")
    chat = assert_same_answer(checkpoint, scene)  # transformers does not read them either
    (note,) = chat.session.manifest.notes
    assert note.startswith("adapter_model.safetensors beside the weights is not read")


def test_an_adapter_inside_the_weights_is_refused(checkpoint: Path, tensors: Tensors) -> None:
    name = DOWN.replace(".weight", ".lora_A.default.weight")
    write(checkpoint, {**tensors, name: torch.zeros(8, 768)})
    assert f"{name} belongs to an adapter" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({"bits": 3}, "unknown method"),
    ],
)
@pytest.mark.parametrize("where", ["top", "text_config", "vision_config"])
def test_quantized_checkpoints_are_refused_by_method(
    checkpoint: Path, settings: dict[str, Any], method: str, where: str
) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    section = config if where == "top" else config[where]
    section["quantization_config"] = settings
    (checkpoint / "config.json").write_text(json.dumps(config))
    line = refusal(checkpoint)
    assert f"config.json: quantization_config says that the weights are quantized ({method})" in line
    assert "a checkpoint in float32, float16 or bfloat16 is needed" in line


def test_quantized_weights_without_a_word_in_the_config_are_refused(checkpoint: Path, tensors: Tensors) -> None:
    packed = DOWN.replace(".weight", ".qweight")
    rest = {name: tensor for name, tensor in tensors.items() if name != DOWN}
    write(checkpoint, {**rest, packed: torch.zeros(32, 256, dtype=torch.int32)})
    assert f"no tensor {DOWN}, which its config asks for; it has {packed}, so it is quantized" in refusal(checkpoint)
    state = {DOWN: torch.zeros(98304, 1, dtype=torch.uint8), f"{DOWN}.quant_state.bitsandbytes__nf4": torch.zeros(1)}
    write(checkpoint, {**tensors, **state})
    assert "bitsandbytes__nf4, so it is quantized" in refusal(checkpoint)
    write(checkpoint, {**tensors, DOWN: tensors[DOWN].to(torch.float8_e4m3fn)})
    assert "float8_e4m3fn, only float32, float16 and bfloat16" in refusal(checkpoint)


# --- Tokenizer and template -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [{"padding": True, "pad_to_multiple_of": 8}, {"truncation": True, "max_length": 12}])
def test_padding_and_truncation_of_a_tokenizer_are_not_obeyed(
    checkpoint: Path, scene: Image, tmp_path: Path, call: dict[str, Any]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer(["a", "a b c"], **call)
    tokenizer.save_pretrained(checkpoint)
    raw = json.loads((checkpoint / "tokenizer.json").read_text())
    assert raw["padding"] or raw["truncation"]
    if raw["truncation"]:  # transformers' own processor stumbles over it
        assert ours(checkpoint, scene)[:2] == theirs(TINY, scene)
    else:
        assert_same_answer(checkpoint, scene)
    assert read_prompt(checkpoint, PROMPT, None).prefix_ids == read_prompt(TINY, PROMPT, None).prefix_ids

    export(replace(config_of(checkpoint), targets=("onnx",), output=tmp_path / "bundle", verify=False))
    written = json.loads((tmp_path / "bundle" / "tokenizer.json").read_text())
    assert written["padding"] is written["truncation"] is None


def test_a_tokenizer_of_another_model_is_refused(checkpoint: Path) -> None:
    """transformers finds no place for the picture then."""
    change(checkpoint, "config.json", image_token_id=1549)
    with pytest.raises(UserError, match="as 1548, its config says image_token_id 1549: the files of two models"):
        open_source(config_of(checkpoint))


def template(word: str) -> str:
    """That of vlmp-tiny with another system sentence."""
    return (TINY / "chat_template.jinja").read_text().replace("helpful", word)


def put_template(folder: Path, file: str, word: str) -> None:
    if file.endswith(".jinja"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(template(word))
    else:
        change(folder, file, chat_template=template(word))


ORDER = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_template_is_the_one_that_transformers_takes(checkpoint: Path, first: int) -> None:
    """Of all files that hold one, from the first of them on; transformers' own processor says which."""
    (checkpoint / "chat_template.jinja").unlink()
    for number, file in enumerate(ORDER[first:], first):
        put_template(checkpoint, file, f"word{number}")
    prompt = read_prompt(checkpoint, PROMPT, None)
    assert prompt.template_file == ORDER[first]
    assert f"word{first} assistant" in prompt.tokenizer.decode(prompt.prefix_ids)
    found, _ = Qwen2VLProcessor.get_processor_dict(checkpoint)
    if ORDER[first] == "tokenizer_config.json":  # only transformers' tokenizers look there
        found = {"chat_template": AutoTokenizer.from_pretrained(checkpoint).chat_template}
    assert f"word{first} assistant" in found["chat_template"]


def test_the_default_of_several_templates(checkpoint: Path) -> None:
    for name in ("tool_use", "default"):
        put_template(checkpoint, f"additional_chat_templates/{name}.jinja", "handy")
        prompt = read_prompt(checkpoint, PROMPT, None)
        found, _ = Qwen2VLProcessor.get_processor_dict(checkpoint)
        assert prompt.template_file == "chat_template.jinja"
        assert "helpful" in prompt.tokenizer.decode(prompt.prefix_ids)
        assert "helpful" in found["chat_template"]["default"]
    (checkpoint / "additional_chat_templates/default.jinja").unlink()
    (checkpoint / "chat_template.jinja").unlink()
    assert "several with one called default" in refusal(checkpoint)
    put_template(checkpoint, "additional_chat_templates/default.jinja", "usual")
    prompt = read_prompt(checkpoint, PROMPT, None)
    assert prompt.template_file == "additional_chat_templates/default.jinja"
    assert "usual" in prompt.tokenizer.decode(prompt.prefix_ids)
    put_template(checkpoint, "chat_template.json", "older")  # transformers refuses it beside a folder of them
    assert "only one of the two can be meant" in refusal(checkpoint)


def test_several_templates_in_the_tokenizer_config(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    named = [{"name": name, "template": template(name)} for name in ("tool_use", "default")]
    change(checkpoint, "tokenizer_config.json", chat_template=named)
    prompt = read_prompt(checkpoint, PROMPT, None)
    assert prompt.template_file == "tokenizer_config.json"
    assert "default assistant" in prompt.tokenizer.decode(prompt.prefix_ids)
    change(checkpoint, "tokenizer_config.json", chat_template=named[:1])
    assert "must be a text, or several with one called default" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("change_of_words", "says"),
    [("| upper", "as it was typed"), ("| lower", "changes the user's text"), ("| e", "changes the user's text")],
)
def test_a_template_that_changes_the_words_is_refused(checkpoint: Path, change_of_words: str, says: str) -> None:
    path = checkpoint / "chat_template.jinja"
    path.write_text(path.read_text().replace("{{ part['text'] }}", f"{{{{ part['text'] {change_of_words} }}}}"))
    assert says in refusal(checkpoint)


def test_a_template_that_trims_is_told(checkpoint: Path, scene: Image) -> None:
    path = checkpoint / "chat_template.jinja"
    path.write_text(path.read_text().replace("{{ part['text'] }}", "{{ part['text'] | trim }}"))
    chat = assert_same_answer(checkpoint, scene)
    assert chat.session.manifest.notes == ["the chat template trims what a user types; here it is taken as it is"]


@pytest.mark.parametrize("written", [False, True], ids=["by the tokenizer", "by the template too"])
def test_a_token_that_the_tokenizer_puts_first(checkpoint: Path, scene: Image, written: bool) -> None:
    raw = json.loads((checkpoint / "tokenizer.json").read_text())
    special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [1536], "tokens": ["<|endoftext|>"]}}
    single = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    raw["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
    (checkpoint / "tokenizer.json").write_text(json.dumps(raw))
    change(checkpoint, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", bos_token="<|endoftext|>")
    if written:
        path = checkpoint / "chat_template.jinja"
        path.write_text("<|endoftext|>" + path.read_text())
    prefix = read_prompt(checkpoint, PROMPT, None).prefix_ids
    assert prefix == [1536, *read_prompt(TINY, PROMPT, None).prefix_ids]
    assert_same_answer(checkpoint, scene)


def test_a_token_that_the_tokenizer_puts_last_is_refused(checkpoint: Path) -> None:
    raw = json.loads((checkpoint / "tokenizer.json").read_text())
    special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [1536], "tokens": ["<|endoftext|>"]}}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    raw["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
    (checkpoint / "tokenizer.json").write_text(json.dumps(raw))
    change(checkpoint, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert "adds special tokens after a text" in refusal(checkpoint)


TEXT_ONLY = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
)


def test_a_text_only_template_beside_the_right_one_is_not_taken(checkpoint: Path, scene: Image) -> None:
    (checkpoint / "chat_template.jinja").rename(checkpoint / "x")
    change(checkpoint, "chat_template.json", chat_template=(checkpoint / "x").read_text())
    change(checkpoint, "tokenizer_config.json", chat_template=TEXT_ONLY)
    text, _, chat = ours(checkpoint, scene)
    assert text == RIGHT
    assert chat.session.manifest.prompt.template_file == "chat_template.json"


def test_a_text_only_template_alone_is_refused(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text(TEXT_ONLY)
    assert "chat template (chat_template.jinja) cannot be rendered with a picture: can only" in refusal(checkpoint)


# --- Generation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["top", "text_config", "both"])
def test_end_tokens_of_the_config_count_where_no_generation_config_is(
    checkpoint: Path, scene: Image, where: str
) -> None:
    """The third token of transformers' own longer answer as an end token: it stops there, and so do we."""
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "generation_config.json").unlink()
    newline = AutoTokenizer.from_pretrained(TINY)("9")["input_ids"]
    ends = [1538, *newline]
    if where in ("top", "both"):
        config["eos_token_id"] = ends
    config["text_config"]["eos_token_id"] = ends if where == "text_config" else 1
    (checkpoint / "config.json").write_text(json.dumps(config))
    chat = assert_same_answer(checkpoint, scene)
    assert len(chat.ask(scene, QUESTION).token_ids) == 1  # the digit itself ends it
    assert chat.session.manifest.prompt.end_ids == sorted({1538, *newline})


def test_a_generation_config_without_end_tokens_has_none(checkpoint: Path) -> None:
    """As transformers has it: config.json is not asked where the other file is; the template's own end stays."""
    change(checkpoint, "config.json", eos_token_id=7)
    change(checkpoint, "generation_config.json", eos_token_id=None)
    assert read_prompt(checkpoint, PROMPT, None).end_ids == [1538]


def test_an_end_token_that_is_none(checkpoint: Path) -> None:
    change(checkpoint, "generation_config.json", eos_token_id=[-1, 7, 2**40])
    assert read_prompt(checkpoint, PROMPT, None).end_ids == [7, 1538]


def test_what_generate_would_do_and_we_do_not_is_told(checkpoint: Path) -> None:
    change(checkpoint, "generation_config.json", suppress_tokens=[24], repetition_penalty=1.05, no_repeat_ngram_size=0,
           begin_suppress_tokens=[], num_beams=1, temperature=0.1, do_sample=True, top_k=1)  # fmt: skip
    notes = open_source(config_of(checkpoint)).prompt.notes
    assert notes == ["generation_config.json asks for repetition_penalty, suppress_tokens: answers are greedy without"]
    (checkpoint / "generation_config.json").unlink()
    change(checkpoint, "config.json", suppress_tokens=[24])
    (note,) = open_source(config_of(checkpoint)).prompt.notes
    assert note.startswith("config.json asks for suppress_tokens")
    assert open_source(config_of(TINY)).prompt.notes == []


# --- Pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True], ids=["preprocessor_config", "processor_config"])
@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": [0.48145467, 0.4578275, 0.40821073]},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
        {"image_std": [0.3, 0.2, 0.4]},
        {"rescale_factor": 0.00392156862745098},
        {"rescale_factor": 0.004, "image_mean": [0.4, 0.5, 0.6]},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_pixels_are_normalised_as_the_checkpoint_says(
    checkpoint: Path, scene: Image, settings: dict[str, Any], nested: bool
) -> None:
    own = json.loads((TINY / "preprocessor_config.json").read_text()) | settings
    if nested:
        change(checkpoint, "processor_config.json", image_processor=own)
    else:
        change(checkpoint, "preprocessor_config.json", **own)
    original = Original.open(checkpoint)
    wanted = original.visual(original.inputs(scene, QUESTION)).numpy()
    chat = open_eager(config_of(checkpoint))
    found = chat.session.vision(pixels_of(scene))
    assert abs(found - wanted).max() < 1e-5 * abs(wanted).max()


def pixels_of(scene: Image) -> Any:
    """A scene is as large as vlmp-tiny's pictures."""
    return (
        torch.tensor(list(scene.convert("RGB").tobytes()), dtype=torch.float32)
        .reshape(1, scene.height, scene.width, 3)
        .permute(0, 3, 1, 2)
        .contiguous()
        .numpy()
    )


def test_bars_have_the_colour_that_becomes_zero(checkpoint: Path) -> None:
    def colour() -> tuple[int, int, int]:
        return open_source(config_of(checkpoint)).family.pad_rgb

    assert colour() == (122, 116, 104)
    change(checkpoint, "preprocessor_config.json", image_mean=[0.5, 0.25, -0.1], image_std=[0.5, 0.5, 0.5])
    assert colour() == (127, 63, 0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"resample": 0}, "resample is 0, only 1 (lanczos), 2 (bilinear), 3 (bicubic) are supported"),
        ({"do_normalize": False}, "do_normalize is False, only True is supported"),
        ({"do_rescale": False}, "do_rescale is False"),
        ({"do_normalize": None}, "do_normalize is None"),
        ({"do_rescale": None}, "do_rescale is None"),
        ({"resample": None}, "resample is None, only 1 (lanczos), 2"),
        ({"image_mean": None}, "image_mean is None, it must be three finite numbers"),
        ({"rescale_factor": None}, "rescale_factor is None"),
        ({"merge_size": 3}, "merge_size is 3, only 2"),
        ({"patch_size": 16}, "patch_size is 16, only 14"),
        ({"temporal_patch_size": 1}, "temporal_patch_size is 1, only 2"),
        ({"image_mean": [0.5, 0.5]}, "image_mean is [0.5, 0.5], it must be three finite numbers"),
        ({"image_mean": ["a", 1, 1]}, "image_mean"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std is [0.5, 0.0, 0.5], it must be three numbers greater than 0"),
        ({"rescale_factor": 0}, "rescale_factor is 0, it must be a number greater than 0"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_pixels_that_the_graph_cannot_make_are_refused(checkpoint: Path, settings: dict[str, Any], says: str) -> None:
    path = checkpoint / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    assert says in refusal(checkpoint)
