"""Ways to attend on ExecuTorch: what each saves of a block of Qwen2-VL-2B's vision tower, its weights 8-bit.

    python benchmarks/vision_attention.py [--patches 1024 --patches 2304] [--threads 1] [--runs 9]

Random weights. CPU milliseconds of this process, medians of runs in turns, and their ratio to float32 with all heads in
one product, as bundles have it. 1024 patches are a photo of 448 x 448 pixels, 2304 one of 672 x 672.

Dims: M patches, E vision width.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from executorch.extension.pybindings import _C
from executorch.runtime import Method, Program, Runtime
from torch import Tensor, nn
from vlmp.export.models.layers import PatchAttention, mix, patch_heads
from vlmp.export.models.vision import VisionBlock
from vlmp.export.targets.executorch import ROWS, DynamicLinear, _SkippingPartitioner, _trace
from vlmp.export.targets.executorch.half import HalfPatchAttention
from vlmp.runtimes.console.streams import quiet_libraries

WIDTH, HEADS, INNER = 1280, 16, 5120


class HeadByHead(nn.Module):
    """Attention with a product for each head: its M x M scores may stay in the cache."""

    def forward(self, qkv_ME: Tensor, rope: tuple[Tensor, Tensor] | None, mask: None = None) -> Tensor:
        """As PatchAttention, without a mask."""
        query_HMd, key_HMd, value_HMd = patch_heads(qkv_ME, HEADS, rope)
        query_HMd = query_HMd * query_HMd.shape[-1] ** -0.5
        parts = zip(query_HMd.split(1), key_HMd.split(1), value_HMd.split(1), strict=True)
        return torch.cat([mix(*part) for part in parts]).permute(1, 0, 2).reshape(len(qkv_ME), WIDTH)


WAYS: dict[str, Callable[[PatchAttention], nn.Module]] = {
    "float32": lambda attention: attention,
    "float32, a head at a time": lambda _: HeadByHead(),
    "float16": HalfPatchAttention,
}
"""Name -> how a block's attention is done."""


class Block(nn.Module):
    """A block with its rotary tables, attending in one of the ways."""

    def __init__(self, patches: int, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        spec = SimpleNamespace(
            width=WIDTH, heads=HEADS, inner=INNER, gated=False, norm="layer", norm_eps=1e-6, qkv_bias=True,
            mlp_bias=True, act="quick_gelu",
        )  # fmt: skip
        self.block = VisionBlock(spec, ())
        for name in ("qkv", "proj", "fc1", "fc2"):
            linear = getattr(self.block, name)
            quantized = DynamicLinear(linear.weight.data, ROWS)
            quantized.bias = linear.bias
            setattr(self.block, name, quantized)
        self.block.attention = WAYS[way](self.block.attention)
        angle_Md = torch.rand(patches, WIDTH // HEADS)
        self.register_buffer("cos_Md", angle_Md.cos())
        self.register_buffer("sin_Md", angle_Md.sin())

    def forward(self, hidden_ME: Tensor) -> Tensor:
        """hidden [M, E] -> [M, E]."""
        return self.block(hidden_ME, (self.cos_Md, self.sin_Md))[0]


@torch.no_grad()
def lowered(block: Block, hidden_ME: Tensor) -> tuple[Program, Method, float]:
    """The block on XNNPACK, and how far it is from PyTorch: the error's share of the output's length.

    The program holds what the method reads.
    """
    edge = to_edge_transform_and_lower(
        _trace(block, (hidden_ME,), tagged=False),
        partitioner=[_SkippingPartitioner(lambda _: False)],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    program = Runtime.get().load_program(edge.to_executorch().buffer)
    method = program.load_method("forward")
    assert method is not None
    wanted_ME = block(hidden_ME)
    return program, method, float((method.execute([hidden_ME])[0] - wanted_ME).norm() / wanted_ME.norm())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patches", type=int, action="append")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    quiet_libraries()
    _C._unsafe_reset_threadpool(arguments.threads)
    print("| patches | attention | CPU ms | ratio | from PyTorch |\n|---:|---|---:|---:|---:|")
    for patches in arguments.patches or (1024, 2304):
        hidden_ME = torch.randn(patches, WIDTH)
        found = {way: lowered(Block(patches, way), hidden_ME) for way in WAYS}
        took: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(arguments.runs):
            for way, (_, method, _) in found.items():
                began = time.process_time()
                method.execute([hidden_ME])
                took[way].append(1e3 * (time.process_time() - began))
        medians = {way: statistics.median(times) for way, times in took.items()}
        for way, (*_, error) in found.items():
            share = medians[way] / medians["float32"]
            print(f"| {patches} | {way} | {medians[way]:.0f} | {share:.2f} | {error:.4f} |", flush=True)


if __name__ == "__main__":
    main()
