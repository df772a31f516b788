import json
from collections import Counter

import pytest

from mats_ray.data.prepare.prepare_report import CHECK_AFTER, Counts, PrepareReport
from mats_ray.errors import DataError


def report(**changes):
    counts = Counts(written=6, by_split=Counter(train=3), dropped=Counter({"split test": 2}), **changes)
    return PrepareReport("out/triplets", written_files=True, sources={"clotho": counts}, seconds=2.0)


def test_counts_add_up_and_survive_json():
    one, two = (
        Counts(written=1, by_split=Counter(train=1), num_bytes=5),
        Counts(rejected=2, first_rejected="a row 3"),
    )
    one.add(two)

    assert Counts.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert (one.records, one.first_rejected) == (3, "a row 3")


def test_the_table_lists_kept_and_dropped_records_by_source_and_reason():
    table = report(rejected=1, first_rejected="a.csv row 3: empty caption").table()

    assert table.splitlines()[1].split() == ["clotho", "6", "6", "2", "1"]
    assert "kept, train: 3" in table
    assert "dropped, split test: 2" in table
    assert "first rejected: a.csv row 3: empty caption" in table
    assert table.splitlines()[-1].split() == ["all", "6", "6", "2", "1"]


def test_the_summary_distinguishes_a_dry_run():
    assert (
        report()
        .summary()
        .startswith("6 triplets of 5 records written to out/triplets; 2 dropped, 0 rejected")
    )
    dry = PrepareReport("out", written_files=False)
    assert "would be written to out" in dry.summary()


def test_too_many_rejected_records_end_the_job_naming_numbers_and_where_they_are():
    bad = report(rejected=1, first_rejected="a.csv row 3: empty caption")

    with pytest.raises(DataError, match=r"1 of 6 records cannot be used, .*=0\.1 lets pass; .*a\.csv row 3"):
        bad.check(0.1, final=True)
    bad.check(0.2, final=True)
    bad.check(0.0, final=False)  # too early to tell
    bad.sources["clotho"].by_split["train"] += CHECK_AFTER
    with pytest.raises(DataError, match="out/triplets/rejected"):
        bad.check(0.0, final=False)
