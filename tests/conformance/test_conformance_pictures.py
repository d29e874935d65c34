"""Python's fitting of photos against the conformance files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance_files import FOLDER, read
from conformance_readers import REFUSED
from make_pictures import image_spec
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.image import open_image, to_pixels

CASES = read("picture/cases.json")


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_pictures(case: dict[str, Any]) -> None:
    spec = image_spec(case["height"], case["width"], case["fit"], case["resample"])
    assert list(spec.pad_rgb) == case["pad_rgb"]
    found = to_pixels(open_image(FOLDER / "picture" / case["file"]), spec)
    wanted = np.fromfile(FOLDER / "picture" / case["fitted"], np.uint8).reshape(case["height"], case["width"], 3)
    assert np.abs(found[0].transpose(1, 2, 0) - wanted).max() <= case["most"]


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["file"])
def test_pictures_that_are_none(case: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=REFUSED[case["refused"]]):
        open_image(FOLDER / "picture" / case["file"])
