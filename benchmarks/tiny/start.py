"""Where the language model starts: with words and attention that already find what the vision tower shows.

Begun as usual, so small a model was still at the answers' priors after 250 steps. The labels that the vision tower has
learnt say which directions of a visual token mean what: words take over these directions, and some heads look for them.

Dims: B batch, N visual tokens, D hidden size, C classes of all labels, R rank of their rows, d head size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration as Qwen2VL
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLAttention
from vlmp.evaluation.scenes.labels import COLOUR_NAMES, OBJECTS

from tiny.language import Prompts
from tiny.vision import Heads, visual_tokens

WORD_SIZE = 0.25
"""Root mean square of embeddings and visual tokens."""
FINAL_NORM = 0.1
"""The last norm's weight, for logits of a few units: the head is tied to the embedding."""
FORM_SIZE = 0.3
"""How much forms of a word ("circle", " circles") differ, relative to the word."""
WORDS = {
    "object": OBJECTS[:-1],
    "colour": COLOUR_NAMES,
    "row": ("top", "", "bottom"),
    "column": ("left", "", "right"),
}
"""Words that mean a label's classes."""
KINDS = {
    "shape": ("object", slice(10, 16)),
    "digit": ("object", slice(10)),
    "number": ("object", slice(10)),
    "code": ("code", slice(1, None)),
}
"""Words that mean several classes of a label."""
MATCH = 24.0
"""Attention score between a word and a visual token that shows nothing but what it means: an upper bound."""
COPY = 0.2
"""How much of what a head finds is added to the one who looked for it."""
TEXT_PAIRS = 8
"""Pairs of rotary channels that turn with the position in the text, fast ones first (M-RoPE's first section)."""
BEFORE = 60.0
"""Attention score of the word before at the start of the heads that look for it."""
TRANSLATING = 3
"""Layer in which two heads begin by naming what stands beside a thing."""
FAST, SLOW = 5, 11
"""Pairs of rotary channels: the first ones turn fast with the position in the text, and hold no meaning; from `SLOW` on
an angle hardly changes over a prompt, and channels can hold a meaning."""


@torch.no_grad()
def start_language_model(model: Qwen2VL, heads: Heads, prompts: Prompts, image_B3HW: Tensor) -> None:
    """Set all weights of the language model, and turn the vision tower's last matrix and `heads` to fit its words."""
    directions, basis_RD = separate_labels(model, heads, image_B3HW)
    language = model.model.language_model
    embed_VD = language.embed_tokens.weight
    embed_VD.copy_(torch.randn(embed_VD.shape, generator=torch.Generator().manual_seed(0)) * WORD_SIZE)
    meanings = [pair for name, words in WORDS.items() for pair in zip(words, directions[name], strict=False)]
    meanings += [(word, directions[name][classes].mean(0)) for word, (name, classes) in KINDS.items()]
    for word, direction_D in meanings:
        for form in (word, f" {word}", f" {word}s", f" {word}es") if word else ():
            ids = prompts.ids(form)
            if len(ids) == 1:
                meaning_D = F.rms_norm(direction_D, direction_D.shape) * WORD_SIZE
                embed_VD[ids[0]] = meaning_D + FORM_SIZE * embed_VD[ids[0]]
    language.norm.weight.fill_(FINAL_NORM)
    named_RD = torch.linalg.svd(torch.cat([directions[name] for name in WORDS]), full_matrices=False)
    rank = int((named_RD.S > 0.1).sum())
    for layer in language.layers:
        for part in (*layer.self_attn.children(), *layer.mlp.children()):
            if isinstance(part, nn.Linear):  # the usual 0.02 would leave so narrow a model's attention flat for long
                nn.init.normal_(part.weight, std=part.in_features**-0.5)
        for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
            part.weight.mul_(0.5 * len(language.layers) ** -0.5)
        start_matching(layer.self_attn, named_RD.Vh[:rank], basis_RD)
    start_joining(language.layers[0].self_attn, basis_RD, float(model.config.text_config.rope_parameters["rope_theta"]))
    start_translating(language.layers[TRANSLATING].self_attn, directions)


def separate_labels(model: Qwen2VL, heads: Heads, image_B3HW: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Let visual tokens show each class of each label in a direction of its own, as loudly as all the rest together.

    With the heads' centred rows R = U S V', a token v becomes v + V (s S - 1) V'v, and U V' are the classes'
    directions: at right angles, and the product of one with the token is the head's logit times s (Loewdin's
    orthogonalisation). The heads follow. Returns directions [classes, D] by label and an orthonormal basis [R, D].
    """
    rows_CD = torch.cat([rows - rows.mean(0) for rows in heads.rows.values()])
    left_CR, size_R, basis_RD = torch.linalg.svd(rows_CD, full_matrices=False)
    kept = size_R > 1e-3 * size_R[0]  # each label's rows add up to nothing
    left_CR, size_R, basis_RD = left_CR[:, kept], size_R[kept], basis_RD[kept]
    before_BND = visual_tokens(model, image_B3HW)
    told_BNR = before_BND @ basis_RD.T
    rest = (before_BND - told_BNR @ basis_RD).pow(2).sum() / (told_BNR * size_R).pow(2).sum()
    loud = rest.sqrt()
    turn_DD = torch.eye(basis_RD.shape[1]) + basis_RD.T @ ((loud * size_R - 1).unsqueeze(1) * basis_RD)
    last = model.model.visual.merger.mlp[2]
    last.weight.copy_(turn_DD @ last.weight)
    last.bias.copy_(turn_DD @ last.bias)
    scale = WORD_SIZE / visual_tokens(model, image_B3HW).pow(2).mean().sqrt()
    last.weight.mul_(scale)
    last.bias.mul_(scale)
    after_BND = visual_tokens(model, image_B3HW)
    ratio = (after_BND.pow(2).mean(-1) / before_BND.pow(2).mean(-1)).sqrt().mean() / (loud * scale)
    directions_CD = left_CR @ basis_RD
    directions = dict(zip(heads.rows, directions_CD.split([len(rows) for rows in heads.rows.values()]), strict=True))
    for name, rows in heads.rows.items():
        rows.copy_(directions[name] * ratio)
    return directions, basis_RD


def start_matching(attention: Qwen2VLAttention, named_RD: Tensor, basis_RD: Tensor) -> None:
    """Let the query heads of the first key head look for what shows the meaning of a word, and copy all that it tells.

    Queries and keys share one projection, and so do values and output, as training would bring about (mimetic
    initialisation, arXiv 2305.09828). Nothing resembles a word more than itself: constants in the fast channels repel
    what stands close in the text, and that is the same for all visual tokens, which M-RoPE puts at one place in it.
    """
    size, width = attention.head_dim, attention.hidden_size
    heads = attention.num_heads // attention.num_key_value_heads
    slow = [channel for pair in range(size // 2 - 1, SLOW - 1, -1) for channel in (pair, pair + size // 2)]
    match_dD = torch.zeros(size, width)
    match_dD[slow[: len(named_RD)]] = named_RD * (MATCH * size**0.5 / width) ** 0.5
    repel = (MATCH * size**0.5 / FAST) ** 0.5
    attention.k_proj.weight[:size] = match_dD
    attention.k_proj.bias[:FAST] = -repel
    start_copying(attention, 0, basis_RD)
    for head in range(heads):
        attention.q_proj.weight[head * size : (head + 1) * size] = match_dD
        attention.q_proj.bias[head * size : head * size + FAST] = repel


def start_joining(attention: Qwen2VLAttention, basis_RD: Tensor, theta: float) -> None:
    """Let the query heads of the second key head copy the word before: "star" behind "red" looks for a red star.

    The score is a sum of cosines of the distance in the text less one, over the channels that turn with it.
    """
    size = attention.head_dim
    heads = attention.num_heads // attention.num_key_value_heads
    start_copying(attention, 1, basis_RD)
    pair_p = torch.arange(TEXT_PAIRS)
    angle_p = theta ** (-2 * pair_p / size)
    strength = (BEFORE * size**0.5 / TEXT_PAIRS) ** 0.5
    attention.k_proj.weight[size : 2 * size] = 0
    attention.k_proj.bias[size + pair_p] = strength
    for head in range(heads, 2 * heads):
        attention.q_proj.weight[head * size : (head + 1) * size] = 0
        attention.q_proj.bias[head * size + pair_p] = strength * angle_p.cos()
        attention.q_proj.bias[head * size + size // 2 + pair_p] = -strength * angle_p.sin()


def start_translating(attention: Qwen2VLAttention, directions: dict[str, Tensor]) -> None:
    """Let two heads turn what a token tells of its neighbours, one on the left and one above, into the words for them.

    Where these heads look is left to training.
    """
    size, heads = attention.head_dim, attention.num_heads // attention.num_key_value_heads
    named_CD = F.normalize(directions["object"][: len(OBJECTS) - 1], dim=-1)
    for number, side in enumerate(("left", "above")):
        values = slice(size + number * len(named_CD), size + (number + 1) * len(named_CD))
        attention.v_proj.weight[values] = F.normalize(directions[side][: len(named_CD)], dim=-1)
        head = heads + number
        attention.o_proj.weight[:, head * size : (head + 1) * size] = 0
        start = head * size + number * len(named_CD)
        attention.o_proj.weight[:, start : start + len(named_CD)] = named_CD.T * COPY


def start_copying(attention: Qwen2VLAttention, key_head: int, basis_RD: Tensor) -> None:
    """Let a key head pass on what tokens show, unchanged."""
    size, width = attention.head_dim, attention.hidden_size
    heads = attention.num_heads // attention.num_key_value_heads
    told_RD = basis_RD[:size]
    copy_dD = torch.linalg.qr(torch.cat([told_RD, torch.randn(size - len(told_RD), width)]).T).Q.T
    attention.v_proj.weight[key_head * size : (key_head + 1) * size] = copy_dD
    for head in range(key_head * heads, (key_head + 1) * heads):
        attention.o_proj.weight[:, head * size : (head + 1) * size] = copy_dD.T * (COPY / heads)
