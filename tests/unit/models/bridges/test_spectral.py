"""Audio and text meet on the axes that pairs share, few or many."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from mats_ray.config.bridge import SpectralConfig
from mats_ray.models.bridges.spectral import Spectral
from tests.unit.models.bridges.cases import drawn, pairs


def test_it_is_the_pls_svd_of_centred_pairs():
    audio, text = pairs(25)
    centred_audio, centred_text = audio - audio.mean(0), text - text.mean(0)
    left, _, right = torch.linalg.svd(centred_audio.T.double() @ centred_text.double())
    seen = drawn(4, seed=9)

    moved = Spectral.fit(audio, text, numbers=SpectralConfig(num_axes=2)).transfer(seen)

    coefficients = (normalize(seen, dim=-1) - audio.mean(0)) @ left[:, :2].float()
    expected = normalize(text.mean(0) + coefficients @ right[:2].float(), dim=-1)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_it_brings_unseen_audio_to_its_own_text():
    audio, text = pairs(240)
    bridge = Spectral.fit(audio[:40], text[:40], numbers=SpectralConfig(num_axes=3))

    moved = bridge.transfer(audio[40:])

    before, after = (cosine_similarity(one, text[40:], dim=-1).mean() for one in (audio[40:], moved))
    assert after > 0.95 > before
    others = cosine_similarity(moved, text[40:].roll(1, 0), dim=-1).mean()
    assert after > others


def test_few_pairs_have_few_axes_and_all_are_used():
    audio, text = pairs(4)

    bridge = Spectral.fit(audio, text, provenance={"pairs": "4"})

    assert len(bridge.covariance_K) <= 3
    assert bridge.num_axes == len(bridge.covariance_K)
    assert bridge.description() == f"spectral, {bridge.num_axes} axes of 4 pairs"
    assert torch.equal(bridge.covariance_K, bridge.covariance_K.sort(descending=True).values)


def test_it_comes_back_from_its_file_with_the_numbers_of_the_model(tmp_path):
    audio, text = pairs(25)
    bridge = Spectral.fit(audio, text, provenance={"pairs": "25"})
    bridge.save(tmp_path / "s")

    loaded = Spectral.load(tmp_path / "s", SpectralConfig(num_axes=2))

    assert loaded.num_axes == 2
    assert loaded.provenance == {"pairs": "25"}
    assert torch.equal(Spectral.load(tmp_path / "s").transfer(audio), bridge.transfer(audio))


@pytest.mark.parametrize(
    ("audio", "text", "message"),
    [
        (
            torch.ones(1, 8),
            torch.ones(1, 8),
            r"needs at least 2 pairs of one width, not \(1, 8\) and \(1, 8\)",
        ),
        (torch.ones(3, 8), torch.ones(2, 8), "needs at least 2 pairs of one width"),
        (torch.ones(3, 8), torch.ones(3, 8), "3 pairs have no axis in common: they are all alike"),
    ],
)
def test_pairs_that_tell_nothing_are_refused(audio, text, message):
    with pytest.raises(ValueError, match=message):
        Spectral.fit(audio, text)
