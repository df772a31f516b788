"""``santa.compat`` decides what the encoder hands on and what the answerer does with it."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mats_ray.config.base import validate
from mats_ray.config.santa import SantaConfig
from mats_ray.errors import ConfigError
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.models.upstream.santa import transfer_as_upstream
from mats_ray.types import AudioClip
from tests.world import SAMPLE_RATE, tiny_model_dir

CLIP = AudioClip(
    samples=np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32), sample_rate=SAMPLE_RATE
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture
def upstream(directory):
    """The same model, configured as upstream; put back afterwards."""
    config = directory / "config.json"
    before = config.read_text()
    tree = json.loads(before)
    tree["santa"] |= {"compat": "upstream", "neighbour_noise_variance": 0.015}
    config.write_text(json.dumps(tree))
    yield directory
    config.write_text(before)


def test_the_papers_santa_gets_unit_vectors(directory):
    encoder, answerer = AudioEncoder.from_pretrained(directory), Answerer.from_pretrained(directory)

    embedding = encoder.encode([CLIP])

    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    moved = answerer.bridge.memory.transfer(torch.from_numpy(embedding), num_neighbours=4)
    assert torch.equal(answerer.move(embedding), moved)


def test_upstreams_santa_gets_what_clap_computes(upstream):
    encoder, answerer = AudioEncoder.from_pretrained(upstream), Answerer.from_pretrained(upstream)

    embedding = encoder.encode([CLIP])

    raw = encoder.clap.encode_audio([CLIP.samples], SAMPLE_RATE, normalize=False)
    np.testing.assert_array_equal(embedding, raw.numpy())
    numbers = {"num_neighbours": 4, "temperature": 0.1, "mix": 0.3}
    moved = transfer_as_upstream(answerer.bridge.memory, raw, **numbers, noise_variance=0.015)
    assert torch.equal(answerer.move(embedding), moved)


def test_santa_switched_off_leaves_embeddings_as_they_are(directory):
    answerer = dataclasses.replace(Answerer.from_pretrained(directory), bridge=NoBridge())
    embedding = np.ones((1, 24), np.float32)

    assert answerer.move(embedding).tolist() == embedding.tolist()


def test_noise_at_inference_is_upstreams_alone():
    with pytest.raises(
        ConfigError, match=r"needs compat: upstream; the paper's noise is memory\.noise_variance"
    ):
        validate(SantaConfig, {"neighbour_noise_variance": 0.1}, where="a.yaml")
