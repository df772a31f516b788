"""Tags describe a scene, and a head learns to classify them from the output of a tower."""

import torch

from mats_ray.toy.scenes import Scene
from mats_ray.toy.sounds import SOUNDS
from mats_ray.toy.tags import NUM_TAGS, TagHead, scene_tags

SCENES = [
    Scene("alone", ("dog",)),
    Scene("then", ("rain", "dog")),
    Scene("then", ("dog", "rain")),
    Scene("together", ("dog", "rain")),
]


def test_different_scenes_have_different_tags():
    tags_NK = scene_tags(SCENES)

    assert tags_NK.shape == (4, NUM_TAGS)
    assert len(tags_NK.unique(dim=0)) == 4


def test_tags_count_the_sounds_the_first_one_and_the_kind():
    sounds, first, kind = scene_tags(SCENES).split([len(SOUNDS), len(SOUNDS), 3], dim=1)

    assert sounds.sum(dim=1).tolist() == [1, 2, 2, 2]
    assert first.sum(dim=1).tolist() == [0, 1, 1, 0]
    assert kind.sum(dim=1).tolist() == [1, 1, 1, 1]


def test_the_loss_falls_where_a_tower_shows_the_tags():
    pooled_BD = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    head, tags_BK = TagHead(16), scene_tags(SCENES)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    before = head(pooled_BD, tags_BK).item()

    for _ in range(100):
        optimizer.zero_grad()
        head(pooled_BD, tags_BK).backward()
        optimizer.step()

    assert head(pooled_BD, tags_BK).item() < 0.1 * before
    assert head(-pooled_BD, tags_BK).item() > before
