"""The paper's mixture: exact over a cycle, a pure function of the seed, the same from any place."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mats_ray.config.data import MixtureConfig
from mats_ray.data.audiotia import paper_weights
from mats_ray.data.mixture import MAX_CYCLE, Mixture, check_layout, mixture_of
from mats_ray.data.order import RowGroup
from mats_ray.errors import ConfigError, DataError

WEIGHTS = {"clotho": 40, "macs": 50.0, "openaqa": 12.5}


def test_each_cycle_holds_every_source_exactly_in_proportion_to_its_weight():
    mixture = Mixture(WEIGHTS, seed=0)

    assert mixture.copies == {"clotho": 16, "macs": 20, "openaqa": 5}
    for cycle in range(3):
        counts = Counter(source for source, _ in mixture.batches(41 * cycle, 41 * (cycle + 1)))
        assert counts == mixture.copies


def test_the_papers_ratios_hold_over_one_cycle():
    weights = paper_weights()
    mixture = Mixture(weights, seed=7)
    size = len(mixture.cycle)

    counts = Counter(source for source, _ in mixture.batches(0, size))

    for source, weight in weights.items():
        assert counts[source] / size == pytest.approx(weight / sum(weights.values()), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 200), length=st.integers(0, 120), seed=st.integers(0, 99))
def test_batches_from_any_place_are_the_rest_of_the_unbroken_stream(start, length, seed):
    mixture = Mixture(WEIGHTS, seed=seed)

    assert list(mixture.batches(start, start + length)) == list(mixture.batches(0, start + length))[start:]


def test_batches_of_a_source_are_counted_without_a_gap():
    of_macs = [index for source, index in Mixture(WEIGHTS, seed=1).batches(0, 300) if source == "macs"]

    assert of_macs == list(range(len(of_macs)))


def test_cycles_are_shuffled_anew_by_seed():
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


def mixed(weights, groups=SORTED):
    config = MixtureConfig.model_validate({"by": "source", "weights": weights})
    return mixture_of(config, groups, seed=0, where="out/embedded")


def test_the_sources_that_have_rows_are_mixed():
    groups, mixture = mixed({"clotho": 3, "macs": 1})
    assert groups == {"clotho": [SORTED[0]], "macs": [SORTED[1]]}
    assert mixture.copies == {"clotho": 3, "macs": 1}
    assert mixed({})[1].copies == {
        "clotho": 4,
        "macs": 5,
    }  # the paper's 40 and 50


def test_a_source_without_a_weight_is_named():
    with pytest.raises(ConfigError, match=r"data\.mixture\.weights names no weight for macs"):
        mixed({"clotho": 1})


def test_a_weight_of_a_source_without_rows_is_named():
    with pytest.raises(
        ConfigError,
        match=r"weights names cloto, of which out/embedded holds no rows to train on; it holds clotho, macs$",
    ):
        mixed({"clotho": 1, "macs": 1, "cloto": 1})


def shares_of(mixture):
    """Number of batches of each source in one cycle."""
    counts = Counter(source for source, _ in mixture.batches(0, len(mixture.cycle)))
    return {source: count / len(mixture.cycle) for source, count in counts.items()}


@pytest.mark.parametrize(
    "weights",
    [
        {name: 1 / prime for name, prime in zip("abcdefgh", (3, 7, 11, 13, 17, 19, 23, 29), strict=True)},
        {"a": 0.123456789, "b": 0.876543211},
        {"a": 0.9996, "b": 0.0004},
        {"a": 1e300, "b": 3e300},
        {"a": 5e-324, "b": 5e-324},
        {"a": 2.0**-30, "b": 3 * 2.0**-30},
    ],
    ids=str,
)
def test_a_bounded_cycle_has_the_shares_of_any_weights(weights):
    mixture = Mixture(weights, seed=0)

    assert len(mixture.cycle) <= MAX_CYCLE
    total = sum(weight / max(weights.values()) for weight in weights.values())
    for source, share in shares_of(mixture).items():
        assert share == pytest.approx(weights[source] / max(weights.values()) / total, abs=1 / MAX_CYCLE)


def test_the_smallest_weight_has_a_batch_in_every_cycle():
    assert Mixture({"a": 0.9996, "b": 0.0004}, seed=0).copies == {"a": 2499, "b": 1}
    assert Mixture({"a": 1, "b": 1e-12, "c": 1e-200}, seed=0).copies == {"a": MAX_CYCLE - 2, "b": 1, "c": 1}


@settings(max_examples=100, deadline=None)
@given(weights=st.dictionaries(st.text(max_size=3), st.floats(1e-300, 1e300), min_size=1, max_size=40))
def test_every_source_has_its_share_rounded_and_never_nothing(weights):
    copies = Mixture(weights, seed=0).copies

    assert copies.keys() == weights.keys()
    assert min(copies.values()) >= 1
    assert sum(copies.values()) <= MAX_CYCLE
    ordered = sorted(weights, key=lambda name: (weights[name], copies[name]))
    assert [copies[name] for name in ordered] == sorted(copies.values())  # more weight, no fewer batches


def test_the_order_in_which_weights_are_given_does_not_matter():
    names = "abcdefg"
    cycles = [Mixture(dict.fromkeys(order, 1 / 1009), seed=0).cycle for order in (names, names[::-1])]

    assert cycles[0] == cycles[1]


def test_more_sources_than_a_cycle_has_batches_are_refused():
    most = {str(source): 1 / (source + 3) for source in range(MAX_CYCLE)}

    assert set(Mixture(most, seed=0).copies.values()) == {1}
    with pytest.raises(ConfigError, match="mixes 10001 sources; at most 10000 are possible"):
        Mixture({**most, "one more": 1}, seed=0)


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ({"clotho": 40, "macs": 50}, "mcccmmmcm"),
        ({"clotho": 1.5, "macs": 0.5, "openaqa": 1.0}, "coocmcccc"),
    ],
)
def test_the_order_of_simple_ratios_does_not_change_between_versions(weights, order):
    batches = Mixture(weights, seed=3).batches(0, len(order))

    assert "".join(source[0] for source, _ in batches) == order
