"""Held-out rows: a fixed draw, whatever files they lie in, always with the same noise."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mats_ray.data.heldout import read_held_out
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.errors import DataError
from mats_ray.types import CLAPIdentity
from tests.unit.data.test_stream import CLAP, write_embedded


def draw(folder, *, num_rows=8, seed=0, variance=0.01, identity=CLAP):
    return read_held_out(str(folder), identity=identity, num_rows=num_rows, seed=seed, variance=variance)


def test_the_draw_follows_from_the_seed_not_from_how_files_are_cut(tmp_path):
    one, other = (
        write_embedded(tmp_path / "one"),
        write_embedded(tmp_path / "other", group_size=3),
    )

    first = draw(one)

    assert len(first) == 8
    assert first.column_names == ["id", "instruction", "answer", EMBEDDING]
    assert draw(one).equals(first)
    assert draw(other).equals(first)
    assert set(draw(one, seed=1).column("id").to_pylist()) != set(first.column("id").to_pylist())


def test_rows_are_noised_as_in_training(tmp_path):
    folder = write_embedded(tmp_path / "one")

    clean, noised = (embedding_matrix(draw(folder, variance=v).column(EMBEDDING)) for v in (0, 0.01))

    assert not np.allclose(clean, noised, atol=1e-3)
    assert np.allclose(np.linalg.norm(noised, axis=1), 1, atol=1e-5)


def test_a_small_set_gives_what_it_has(tmp_path):
    assert len(draw(write_embedded(tmp_path / "few", num_rows=3))) == 3


def test_rows_of_another_clap_are_refused(tmp_path):
    other = CLAPIdentity(family="laion", checkpoint_hash="1" * 16, dim=8)

    with pytest.raises(DataError, match="was embedded with transformers CLAP 0000000000000000"):
        draw(write_embedded(tmp_path / "one"), identity=other)


def test_no_rows_are_refused(tmp_path):
    folder = write_embedded(tmp_path / "none", num_rows=1)
    (file,) = folder.iterdir()
    pq.write_table(pq.read_table(file).slice(0, 0), file)

    with pytest.raises(DataError, match="holds no rows"):
        draw(folder)
