"""What a search does with logits; that it equals transformers' generate is shown in test_stepwise.py."""

import math

import pytest
import torch

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
