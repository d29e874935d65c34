"""Bundles of Qwen2-VL against OpenVINO GenAI with its CDPruner, on this machine, taking turns.

OpenVINO's export wants older packages than ours, so it has an environment of its own (16 GiB of memory):

    python -m venv /tmp/openvino
    /tmp/openvino/bin/pip install optimum-intel nncf openvino-genai "transformers==5.0.0" "huggingface_hub<1.22"
    /tmp/openvino/bin/optimum-cli export openvino -m CHECKPOINT --task image-text-to-text \
        --weight-format int4 --group-size 128 --ratio 1.0 /tmp/openvino-2b
    pip install openvino-genai
    python benchmarks/peer_openvino.py /tmp/openvino-2b --bundle BUNDLE [--bundle BUNDLE] --threads 2

All get the photo at the bundles' size and the same question, and OpenVINO is told to drop the share of visual tokens
that the pruned bundle drops; it is timed unpruned, too. Baseline: OpenVINO pruned.
"""

import argparse
import sys
from functools import partial
from importlib.resources import files
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np
import openvino
import openvino_genai
from vlmp.runtimes import Session, Timings, load
from vlmp.runtimes.image import open_image
from vlmp.runtimes.prompt import first_ids, load_tokenizer
from vlmp.runtimes.turn import first_turn

PHOTO = Path(str(files("vlmp.runtimes"))) / "assets" / "photo.jpg"
_turn = count()


def main() -> None:
    """Time in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("openvino", type=Path, help="folder of OpenVINO's export")
    parser.add_argument("--bundle", type=Path, action="append", required=True, help="ours; repeatable")
    parser.add_argument("--prompt", default="What is in this picture?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--decode-tokens", type=int, default=16)
    arguments = parser.parse_args()

    sessions = {str(bundle): load(bundle, threads=arguments.threads) for bundle in arguments.bundle}
    sizes = {(one.manifest.shape.image.height, one.manifest.shape.image.width) for one in sessions.values()}
    if len(sizes) != 1:
        sys.exit("peer_openvino.py: bundles of different image sizes cannot be compared")
    (side,) = sizes
    shapes = [one.manifest.shape for one in sessions.values()]
    shares = {round(100 * (1 - one.num_kept / one.image.visual_tokens)) for one in shapes} - {0}
    if len(shares) > 1:
        sys.exit("peer_openvino.py: bundles that keep different shares cannot be compared")
    percent = next(iter(shares), 89)
    pipeline = openvino_genai.VLMPipeline(str(arguments.openvino), "CPU", INFERENCE_NUM_THREADS=arguments.threads)

    turns = {
        f"OpenVINO, {share} % pruned": partial(
            time_openvino, pipeline, side, arguments.prompt, share, arguments.decode_tokens
        )
        for share in (percent, 0)
    } | {
        name: partial(
            time_ours, one, first_ids(load_tokenizer(Path(name), one.manifest), one.manifest.prompt, arguments.prompt),
            arguments.decode_tokens,
        )
        for name, one in sessions.items()
    }  # fmt: skip
    taken: dict[str, list[Timings]] = {name: [] for name in turns}
    for run in range(1 + arguments.runs):  # the first warms up
        for name, turn in turns.items():
            timings = turn()
            if run:
                taken[name].append(timings)
    print(f"{side[1]} x {side[0]} pixels, {arguments.threads} threads, medians of {arguments.runs} turns, ms")
    print(f"{'':60} {'vision':>8} {'prefill':>8} {'first token':>12} {'a token':>8} {'baseline / this':>16}")
    baseline = median(one.first_token_ms for one in next(iter(taken.values())))
    for name, timings_of in taken.items():
        vision = median(one.vision_ms + one.preprocess_ms for one in timings_of)
        prefill = median(one.prefill_ms for one in timings_of)
        first = median(one.first_token_ms for one in timings_of)
        token = median(one.decode_ms / one.decoded_tokens for one in timings_of)
        print(f"{name:60} {vision:8.0f} {prefill:8.0f} {first:12.0f} {token:8.1f} {baseline / first:16.2f}")


def time_ours(session: Session, ids: list[int], decode_tokens: int) -> Timings:
    """A first turn; end tokens do not end it."""
    return first_turn(session, PHOTO, ids, 1 + decode_tokens).timings


def time_openvino(
    pipeline: "openvino_genai.VLMPipeline", side: tuple[int, int], prompt: str, percent: int, decode_tokens: int
) -> Timings:
    """One turn. What GenAI calls preparing the embeddings is vision here, with the picture's resize."""
    photo = open_image(PHOTO).resize((side[1], side[0]))
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = 1 + decode_tokens, True, False
    config.pruning_ratio = percent
    # Another picture each time: a repeated one may be found in GenAI's cache of prefixes.
    picture = openvino.Tensor(np.roll(np.asarray(photo), next(_turn), axis=1)[None].copy())
    metrics = pipeline.generate(prompt, images=[picture], generation_config=config).perf_metrics
    vision, first = metrics.get_prepare_embeddings_duration().mean, metrics.get_ttft().mean
    return Timings(
        load_ms=0,
        preprocess_ms=0,
        vision_ms=vision,
        prefill_ms=first - vision,
        decode_ms=metrics.get_tpot().mean * decode_tokens,
        decoded_tokens=decode_tokens,
    )


if __name__ == "__main__":
    main()
