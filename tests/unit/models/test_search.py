"""What a search does with logits; that it equals transformers' generate is shown in test_stepwise.py."""

import math

import pytest
import torch

from mats_ray.errors import AnswerError
from mats_ray.models.search import BeamSearch, LineSearch, Penalties, Step

EOS = 3
NONE = Penalties()


def logits(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def line(**options):
    return LineSearch(**{"eos_id": EOS, "max_new_tokens": 4, "penalties": NONE} | options)


def test_greedy_takes_the_likeliest_and_ends_at_eos():
    search = line()

    assert search.advance(logits([0, 2, 1, 0])) == Step([0], [1])
    assert search.advance(logits([0, 0, 1, 2])) is None
    assert (search.ids, search.ended) == ([1], True)


def test_an_answer_is_cut_at_its_longest():
    search = line(max_new_tokens=2)

    search.advance(logits([0, 2, 1, 0]))

    assert search.advance(logits([0, 0, 2, 0])) is None
    assert (search.ids, search.ended) == ([1, 2], False)


def test_what_is_drawn_depends_on_the_seed_alone():
    def drawn(seed):
        search = line(temperature=1.0, seed=seed, max_new_tokens=40)
        while search.advance(logits([1, 1, 1, -100])) is not None:
            pass
        return search.ids

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert set(drawn(7)) == {0, 1, 2}


def test_draws_follow_the_probabilities():
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


def test_a_penalty_looks_at_what_was_said():
    search = line(penalties=Penalties(no_repeat_ngram_size=1))

    search.advance(logits([0, 2, 1, 0]))

    assert search.advance(logits([0, 2, 1, 0])) == Step([0], [2])


def test_beams_keep_the_best_two_and_tell_only_what_is_settled():
    search = BeamSearch(num_beams=2, eos_id=EOS, max_new_tokens=3, penalties=NONE)
    sure, torn = [9.0, 0, 0, -50], [1.0, 0.9, -50, -50]

    first = search.advance(logits(sure))
    assert first.parents == [0, 0]
    assert search.ids == []  # the second beam begins otherwise

    second = search.advance(logits(torn, [-50, -50, -50, -50]))
    assert second == Step([0, 0], [0, 1])
    assert search.ids == [0]  # now both begin alike

    assert search.advance(logits(torn, torn)) is None
    assert search.ids == [0, 0, 0]
    assert not search.ended


@pytest.mark.parametrize("beams", [2, 4])
def test_more_beams_than_continuations_is_no_matter(beams):
    search = BeamSearch(num_beams=beams, eos_id=EOS, max_new_tokens=2, penalties=NONE)

    while search.advance(logits(*[[2.0, 1, 0, -1]] * beams)) is not None:
        pass

    assert search.ids[0] == 0


BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def beam(**options):
    return BeamSearch(**{"num_beams": 2, "eos_id": EOS, "max_new_tokens": 4, "penalties": NONE} | options)


@BOTH
@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-45, 1e-38, 1e-30, 1e-12])
@pytest.mark.parametrize("seed", range(3))
def test_a_temperature_near_zero_is_greedy(temperature, seed, dtype):
    row = logits([-7, 40, 39, -30000], [4, 1, 2, 3], [-1e38, -3e38, -2e38, -3e38]).to(dtype)
    search = line(temperature=temperature, seed=seed)

    assert [search.advance(row[n : n + 1]).tokens for n in range(3)] == [[1], [0], [0]]


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

    assert step is None or 2 in step.tokens


@BOTH
@pytest.mark.parametrize("make", [line, beam])
def test_an_answer_whose_every_continuation_is_forbidden_fails(make, dtype):
    search = make(penalties=Penalties(no_repeat_ngram_size=1), max_new_tokens=9)
    rows = logits(*[[3.0, 2, 1, -60]] * 2)[:, :3].to(dtype)  # a vocabulary without EOS

    with pytest.raises(AnswerError, match="not finite"):
        all(search.advance(rows) for _ in range(9))


@BOTH
@pytest.mark.parametrize(("penalty", "second"), [(1e-40, 1), (1e-300, 1), (1e38, 0), (1e300, 0)])
def test_an_extreme_repetition_penalty_moves_what_was_said_to_an_end(penalty, second, dtype):
    search = line(penalties=Penalties(repetition_penalty=penalty))

    search.advance(logits([0.5, 2, -1, -2]).to(dtype))

    assert search.advance(logits([0.5, 2, -1, -2]).to(dtype)).tokens == [second]


@pytest.mark.parametrize("penalties", [{"repetition_penalty": 0.0}, {"no_repeat_ngram_size": -1}])
def test_penalties_that_mean_nothing_are_refused(penalties):
    with pytest.raises(ValueError, match="strictly positive"):
        line(penalties=Penalties(**penalties)).advance(logits([0, 2, 1, 0]))


@BOTH
def test_an_ngram_longer_than_any_answer_forbids_nothing(dtype):
    search = line(penalties=Penalties(no_repeat_ngram_size=2**62))

    assert [search.advance(logits([0, 2, 1, 0]).to(dtype)).tokens for _ in range(3)] == [[1]] * 3
