"""The files beside the weights of a random checkpoint: tokenizers as large as the published ones, and settings."""

import json
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

TINY = Path(str(files("vlmp.export"))) / "assets" / "vlmp-tiny"
QWEN_WORDS, LLAMA_WORDS, SMOLLM_WORDS, LFM_WORDS = 151643, 32000, 49152, 64400
"""Of a published tokenizer, before the special tokens after them."""
THREE_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
"""By which LFM2's tokenizer splits a text into words."""
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""What llava-hf's checkpoints have."""
INTERNVL_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""What InternVL's have, without videos."""
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""What SmolVLM2's have."""
LFM_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""What LFM2-VL's have."""
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}


def write_tokenizer(folder: Path, model_type: str, vocab: int) -> dict[str, int]:
    """The tokenizer with its template, no larger than `vocab`. Returns the special ids that the config has."""
    names = {"image_token_id": "<image>"}
    if model_type == "llava":
        tokenizer = llama_tokenizer(min(LLAMA_WORDS, vocab - 2))
        names = {"image_token_index": "<image>", "pad_token_id": "<pad>"}
    elif model_type == "smolvlm":
        tokenizer = smollm_tokenizer(vocab)
    elif model_type == "lfm2_vl":
        tokenizer = lfm_tokenizer(vocab)
    elif model_type == "internvl":
        tokenizer = qwen_tokenizer(vocab)
        tokenizer.add_special_tokens({"extra_special_tokens": ["<img>", "</img>", "<IMG_CONTEXT>"]})
        tokenizer.chat_template = INTERNVL_TEMPLATE
        names = {"image_token_id": "<IMG_CONTEXT>"}
    else:
        tokenizer = qwen_tokenizer(vocab)
        names = {
            "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
        }  # fmt: skip
    tokenizer.save_pretrained(folder)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    generation = {"eos_token_id": ends, "pad_token_id": ends[1]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}


def qwen_tokenizer(vocab: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE as large as Qwen2's; where `vocab` is smaller, that of vlmp-tiny."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    like = tokenizer.backend_tokenizer
    special = like.get_added_tokens_decoder()
    if vocab < QWEN_WORDS + len(special):
        return tokenizer
    learnt = Tokenizer(models.BPE())
    learnt.normalizer, learnt.pre_tokenizer, learnt.decoder = like.normalizer, like.pre_tokenizer, like.decoder
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learnt.train_from_iterator(
        _sources(),
        trainers.BpeTrainer(vocab_size=QWEN_WORDS, min_frequency=1, initial_alphabet=alphabet, show_progress=False),
    )
    learnt.add_special_tokens(
        [AddedToken(str(special[index]), special=True, normalized=False) for index in sorted(special)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=learnt, eos_token=tokenizer.eos_token, pad_token=tokenizer.pad_token,
        chat_template=tokenizer.chat_template,
    )  # fmt: skip


def llama_tokenizer(words: int) -> PreTrainedTokenizerBase:
    """A BPE with a token for each byte, as Llama's, and LLaVA's two tokens after its words."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learnt = Tokenizer(models.BPE())
    # Words alone: what stands between spaces in a source is a word as long as an expression.
    learnt.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(vocab_size=words - len(special), limit_alphabet=200, show_progress=False)
    lines = (line for text in _modules() for line in text.split("\n"))
    learnt.train_from_iterator(lines, trainer)
    told = json.loads(learnt.to_str())["model"]
    vocab = {token: index for index, token in enumerate([*special, *sorted(told["vocab"], key=told["vocab"].get)])}
    merges = [(left, right) for left, right in told["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (*special[:3], "<image>", "<pad>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        chat_template=LLAVA_TEMPLATE,
    )  # fmt: skip


def smollm_tokenizer(vocab: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE as SmolLM2's, digits one by one, with SmolVLM2's tokens, no larger than `vocab`."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<global-img>",
               "<end_of_utterance>"]  # fmt: skip
    digits: list[Any] = [pre_tokenizers.Digits(individual_digits=True)]
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)], SMOLLM_WORDS, vocab,
                                     special),
        bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>",
        chat_template=SMOLVLM_TEMPLATE,
    )  # fmt: skip


def lfm_tokenizer(vocab: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE as LFM2's, digits by three, with LFM2-VL's tokens, no larger than `vocab`."""
    special = ["<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>",
               "<|image_start|>", "<|image_end|>"]  # fmt: skip
    parts: list[Any] = [pre_tokenizers.Split(Regex(THREE_DIGITS), "isolated")]
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)],
                                     LFM_WORDS, vocab, special),
        bos_token="<|startoftext|>", eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=LFM_TEMPLATE,
    )  # fmt: skip


def _byte_level(splits: list[Any], most: int, vocab: int, special: list[str]) -> Tokenizer:
    """Learnt from sources: `most` words, or fewer where they and the special ones would be more than `vocab`."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.Sequence(splits)
    learnt.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = min(most, vocab - len(special))
    trainer = trainers.BpeTrainer(vocab_size=words, initial_alphabet=alphabet, show_progress=False)
    learnt.train_from_iterator(_sources() if words == most else _modules(), trainer)
    learnt.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return learnt


def _modules() -> Iterator[str]:
    """The sources of Python's own modules."""
    return (path.read_text(encoding="utf-8") for path in sorted(Path(os.__file__).parent.glob("*.py")))


def _sources() -> Iterator[str]:
    """The sources of Python and transformers."""
    folders = [Path(module.__file__ or "").parent for module in (os, transformers)]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return (path.read_text(encoding="utf-8", errors="replace") for path in paths)


def write_preprocessor(folder: Path, model_type: str, vision: Any) -> None:
    """The settings of the published image processor."""
    if model_type == "llava":
        side = vision.image_size
        settings = {
            "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": side}, "resample": 3,
            "crop_size": {"height": side, "width": side}, **CLIP,
        }  # fmt: skip
    elif model_type == "internvl":
        height, width = vision.image_size
        settings = {
            "image_processor_type": "GotOcr2ImageProcessor", "size": {"height": height, "width": width}, "resample": 3,
            "crop_to_patches": False, **IMAGENET,
        }  # fmt: skip
    elif model_type == "smolvlm":
        side = vision.image_size
        settings = {
            "image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 4 * side}, "resample": 1,
            "max_image_size": {"longest_edge": side}, "do_image_splitting": True, **HALF,
        }  # fmt: skip
    elif model_type == "lfm2_vl":
        settings = {
            "image_processor_type": "Lfm2VlImageProcessorFast", "encoder_patch_size": vision.patch_size,
            "downsample_factor": 2, "tile_size": 512, "do_image_splitting": True, "resample": 2, **HALF,
        }  # fmt: skip
    else:
        unit = vision.patch_size * 2
        settings = {
            "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 4 * unit**2, "max_pixels": 16384 * unit**2,
            "patch_size": vision.patch_size, "merge_size": 2, "temporal_patch_size": 2,
            **(HALF if model_type == "qwen3_vl" else CLIP),
        }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
