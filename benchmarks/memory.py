"""What a loaded bundle takes in memory against one copy of its weights.

    python benchmarks/memory.py BUNDLE [--runtime-defaults]

Loads all methods in a fresh process, runs each once, and reads /proc/self/smaps_rollup (Linux).
`--runtime-defaults` switches XNNPACK's weight cache off, which ExecuTorch sessions turn on: that is the baseline.
"""

import argparse
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
from vlmp.runtimes import load
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.image import open_image, to_pixels

MIB = 1 << 20
WEIGHT_FILES = ("weights.bin", "weights.ptd", "weight.bin")


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runtime-defaults", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        measure(arguments.bundle, runtime_defaults=arguments.runtime_defaults)
        return
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--inside"], check=True)


def measure(bundle: Path, *, runtime_defaults: bool) -> None:
    """Load and run in this process."""
    manifest = read_manifest(bundle, check_hashes=False)
    weights = sum(file.size_bytes for file in manifest.files if Path(file.path).name in WEIGHT_FILES)
    if runtime_defaults:
        switch_layout_off(manifest.target)
    else:
        load_libraries(manifest.target)
    before = usage()
    session = load(bundle, check_hashes=False)
    loaded = usage()
    photo = Path(str(files("vlmp.runtimes"))) / "assets" / "photo.jpg"
    visual = session.vision(to_pixels(open_image(photo), manifest.shape.image))
    token = int(np.argmax(session.prefill([1, 2, 3], visual).logits))
    session.decode(token)
    session.extend([1, 2, 3])
    ran = usage()
    print(
        f"{manifest.target}{' (runtime defaults)' if runtime_defaults else ''}: weights {weights / MIB:.0f} MiB; "
        f"memory after loading {(loaded[0] - before[0]) / MIB:.0f} MiB, after running all methods "
        f"{(ran[0] - before[0]) / MIB:.0f} MiB ({(ran[0] - before[0]) / weights:.2f}x the weights), of which "
        f"{(ran[1] - before[1]) / MIB:.0f} MiB anonymous; peak of the whole process {peak() / MIB:.0f} MiB"
    )


def load_libraries(target: str) -> None:
    """Import the runtime first, so that its code is not counted."""
    if target == "onnx":
        import vlmp.runtimes.onnx
    elif target == "executorch":
        import vlmp.runtimes.executorch
    else:
        import vlmp.runtimes.coreml.session  # noqa: F401


def switch_layout_off(target: str) -> None:
    """The runtime as it comes."""
    if target != "executorch":
        raise SystemExit(f"{target}: sessions change nothing of how it keeps weights, leave --runtime-defaults out")
    from vlmp.runtimes.executorch import ExecuTorchSession

    ExecuTorchSession.share_packed = False


def peak() -> int:
    """Most resident bytes that this process ever had, interpreter and libraries included."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def usage() -> tuple[int, int]:
    """(proportional, anonymous) bytes of this process: a page that is mapped three times counts once."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return values["Pss"], values["Anonymous"]


if __name__ == "__main__":
    main()
