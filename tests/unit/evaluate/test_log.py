"""A log keeps every sample, and belongs to one evaluation."""

import pytest

from mats_ray.errors import ConfigError, DataError
from mats_ray.evaluate.log import EvaluationLog, Row, find_logs, record_of
from tests.unit.evaluate.logs import header, row, write_log


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [
        row("a", "dog", "a dog", task="sound"),
        row("b", "rain", "", "missing"),
        row("c", "x", "", "empty"),
    ]

    log = write_log(tmp_path / "tiny", rows)

    assert log.rows() == rows


def test_an_answer_that_is_not_ok_is_empty_for_scorers():
    failed = Row(sample=row("a", "dog", "").sample, prompt="", status="error", answer="half an answ")

    assert record_of(failed).answer == ""


def test_the_same_evaluation_goes_on_and_keeps_its_date(tmp_path):
    log = EvaluationLog(str(tmp_path / "tiny"))
    first = log.claim(header(created="2026-01-01T00:00:00Z"))

    again = log.claim(header(created="2026-02-02T00:00:00Z"))

    assert again.created == first.created == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": {"id": "other@2"}}, "model"),
        ({"decoding": "paper"}, "decoding"),
        ({"version": 2}, "version"),
        ({"prompt": {"mode": "upstream_eval", "prefix": "[x]", "example": ""}}, "prompt"),
    ],
)
def test_a_folder_of_another_evaluation_is_refused(tmp_path, changes, key):
    write_log(tmp_path / "tiny", [row("a", "dog", "dog")])

    with pytest.raises(ConfigError, match=f"holds an evaluation with {key} .*; give another folder"):
        EvaluationLog(str(tmp_path / "tiny")).claim(header(**changes))


def test_logs_of_a_folder_are_found_and_nothing_below_them(tmp_path):
    write_log(tmp_path / "esc50", [row("a", "dog", "dog")])
    write_log(tmp_path / "variant" / "esc50", [row("a", "dog", "dog")])

    assert list(find_logs(str(tmp_path))) == ["esc50"]


def test_a_folder_without_a_log_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no evaluation"):
        find_logs(str(tmp_path))


def test_a_log_that_is_cut_off_is_refused(tmp_path):
    log = write_log(tmp_path / "tiny", [row("a", "dog", "dog")])
    whole = (tmp_path / "tiny/samples.parquet").read_bytes()
    (tmp_path / "tiny/samples.parquet").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(DataError, match=r"samples\.parquet is not a readable Parquet file"):
        log.rows()


def test_a_header_that_is_not_one_is_refused(tmp_path):
    log = write_log(tmp_path / "tiny", [row("a", "dog", "dog")])
    (tmp_path / "tiny/evaluation.json").write_text('{"benchmark": "tiny"}')

    with pytest.raises(DataError, match="is no header of an evaluation"):
        log.header()
