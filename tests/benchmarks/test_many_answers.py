"""Answers given together are those given one by one."""

from dataclasses import replace
from pathlib import Path

import pytest
from many_answers import many_answers, see
from vlmp.evaluation.data import DataSet, open_dataset
from vlmp.evaluation.run import answer
from vlmp.evaluation.subjects import fit_text
from vlmp.export.config import ExportConfig
from vlmp.export.eager import open_eager
from vlmp.export.schedule import parse_schedule

MOST = 8
CONFIG = ExportConfig(model="vlmp-tiny", targets=(), output=Path("unused"), text_len=16, max_new_tokens=MOST)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return open_dataset("scenes:test", seed=5, questions=36)


@pytest.mark.parametrize("schedule", ["2:1:none", "1:0.5:dart+3:0.08", "2:0.111:fastv"])
def test_answers_are_those_given_one_by_one(data: DataSet, schedule: str) -> None:
    chat = open_eager(replace(fit_text(CONFIG, data), stages=parse_schedule(schedule)))
    seen = see(chat, data)
    wanted = [answer(chat, seen[one.image_id], one.question, MOST) for one in data.examples]
    assert many_answers(chat, seen, data, MOST) == wanted
    assert len(set(wanted)) > 5
