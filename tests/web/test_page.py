"""The page in Chromium: its own tests, and what comes of them in Python."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import build_web
import pytest
from app_bundles import BUNDLES
from step_bundles import shared_folder, step_bundle
from vlmp.runtimes import Chat, load
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.schema import read_profile
from web_cases import BROWSER, built, outcomes

STEPS = ("onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4")
PHOTO = build_web.ROOT / "runtimes/assets/photo.jpg"
QUESTION = "What is in this picture?"
MAY_SKIP = {"WebGPU does not agree yet"}
"""A Chromium without a WebGPU adapter cannot tell."""


@dataclass
class Visited:
    """What a run of the page's tests has left. results: what Python compares; output: screenshots, a profile."""

    outcomes: dict[str, str]
    results: dict[str, Any]
    output: Path
    log: str


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Visited:
    """The page's tests, run once. Screenshots go to build/web/screenshots."""
    if BROWSER is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    built()
    bundles = shared_folder(tmp_path_factory)
    for name in STEPS:
        step_bundle(bundles, name)
    output = build_web.ROOT / "build/web/screenshots"
    done = subprocess.run(
        ["npm", "run", "e2e"], cwd=build_web.SOURCE, capture_output=True, text=True, check=False,
        env={**os.environ, "VLMP_BROWSER": BROWSER, "VLMP_BUNDLES": str(bundles), "VLMP_OUTPUT": str(output)},
    )  # fmt: skip
    log = done.stdout + done.stderr
    assert (output / "results.json").is_file(), log[-4000:]
    return Visited(outcomes(done.stdout), json.loads((output / "results.json").read_bytes()), output, log)


def test_all_pass(visited: Visited) -> None:
    bad = [name for name, outcome in visited.outcomes.items() if outcome != "ok"]
    assert len(visited.outcomes) > 20, visited.log[-4000:]
    assert set(bad) <= MAY_SKIP, visited.log[-4000:]
    assert all(visited.outcomes[name] == "skipped" for name in bad), visited.log[-4000:]


def test_the_page_answers_as_python_does(visited: Visited) -> None:
    """Of int4, kernels round differently: as many kept tokens as the manifest's checks allow."""
    answer = Chat(load(build_web.DIST / "bundles/tiny-pruned")).ask(PHOTO, QUESTION)
    found = visited.results["photo"]
    common = set(found["stages"][-1]) & set(answer.kept)
    assert len(common) >= 0.9 * len(answer.kept)
    assert found["tokens"] == answer.token_ids
    assert found["text"] == answer.text


def test_the_pages_benchmark_is_imported(visited: Visited, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main(["--device", "browser", "--import", str(visited.output / "profile.json"), "--json", str(out)])
    profile = read_profile(out)
    assert sorted(bundle.name for bundle in profile.bundles) == sorted(BUNDLES)
    assert profile.machine.facts["runs on"] == "wasm"
    assert profile.settings.photo_size == (180, 120)


def test_the_server_sends_what_threads_need() -> None:
    built()
    with build_web.server(0, build_web.wanted_headers()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for path in ("/", "/sw.js", "/bundles/index.json"):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            assert response.getheader("Cross-Origin-Opener-Policy") == "same-origin"
            assert response.getheader("Cross-Origin-Embedder-Policy") == "require-corp"
            assert "default-src 'none'" in (response.getheader("Content-Security-Policy") or "")
            response.read()
            connection.close()
        server.shutdown()


def test_it_says_where_it_is_and_how_a_phone_gets_there() -> None:
    built()
    command = [sys.executable, build_web.__file__, "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # jobs in the background ignore Ctrl-C
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            assert running.stdout.readline().startswith("built ")
            address = running.stdout.readline().strip()
            port = address.removeprefix("http://localhost:").strip("/")
            assert f"adb reverse tcp:{port} tcp:{port}" in running.stdout.readline()
            assert "HTTPS" in running.stdout.readline()
            running.send_signal(signal.SIGINT)
            assert running.wait(30) == 0
        finally:
            running.kill()
