from mats_ray.data.audiotia import FILES, paper_weights
from mats_ray.data.sources.registry import SOURCES


def test_the_table_is_the_papers():
    """Table S8: 385 K + 518 K + 20 K + 497 K + 30 K closed-ended, 3.8 M open-ended; ratios sum to 1690."""
    assert len(FILES) == 23
    assert sum(file.ratio for file in FILES) == 1690
    rows = {file.file: file.rows_k for file in FILES}
    assert round(sum(rows.values())) == 5203
    assert rows["combine_aqa_except_no_a_final"] + rows["MusicQA"] == 3754


def test_every_file_has_a_source_of_ours_or_a_reason_why_not():
    for file in FILES:
        assert all(name in SOURCES for name in file.sources), file
        assert file.sources or len(file.note) > 20, file


def test_sources_that_stand_for_one_file_share_its_ratio():
    weights = paper_weights()

    assert weights["crema_d"] == weights["ravdess"] == 35
    assert weights["openaqa"] == 300
    assert sum(weights.values()) == 1690 - 180
    assert len(weights) == sum(len(file.sources) for file in FILES)
