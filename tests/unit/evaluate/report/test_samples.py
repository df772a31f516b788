"""Which samples are shown: wrong and right ones over all ids, the same every time."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.errors import DataError, MissingError
from mats_ray.evaluate.report.samples import NUM_EACH, choose, read_shown, spread
from tests.unit.evaluate.report.results import sample, write_samples


def test_wrong_and_right_ones_are_spread_over_the_ids(tmp_path):
    rows = [sample(f"{n:03d}", score=float(n % 2)) for n in range(200)]

    shown = read_shown(write_samples(tmp_path / "samples.parquet", rows))

    assert shown.are_right_or_wrong
    assert [one.id for one in shown.worst] == [f"{n:03d}" for n in range(0, 200, 20)]
    assert [one.id for one in shown.best] == [f"{n:03d}" for n in range(1, 200, 20)]
    assert {one.score for one in shown.worst} == {0.0}


def test_the_choice_depends_neither_on_the_order_of_rows_nor_on_row_groups(tmp_path):
    rows = [sample(f"{n:03d}", score=float(n % 3 == 0)) for n in range(100)]
    shuffled = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]

    first = read_shown(write_samples(tmp_path / "a.parquet", rows))
    second = read_shown(write_samples(tmp_path / "b.parquet", shuffled, row_group_size=7))

    assert first == second


def test_the_lowest_and_the_highest_scores_are_shown_where_scores_are_no_verdicts(tmp_path):
    rows = [sample(f"{n:02d}", score=n / 50) for n in range(60)]

    shown = read_shown(write_samples(tmp_path / "samples.parquet", rows))

    assert not shown.are_right_or_wrong
    assert [one.id for one in shown.worst] == [f"{n:02d}" for n in range(10)]
    assert [one.id for one in shown.best] == [f"{n:02d}" for n in range(59, 49, -1)]


def test_equal_scores_at_the_edge_are_spread_by_id():
    scores_N = np.array([0.1] * 3 + [0.2] * 70 + [0.9] * 100)

    worst = choose(scores_N, np.ones(173, bool))["worst"]

    assert worst.tolist() == [0, 1, 2, 3, 13, 23, 33, 43, 53, 63]


def test_a_sample_is_never_shown_twice():
    picks = choose(np.array([0.5, 0.7, 0.9]), np.ones(3, bool))

    assert sorted(np.concatenate(list(picks.values())).tolist()) == [0, 1, 2]


def test_where_all_are_wrong_none_is_shown_as_right():
    picks = choose(np.zeros(50), np.ones(50, bool))

    assert len(picks["worst"]) == NUM_EACH
    assert len(picks["best"]) == 0


def test_what_was_not_answered_is_no_sample_to_listen_to(tmp_path):
    rows = [
        sample(f"{n}", score=0.0, status=status) for n, status in enumerate(("missing", "error", "empty"))
    ]

    shown = read_shown(write_samples(tmp_path / "samples.parquet", rows))

    assert [one.id for one in shown.worst] == ["2"]


def test_samples_without_a_score_are_spread_by_id(tmp_path):
    rows = [sample(f"{n:02d}", score=None) for n in range(40)]

    shown = read_shown(write_samples(tmp_path / "samples.parquet", rows))

    assert [one.id for one in shown.unscored] == [f"{n:02d}" for n in range(0, 40, 2)]
    assert not any((shown.worst, shown.best))


def test_the_first_failure_of_each_code_is_shown(tmp_path):
    rows = [
        sample(f"{n}", score=0.0, status="error", error_code=code, error=f"reason {n}")
        for n, code in enumerate(("truncated", "truncated", "not_audio"))
    ]

    shown = read_shown(write_samples(tmp_path / "samples.parquet", rows))

    assert [(one.error_code, one.error) for one in shown.failed] == [
        ("truncated", "reason 0"),
        ("not_audio", "reason 2"),
    ]


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pa.string(), '{"task": "sound"}'), (pa.struct([("task", pa.string())]), {"task": "sound"})],
)
def test_categories_are_read_from_json_and_from_a_struct_too(tmp_path, kind, value):
    path = write_samples(tmp_path / "samples.parquet", [sample("a")])
    table = pq.read_table(path).drop_columns("categories")
    pq.write_table(table.append_column("categories", pa.array([value], kind)), path)

    assert read_shown(path).best[0].categories == {"task": "sound"}


def test_an_empty_file_shows_nothing(tmp_path):
    shown = read_shown(write_samples(tmp_path / "samples.parquet", []))

    assert not any((shown.worst, shown.best, shown.unscored, shown.failed))


def test_absent_columns_are_named(tmp_path):
    path = write_samples(tmp_path / "samples.parquet", [sample("a")])
    pq.write_table(pq.read_table(path).drop_columns(["score", "answer"]), path)

    with pytest.raises(DataError, match="has no column score, answer"):
        read_shown(path)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "samples.parquet"
    path.write_bytes(b"PAR1 and no more")

    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_shown(str(path))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(MissingError):
        read_shown(str(tmp_path / "samples.parquet"))


def test_a_spread_of_few_is_all_of_them():
    assert spread(np.array([4, 7]), 10).tolist() == [4, 7]
    assert spread(np.array([], int), 10).tolist() == []
