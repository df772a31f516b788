"""The paper's mixture: exact over a deck, a pure function of the seed, the same from any place."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mats_ray.data.mixture import Mixture, check_layout, groups_by_source
from mats_ray.data.order import RowGroup
from mats_ray.data.sources.audiotia import paper_weights
from mats_ray.errors import ConfigError, DataError

WEIGHTS = {"clotho": 40, "macs": 50.0, "openaqa": 12.5}


def test_each_deck_holds_every_source_exactly_as_often_as_its_weight_says():
    mixture = Mixture(WEIGHTS, seed=0)

    assert mixture.copies == {"clotho": 16, "macs": 20, "openaqa": 5}
    for cycle in range(3):
        dealt = Counter(source for source, _ in mixture.batches(41 * cycle, 41 * (cycle + 1)))
        assert dealt == mixture.copies


def test_the_papers_ratios_come_out_over_one_deck():
    weights = paper_weights()
    mixture = Mixture(weights, seed=7)
    size = len(mixture.deck)

    dealt = Counter(source for source, _ in mixture.batches(0, size))

    for source, weight in weights.items():
        assert dealt[source] / size == pytest.approx(weight / sum(weights.values()), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 200), length=st.integers(0, 120), seed=st.integers(0, 99))
def test_batches_from_any_place_are_the_rest_of_the_unbroken_stream(start, length, seed):
    mixture = Mixture(WEIGHTS, seed=seed)

    assert list(mixture.batches(start, start + length)) == list(mixture.batches(0, start + length))[start:]


def test_batches_of_a_source_are_counted_without_a_gap():
    of_macs = [index for source, index in Mixture(WEIGHTS, seed=1).batches(0, 300) if source == "macs"]

    assert of_macs == list(range(len(of_macs)))


def test_decks_are_shuffled_anew_and_by_seed():
    def order(seed, cycle):
        return [source for source, _ in Mixture(WEIGHTS, seed=seed).batches(41 * cycle, 41 * cycle + 41)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


MIXED = [RowGroup("out/embedded/part-00000.parquet", 0, 5)]
SORTED = [RowGroup(f"out/embedded/of-{source}/part-00000.parquet", 0, 5) for source in ("clotho", "macs")]


def test_files_laid_out_for_the_other_mixture_are_refused():
    check_layout(MIXED, by="rows", where="x")
    check_layout(SORTED, by="source", where="x")
    with pytest.raises(
        DataError, match=r"x was embedded with data\.mixture\.by=rows, .* says source; run `mats emb"
    ):
        check_layout(MIXED, by="source", where="x")
    with pytest.raises(DataError, match="by=source, the configuration says rows"):
        check_layout(SORTED, by="rows", where="x")


def test_a_source_without_a_weight_is_named():
    assert groups_by_source(SORTED, WEIGHTS) == {"clotho": [SORTED[0]], "macs": [SORTED[1]]}
    with pytest.raises(ConfigError, match=r"data\.mixture\.weights names no weight for macs"):
        groups_by_source(SORTED, {"clotho": 1})
