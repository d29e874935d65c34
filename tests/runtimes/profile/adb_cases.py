"""Bundles and a runner that stand in for real ones where a test is about the phone and not about the model."""

from __future__ import annotations

import json
from pathlib import Path

from adb_phone import Phone
from bundle_cases import image_spec, shape_spec, with_tensors
from estimate_cases import make_manifest
from report_cases import make_profile
from vlmp.runtimes.bundle.folder import write_manifest
from vlmp.runtimes.bundle.manifest import Manifest, PromptSpec

PHASES = ("load_warm", "preprocess", "vision", "prefill", "decode", "first_token")
STAND_IN = "stand-in"
"""Name of the runner's file."""
RUNNER = """\
#!/bin/sh
# vlmp_runner's stand-in: counts its calls, does what $SAID/fault says, and writes what $SAID has of the bundle.
name=$(echo "$1" | grep -o 'bundle-[0-9]*')
while [ $# -gt 0 ]; do
  case "$1" in --json) json=$2;; --etdump) etdump=$2;; --prompt) prompt=$2;; esac
  shift
done
echo "$name $prompt" >> "$SAID/calls"
calls=$(grep -c "" $SAID/calls)
if [ -e $SAID/fault ]; then . $SAID/fault; fi
cat "$SAID/$name.json" > "$json"
if [ -n "$etdump" ]; then cat $SAID/events > "$etdump"; fi
"""


def make_runner(folder: Path) -> Path:
    """The stand-in, as a file to push."""
    path = folder / STAND_IN
    path.write_text(RUNNER)
    return path


def make_bundle_folder(folder: Path, *, kept: int, size: int = 1000) -> Path:
    """A folder that reads as an ExecuTorch bundle. The first of its files is alike in all."""
    folder.mkdir()
    (folder / "tokenizer.json").write_text("the same in both")
    (folder / "model.pte").write_bytes(bytes([kept]) * size)
    manifest = make_manifest(target="executorch")
    prompt = manifest.prompt.model_dump() | {"tokenizer_file": "tokenizer.json", "max_new_tokens": 32}
    methods = {name: spec.model_copy(update={"file": "model.pte"}) for name, spec in manifest.methods.items()}
    room = manifest.prompt.text_len + 32
    shape = shape_spec(image_spec(4, 4), kept=kept, layer=1, layers=2, text_room=room, pruner="none")
    whole = manifest.model_copy(
        update={"prompt": PromptSpec.model_validate(prompt), "methods": methods, "shapes": [shape]}
    )
    write_manifest(folder, Manifest.model_validate(with_tensors(whole.model_dump(mode="json"))))
    return folder


def prepare_results(phone: Phone) -> None:
    """What the stand-in writes of each bundle: a profile of one run."""
    whole = make_profile()
    for place in range(2):
        bundle = whole.bundles[place]
        phases = {name: phase for name, phase in bundle.phases.items() if name in PHASES}
        for name, phase in phases.items():
            phases[name] = phase.model_copy(update={"samples_ms": [phase.median_ms]})
        alone = bundle.model_copy(update={"phases": phases, "operators": [], "operators_ms": {}, "roofline": {}})
        machine = whole.machine.model_copy(update={"runtimes": {"executorch": "1.5.1 (native)"}})
        written = whole.model_copy(update={"bundles": [alone], "estimates": [], "peaks": None, "machine": machine})
        phone.say(f"bundle-{place}.json", json.dumps(json.loads(written.model_dump_json())))


def calls(phone: Phone) -> list[str]:
    """The bundles that were run, in order."""
    path = phone.said / "calls"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []
