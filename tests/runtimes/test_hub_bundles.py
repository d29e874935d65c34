"""Bundles in the Hugging Face cache, whose files are links, on every runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_cases import as_in_a_cache, swap
from shared_exports import exported
from vlmp.export.config import ExportConfig
from vlmp.runtimes import Chat, load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import MANIFEST_NAME, read_manifest
from vlmp.runtimes.profile.adb.files import bundle_items

PHOTO = Path(__file__).parents[2] / "runtimes/assets/photo.jpg"
QUESTION = "What is in this picture?"


@pytest.fixture(scope="module", params=["onnx", "executorch", "coreml"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ExportConfig(
        model="vlmp-tiny", targets=(request.param,), output=Path(), pruner="none", image_size=(112, 112),
        text_len=16, max_new_tokens=24, verify=False,
    )  # fmt: skip
    return exported(tmp_path_factory, config)


def test_a_bundle_in_the_cache_answers(bundle: Path, tmp_path: Path) -> None:
    snapshot = as_in_a_cache(bundle, tmp_path)
    assert all(path.is_symlink() for path in snapshot.rglob("*") if path.is_file())
    wanted = Chat(load(bundle, threads=1)).ask(PHOTO, QUESTION, 4)
    for check_hashes in (True, False):
        chat = Chat(load(snapshot, check_hashes=check_hashes, threads=1))
        assert chat.ask(PHOTO, QUESTION, 4).token_ids == wanted.token_ids
    (tmp_path / "link").symlink_to(snapshot)
    assert Chat(load(tmp_path / "link", threads=1)).ask(PHOTO, QUESTION, 4).token_ids == wanted.token_ids


def test_a_link_to_other_content_is_refused(bundle: Path, tmp_path: Path) -> None:
    for place, entry in enumerate(read_manifest(bundle).files):
        snapshot = as_in_a_cache(bundle, tmp_path / str(place))
        swap(snapshot / entry.path)
        with pytest.raises(UserError, match="is damaged"):
            load(snapshot, check_hashes=False)


def test_a_phone_gets_the_files(bundle: Path, tmp_path: Path) -> None:
    """What is pushed is what adb reads when it opens a link."""
    snapshot = as_in_a_cache(bundle, tmp_path)
    found = {item.place: (item.sha256, item.size, item.source.read_bytes()) for item in bundle_items(snapshot, "a")}
    wanted = {item.place: (item.sha256, item.size, item.source.read_bytes()) for item in bundle_items(bundle, "a")}
    assert found == wanted
    assert f"a/{MANIFEST_NAME}" in found
