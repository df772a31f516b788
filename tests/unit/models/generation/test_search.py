"""A search on given logits; that it equals transformers' generate is shown in test_batch.py."""

import math

import pytest
import torch

from mats_ray.errors import AnswerError
from mats_ray.models.generation.search import (
    Penalties,
    SearchSettings,
    TokenSequence,
    advance,
    make_search,
)

EOS = 3
NONE = Penalties()


def logits(*rows):
    return torch.tensor(rows, dtype=torch.float32)


class SingleSearch:
    """A search with one answer."""

    def __init__(self, **options):
        settings = SearchSettings(**{"max_new_tokens": 4, "penalties": NONE} | options)
        self.answer = TokenSequence(settings, stream=True)
        self._search = make_search([self.answer], eos_id=EOS)

    def advance(self, rows):
        """Return parents and tokens, or None if the answer is finished."""
        step = advance(self._search, rows)
        assert self.answer.is_finished == (step == ([], []))
        return None if self.answer.is_finished else step

    @property
    def ids(self):
        return self.answer.ids


def line(**options):
    return SingleSearch(**options)


def beam(**options):
    return SingleSearch(**{"num_beams": 2} | options)


def test_greedy_chooses_the_likeliest_and_ends_at_eos():
    search = line()

    assert search.advance(logits([0, 2, 1, 0])) == ([0], [1])
    assert search.advance(logits([0, 0, 1, 2])) is None
    assert (search.ids, search.answer.ended) == ([1], True)


def test_an_answer_is_cut_at_its_longest():
    search = line(max_new_tokens=2)

    search.advance(logits([0, 2, 1, 0]))

    assert search.advance(logits([0, 0, 2, 0])) is None
    assert (search.ids, search.answer.ended) == ([1, 2], False)


def test_sampled_tokens_depend_on_the_seed_alone():
    def sampled(seed):
        search = line(temperature=1.0, seed=seed, max_new_tokens=40)
        while search.advance(logits([1, 1, 1, -100])) is not None:
            pass
        return search.ids

    assert sampled(7) == sampled(7)
    assert sampled(7) != sampled(8)
    assert set(sampled(7)) == {0, 1, 2}


def test_sampled_tokens_depend_on_no_other_answer():
    answers = [
        TokenSequence(SearchSettings(max_new_tokens=20 + n, temperature=n % 3, seed=n)) for n in range(6)
    ]
    row, search = [1, 1, 1, -100], make_search(answers, eos_id=EOS)
    advance(search, logits(*[row] * 6))
    search = search.selected([5, 1, 2, 4])
    while search.sequences:
        advance(search, logits(*[row] * len(search.sequences)))

    for n in (1, 2, 4, 5):
        alone = line(max_new_tokens=20 + n, temperature=n % 3, seed=n)
        while alone.advance(logits(row)) is not None:
            pass
        assert answers[n].ids == alone.ids


def test_samples_follow_the_probabilities():
    row = logits([math.log(0.7), math.log(0.2), math.log(0.1), -100])
    search = line(temperature=1.0, max_new_tokens=3000)

    while search.advance(row) is not None:
        pass

    shares = torch.bincount(torch.tensor(search.ids), minlength=3) / 3000
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.03, rtol=0)


def test_top_p_leaves_the_unlikely_out():
    row = logits([math.log(0.5), math.log(0.3), math.log(0.2), -100])
    search = line(temperature=1.0, top_p=0.6, max_new_tokens=300)

    while search.advance(row) is not None:
        pass

    assert set(search.ids) == {0, 1}


def test_a_penalty_looks_at_generated_ids():
    search = line(penalties=Penalties(no_repeat_ngram_size=1))

    search.advance(logits([0, 2, 1, 0]))

    assert search.advance(logits([0, 2, 1, 0])) == ([0], [2])


def test_beams_keep_the_best_two_and_publish_only_what_is_settled():
    search = beam(max_new_tokens=3)
    sure, torn = [9.0, 0, 0, -50], [1.0, 0.9, -50, -50]

    parents, _ = search.advance(logits(sure))
    assert parents == [0, 0]
    assert search.ids == []  # the second beam starts otherwise

    assert search.advance(logits(torn, [-50, -50, -50, -50])) == ([0, 0], [0, 1])
    assert search.ids == [0]  # now both start alike

    assert search.advance(logits(torn, torn)) is None
    assert search.ids == [0, 0, 0]
    assert not search.answer.ended


def test_a_finished_beam_is_kept_beside_unfinished_ones():
    search = beam(max_new_tokens=9)
    sure, end = [-50.0, 9, 0, -50], [-50.0, -50, -50, 9]

    assert search.advance(logits(sure)) == ([0, 0], [1, 2])

    assert search.advance(logits(end, end)) is None
    assert (search.ids, search.answer.ended) == ([1], True)


@pytest.mark.parametrize("beams", [2, 4])
def test_more_beams_than_continuations_is_no_matter(beams):
    search = beam(num_beams=beams, max_new_tokens=2)

    parents, _ = search.advance(logits([2.0, 1, 0, -1]))
    assert parents == [0] * beams
    assert search.advance(logits(*[[2.0, 1, 0, -1]] * beams)) is None

    assert search.ids[0] == 0


BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@BOTH
@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-45, 1e-38, 1e-30, 1e-12])
@pytest.mark.parametrize("seed", range(3))
def test_a_temperature_near_zero_is_greedy(temperature, seed, dtype):
    row = logits([-7, 40, 39, -30000], [4, 1, 2, 3], [-1e38, -3e38, -2e38, -3e38]).to(dtype)
    search = line(temperature=temperature, seed=seed)

    assert [search.advance(row[n : n + 1])[1] for n in range(3)] == [[1], [0], [0]]


@BOTH
def test_equal_scores_at_a_subnormal_temperature_are_greedy_too(dtype):
    search = line(temperature=1e-320, seed=5, max_new_tokens=40)

    while search.advance(logits([1, 2, 2, 0]).to(dtype)) is not None:
        pass

    assert set(search.ids) == {1}


@BOTH
@pytest.mark.parametrize("top_p", [5e-324, 1e-40, 1e-9])
def test_the_smallest_top_p_leaves_the_likeliest(top_p, dtype):
    search = line(temperature=2.0, top_p=top_p, max_new_tokens=40)

    while search.advance(logits([1, 2, 1.5, 0]).to(dtype)) is not None:
        pass

    assert set(search.ids) == {1}


@BOTH
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", [line, lambda: line(temperature=1.0), beam])
def test_logits_that_are_not_finite_never_become_an_answer(make, bad, dtype):
    row = logits([bad] * 4 if bad == -math.inf else [0, 1, bad, 2]).to(dtype)
    search = make()

    with pytest.raises(AnswerError, match="not finite") as caught:
        search.advance(row)

    assert caught.value.code == "answer_failed"
    assert search.ids == []


@BOTH
@pytest.mark.parametrize("make", [line, lambda: line(temperature=1.0), beam])
def test_a_token_that_is_ruled_out_by_the_model_is_not_chosen(make, dtype):
    step = make().advance(logits([-math.inf, -math.inf, -50, 1]).to(dtype))

    assert step is None or 2 in step[1]


@BOTH
@pytest.mark.parametrize("make", [line, beam])
def test_an_answer_whose_every_continuation_is_forbidden_fails(make, dtype):
    search = make(penalties=Penalties(no_repeat_ngram_size=1), max_new_tokens=9)
    rows = logits(*[[3.0, 2, 1, -60]] * 2)[:, :3].to(dtype)  # a vocabulary without EOS

    with pytest.raises(AnswerError, match="not finite"):
        all(search.advance(rows[: search.answer.settings.num_beams if n else 1]) for n in range(9))


@BOTH
@pytest.mark.parametrize(("penalty", "second"), [(1e-40, 1), (1e-300, 1), (1e38, 0), (1e300, 0)])
def test_an_extreme_repetition_penalty_moves_repetitions_to_an_end(penalty, second, dtype):
    search = line(penalties=Penalties(repetition_penalty=penalty))

    search.advance(logits([0.5, 2, -1, -2]).to(dtype))

    assert search.advance(logits([0.5, 2, -1, -2]).to(dtype))[1] == [second]


@pytest.mark.parametrize("penalties", [{"repetition_penalty": 0.0}, {"no_repeat_ngram_size": -1}])
def test_penalties_that_mean_nothing_are_refused(penalties):
    with pytest.raises(ValueError, match="strictly positive"):
        line(penalties=Penalties(**penalties)).advance(logits([0, 2, 1, 0]))


@BOTH
def test_an_ngram_longer_than_any_answer_forbids_nothing(dtype):
    search = line(penalties=Penalties(no_repeat_ngram_size=2**62))

    assert [search.advance(logits([0, 2, 1, 0]).to(dtype))[1] for _ in range(3)] == [[1]] * 3
