"""Names of tensors that several families share: our module -> the checkpoint's (see `loading.py`)."""

from vlmp.export.models.loading import Names
from vlmp.export.weights import Prefixes

DECODER: Names = {
    "embed": "model.embed_tokens",
    "layers.{}.input_norm": "model.layers.{}.input_layernorm",
    "layers.{}.qkv": tuple(f"model.layers.{{}}.self_attn.{name}_proj" for name in "qkv"),
    "layers.{}.q_norm": "model.layers.{}.self_attn.q_norm",
    "layers.{}.k_norm": "model.layers.{}.self_attn.k_norm",
    "layers.{}.out": "model.layers.{}.self_attn.o_proj",
    "layers.{}.mlp_norm": "model.layers.{}.post_attention_layernorm",
    "layers.{}.gate_up": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"),
    "layers.{}.down": "model.layers.{}.mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}
"""Of Llama, Mistral, Qwen2 and Qwen3."""

QWEN_TOWER: Names = {
    "patch": "visual.patch_embed.proj",
    "blocks.{}.norm1": "visual.blocks.{}.norm1",
    "blocks.{}.qkv": "visual.blocks.{}.attn.qkv",
    "blocks.{}.proj": "visual.blocks.{}.attn.proj",
    "blocks.{}.norm2": "visual.blocks.{}.norm2",
}
"""What the vision towers of Qwen's families share."""

QWEN_MERGER: Names = {
    "connector.norm": "visual.merger.ln_q",
    "connector.hidden": "visual.merger.mlp.0",
    "connector.out": "visual.merger.mlp.2",
}
"""Of Qwen2-VL and Qwen2.5-VL."""

CLIP_BLOCKS: Names = {
    "patch": "vision_tower.embeddings.patch_embedding",
    "positions": "vision_tower.embeddings.position_embedding.weight",
    "blocks.{}.norm1": "vision_tower.encoder.layers.{}.layer_norm1",
    "blocks.{}.qkv": tuple(f"vision_tower.encoder.layers.{{}}.self_attn.{name}_proj" for name in "qkv"),
    "blocks.{}.proj": "vision_tower.encoder.layers.{}.self_attn.out_proj",
    "blocks.{}.norm2": "vision_tower.encoder.layers.{}.layer_norm2",
    "blocks.{}.fc1": "vision_tower.encoder.layers.{}.mlp.fc1",
    "blocks.{}.fc2": "vision_tower.encoder.layers.{}.mlp.fc2",
}
"""Of CLIP and SigLIP."""

LLAVA_PREFIXES: Prefixes = (
    ("model.language_model.", "model."), ("model.vision_tower.vision_model.", "vision_tower."),
    ("model.vision_tower.", "vision_tower."), ("model.multi_modal_projector.", "multi_modal_projector."),
    ("language_model.model.", "model."), ("language_model.lm_head.", "lm_head."),
    ("vision_tower.vision_model.", "vision_tower."),
)  # fmt: skip
LLAVA_PROJECTOR: Names = {
    "connector.hidden": "multi_modal_projector.linear_1",
    "connector.out": "multi_modal_projector.linear_2",
}
"""Of LLaVA and InternVL."""
