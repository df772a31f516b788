"""The encoder is frozen, can move, and can travel to a worker process."""

import pickle

import torch

from mats_ray.models.clap import load_clap
from tests.unit.models.clap.small import noise


def test_nothing_in_it_can_be_trained(clap_dir):
    clap = load_clap(clap_dir)

    assert not any(parameter.requires_grad for parameter in clap.towers.parameters())
    assert not clap.towers.training
    assert not clap.encode_text(["a dog"]).requires_grad


def test_it_moves_and_says_where_it_is(clap_dir):
    clap = load_clap(clap_dir)

    assert clap.to("cpu") is clap
    assert clap.device == torch.device("cpu")


def test_it_survives_pickling(clap_dir):
    clap = load_clap(clap_dir)
    expected = clap.encode_text(["a dog"]), clap.encode_audio(noise(100), 16_000)

    copy = pickle.loads(pickle.dumps(clap))

    assert torch.equal(copy.encode_text(["a dog"]), expected[0])
    assert torch.equal(copy.encode_audio(noise(100), 16_000), expected[1])
