"""What exports took, stage by stage, as the Markdown table of `docs/results/export-cost.md`.

    python benchmarks/make_random.py --output /tmp/qwen2-vl-2b
    vlmp-export --model qwen2-vl-2b --checkpoint /tmp/qwen2-vl-2b --target onnx --quant int4 --output /tmp/2b-onnx-int4
    python benchmarks/export_cost.py /tmp/2b-onnx-int4 [...]

The figures stand in the bundles' manifests; the memory is the whole process's, mapped pages of the checkpoint included.
"""

import argparse
from pathlib import Path

from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.bundle.manifest import Manifest


def main() -> None:
    """Print the table of the bundles given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--totals", action="store_true", help="a row a bundle, without its steps")
    arguments = parser.parse_args()
    print(table([read_manifest(bundle, check_hashes=False) for bundle in arguments.bundles], arguments.totals))


def table(manifests: list[Manifest], totals: bool) -> str:
    """A block of rows a bundle: the whole, then its steps."""
    lines = ["| export | stage | seconds | peak memory, GiB |", "|---|---|---:|---:|"]
    for manifest in manifests:
        if manifest.cost is None:
            raise SystemExit(f"the manifest of {manifest.model} for {manifest.target} says nothing of its cost")
        size = sum(file.size_bytes for file in manifest.files) / 1e9
        name = (
            f"{manifest.target} {manifest.precision} {manifest.quantization}, {len(manifest.shape.kv.layers)} layers, "
            f"{manifest.shape.image.height} px, {manifest.shape.pruner}, {size:.2f} GB, {verified(manifest)}"
        )
        steps = [] if totals else [(step.name, step) for step in manifest.cost.steps]
        rows = [("all", manifest.cost), *steps]
        for label, taken in rows:
            lines.append(f"| {name} | {label} | {taken.seconds:.0f} | {taken.peak_memory_mib / 1024:.1f} |")
            name = ""
    return "\n".join(lines)


def verified(manifest: Manifest) -> str:
    """Whether the export was verified, which is most of its time."""
    return "verified" if manifest.parity.status == "passed" else "not verified"


if __name__ == "__main__":
    main()
