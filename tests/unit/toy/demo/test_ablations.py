"""Training data of the ceiling: triplets of training scenes with the embeddings of their *audio*."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mats_ray.data.embedded import inspect
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.tasks import Task
from mats_ray.toy.demo.ablations import write_audio_embedded
from mats_ray.toy.grammar import canonical_caption
from mats_ray.toy.scenes import render_clip
from mats_ray.toy.world import SUPERVISED_STREAM, split_of


@pytest.fixture(scope="module")
def written(world, clap, tmp_path_factory):
    target = tmp_path_factory.mktemp("supervised") / "embedded"
    write_audio_embedded(world, clap, target)
    return target


@pytest.fixture(scope="module")
def rows(written):
    return pq.read_table(written / "audio.parquet")


@pytest.fixture(scope="module")
def drawn(world):
    return split_of(world).clips(SUPERVISED_STREAM, count=world.toy.num_audio_train_clips, seed=world.seed)


def test_it_is_a_data_set_like_any_other(world, clap, written, rows):
    data = inspect(str(written), expected=clap.identity)

    assert data.num_rows == len(rows) == len(set(rows.column("id").to_pylist()))
    assert max(group.num_rows for group in data.groups) <= world.data.chunk_rows


def test_every_row_has_the_embedding_of_its_clips_audio(clap, rows, drawn):
    embeddings_NC = embedding_matrix(rows.column(EMBEDDING))
    clip_of_row = [int(row_id.split("/")[1]) for row_id in rows.column("id").to_pylist()]
    expected_NC = clap.encode_audio([render_clip(clip, 4, 16_000) for clip in drawn], 16_000).numpy()

    assert sorted(set(clip_of_row)) == list(range(len(drawn)))
    np.testing.assert_allclose(embeddings_NC, expected_NC[clip_of_row], atol=1e-3)  # kept as float16
    assert len(np.unique(embeddings_NC.round(3), axis=0)) == len(drawn)


def test_no_novel_scene_is_in_it(world, rows, drawn):
    answers = {
        row["answer"] for row in rows.select(["task", "answer"]).to_pylist() if row["task"] == Task.CAPTION
    }

    assert answers == {canonical_caption(clip.scene) for clip in drawn}
    assert not answers & {canonical_caption(scene) for scene in split_of(world).novel}
