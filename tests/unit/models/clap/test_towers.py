"""Towers give what the projection heads give: transformers' own embeddings before normalisation."""

import torch

from mats_ray.models.clap.towers import TransformersTowers
from tests.unit.models.clap.small import directory_clap


def test_towers_point_where_transformers_points():
    clap = directory_clap()
    towers = TransformersTowers(clap)
    ids = torch.tensor([[0, 5, 6, 2]])
    mel = torch.randn(1, 1, 126, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        text = towers.embed_text(ids, torch.ones_like(ids))
        audio = towers.embed_audio(mel, torch.zeros(1, dtype=torch.bool))

        for ours, theirs in (
            (text, clap.get_text_features(ids).pooler_output),
            (audio, clap.get_audio_features(mel).pooler_output),
        ):
            torch.testing.assert_close(ours / ours.norm(), theirs, atol=1e-6, rtol=0)
