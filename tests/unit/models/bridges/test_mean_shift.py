"""The mean of audio lands on the mean of text; what belongs to what plays no part."""

import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.models.bridges.mean_shift import MeanShift
from tests.unit.models.bridges.cases import pairs


def test_each_embedding_moves_by_the_difference_of_the_means():
    bridge = MeanShift(torch.tensor([0.0, 0.5]), torch.tensor([0.5, 0.0]))

    moved = bridge.transfer(torch.tensor([[2.0, 0.0]]))

    torch.testing.assert_close(moved, normalize(torch.tensor([[0.5, 0.5]]), dim=-1))


def test_it_needs_no_pairs():
    audio, text = pairs(50)

    one, other = MeanShift.fit(text, audio), MeanShift.fit(text.flip(0)[:50], audio)

    torch.testing.assert_close(one.text_mean_C, other.text_mean_C)
    moved = one.transfer(audio)
    assert (moved.mean(0) - text.mean(0)).norm() < 0.2 * (audio.mean(0) - text.mean(0)).norm()


def test_the_length_of_embeddings_plays_no_part_in_the_means():
    audio, text = pairs(20)

    fitted, scaled = MeanShift.fit(text, audio), MeanShift.fit(text * torch.arange(1, 21)[:, None], audio)

    torch.testing.assert_close(fitted.text_mean_C, scaled.text_mean_C)


def test_it_comes_back_from_its_file(tmp_path):
    audio, text = pairs(20)
    bridge = MeanShift.fit(text, audio, provenance={"clap": "x"})

    for name in ("a", "b"):
        bridge.save(tmp_path / name)

    loaded = MeanShift.load(tmp_path / "a")
    assert torch.equal(loaded.transfer(audio), bridge.transfer(audio))
    assert loaded.provenance == {"clap": "x"}
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("shape", [(0, 8), (3, 5)])
def test_sides_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="a mean shift needs texts and audio of one width, not"):
        MeanShift.fit(torch.ones(shape), torch.ones(4, 8))
