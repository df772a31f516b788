"""The encoder is frozen, can move and be pickled; fusion models get the shrunk clip and three chunks."""

import pickle

import pytest
import torch

from mats_ray.models.clap import load_clap
from mats_ray.models.clap.tower_clap import chunk_starts, fuse
from tests.unit.models.clap.small import noise


def test_nothing_in_it_can_be_trained(clap_dir):
    clap = load_clap(clap_dir)

    assert not any(parameter.requires_grad for parameter in clap.towers.parameters())
    assert not clap.towers.training
    assert not clap.encode_text(["a dog"]).requires_grad


def test_it_moves_and_reports_its_device(clap_dir):
    clap = load_clap(clap_dir)

    assert clap.to("cpu") is clap
    assert clap.device == torch.device("cpu")


def test_it_survives_pickling(clap_dir):
    clap = load_clap(clap_dir)
    expected = clap.encode_text(["a dog"]), clap.encode_audio(noise(100), 16_000)

    copy = pickle.loads(pickle.dumps(clap))

    assert torch.equal(copy.encode_text(["a dog"]), expected[0])
    assert torch.equal(copy.encode_audio(noise(100), 16_000), expected[1])


@pytest.mark.parametrize(("center", "expected"), [(False, [0, 4, 7]), (True, [2, 5, 8])])
def test_chunks_start_in_each_third(center, expected):
    assert chunk_starts(19, 10, center=center) == expected


def test_a_clip_one_frame_too_long_has_chunks_too():
    assert chunk_starts(11, 10, center=True) == [0, 1, 0]


def test_the_first_channel_is_the_whole_clip_and_the_others_are_its_chunks():
    mel = torch.arange(20.0)[:, None].expand(20, 3)

    channels = fuse(mel, 5, [0, 7, 15])

    assert channels.shape == (4, 5, 3)
    torch.testing.assert_close(channels[0, :, 0], torch.tensor([1.5, 5.5, 9.5, 13.5, 17.5]))
    assert [channel[0, 0].item() for channel in channels[1:]] == [0, 7, 15]


def test_every_way_to_embed_a_long_clip_is_deterministic_and_its_own(fused_file):
    clap = load_clap(fused_file)
    clips = noise(700_000, 100_000)
    ways = {way: clap.encode_audio(clips, 48_000, long_audio=way) for way in ("windows", "first", "center")}

    for way, embeddings in ways.items():
        assert torch.equal(embeddings, clap.encode_audio(clips, 48_000, long_audio=way))
        torch.testing.assert_close(
            embeddings[:1], clap.encode_audio(clips[:1], 48_000, long_audio=way), atol=2e-6, rtol=0
        )
    assert not torch.allclose(ways["first"][0], ways["center"][0], atol=1e-4)
    assert not torch.allclose(ways["first"][0], ways["windows"][0], atol=1e-4)
    torch.testing.assert_close(ways["first"][1], ways["windows"][1], atol=2e-6, rtol=0)
