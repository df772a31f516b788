"""An answer depends on its clip and its question: not on company, order, padding or repetition."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mats_ray.config.generation import PROFILES
from mats_ray.models.directory import load_model, read_info
from tests.world import CLAP_DIM, tiny_model_dir

MAX_NEW_TOKENS = 8
QUESTIONS = [
    "dog?",
    "Is there a dog?",
    "Describe the following audio in a caption.",
    "rain rain rain rain rain rain?",
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Answers one by one, one run each."""
    model, prompts = load_model(read_info(tiny_model_dir(tmp_path_factory.mktemp("tiny"))))

    def generate(pairs, profile):
        clips = torch.stack([clip(seed) for seed, _ in pairs])
        after = [prompts.after(QUESTIONS[question]) for _, question in pairs]
        return model.generate(clips, after, max_new_tokens=MAX_NEW_TOKENS, **PROFILES[profile].as_kwargs())

    return generate, cache(lambda pair, profile: generate([pair], profile)[0])


def clip(seed):
    return torch.randn(CLAP_DIM, generator=torch.Generator().manual_seed(seed))


pairs = st.tuples(st.integers(0, 5), st.integers(0, len(QUESTIONS) - 1))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_batch_answers_as_single_calls_do(alone, profile):
    generate, single = alone

    @settings(deadline=None, max_examples=20, database=None)
    @given(st.lists(pairs, min_size=1, max_size=6))
    def check(batch):
        assert generate(batch, profile) == [single(pair, profile) for pair in batch]

    check()
