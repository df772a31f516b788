from mats_ray.data.audiotia import PARTS, paper_weights
from mats_ray.data.sources.registry import SOURCES


def test_the_table_is_the_papers():
    """Table S8: 385 K + 518 K + 20 K + 497 K + 30 K closed-ended, 3.8 M open-ended; ratios sum to 1690."""
    assert len(PARTS) == 23
    assert sum(part.ratio for part in PARTS) == 1690
    rows = {part.file: part.rows_k for part in PARTS}
    assert round(sum(rows.values())) == 5203
    assert rows["combine_aqa_except_no_a_final"] + rows["MusicQA"] == 3754


def test_every_file_has_a_source_of_ours_or_a_reason_why_not():
    for part in PARTS:
        assert all(name in SOURCES for name in part.sources), part
        assert part.sources or len(part.note) > 20, part


def test_sources_that_stand_for_one_file_share_its_ratio():
    weights = paper_weights()

    assert weights["crema_d"] == weights["ravdess"] == 35
    assert weights["openaqa"] == 300
    assert sum(weights.values()) == 1690 - 180
    assert len(weights) == sum(len(part.sources) for part in PARTS)
