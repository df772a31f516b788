"""What one training worker reads, without Ray: chunks, mixtures, and embeddings made on the way."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mats_ray.config import RunConfig
from mats_ray.data.embedded import inspect
from mats_ray.data.embedding.partition import write_partition
from mats_ray.data.embedding.plan import EmbedLedger
from mats_ray.data.embedding.shuffle import scatter
from mats_ray.data.mixture import Mixture, groups_by_source
from mats_ray.data.order import chunks
from mats_ray.data.reading import (
    ChunkReader,
    MixtureReader,
    Span,
    StreamPlace,
    noised,
    rebatched,
    with_embeddings,
)
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from tests.unit.data.embedding.triplets import CountingCLAP, plan_of, rows_of

BATCH = 6
WEIGHTS = {"clotho": 2, "macs": 1}


def embedded(tmp_path, **data):
    """Embed 50 + 30 rows of two sources."""
    rows = rows_of(50, texts=9) + rows_of(30, texts=9, source="macs")
    plan = plan_of(tmp_path, rows, **data)
    clap = CountingCLAP()
    EmbedLedger(plan).begin()
    scatter(plan, 0)
    done = [write_partition(plan, n, clap, batch_size=4) for n in range(plan.num_partitions)]
    EmbedLedger(plan).end(done)
    config = RunConfig.model_validate(
        {
            "output_dir": str(tmp_path),
            "model": {"clap": {"ref": "x"}, "llm": {"path": "x"}},
            "data": {"chunk_rows": 16, **data},
            "train": {"global_batch_size": BATCH, "micro_batch_size": 1},
        }
    )
    return config, inspect(config.embedded_path)


def mixed(config, data, first, last, *, rank=0, num_workers=1):
    groups = groups_by_source(data.groups, WEIGHTS)
    place = StreamPlace(first * BATCH, last * BATCH, rank, num_workers)
    reader = MixtureReader(config, place, Mixture(WEIGHTS, seed=config.seed), groups, stored=data.stored)
    return reader.read(Span(first, last))


def test_a_mixture_gives_every_worker_its_part_of_the_same_batches(tmp_path):
    config, data = embedded(tmp_path, mixture={"by": "source"}, embed={"num_partitions": 2})

    whole = mixed(config, data, 0, 12)
    halves = [mixed(config, data, 0, 12, rank=rank, num_workers=2) for rank in (0, 1)]

    assert len(whole) == 12 * BATCH
    for batch in range(12):
        parts = [half.slice(batch * BATCH // 2, BATCH // 2) for half in halves]
        assert pa.concat_tables(parts).equals(whole.slice(batch * BATCH, BATCH))


def test_a_mixture_goes_on_where_it_was_left_and_comes_round_again(tmp_path):
    config, data = embedded(tmp_path, mixture={"by": "source"}, embed={"num_partitions": 2})

    whole = mixed(config, data, 0, 30)  # beyond an epoch of either source

    assert mixed(config, data, 17, 30).equals(whole.slice(17 * BATCH))


def test_each_batch_of_a_mixture_is_of_one_source_and_an_epoch_has_every_row_once(tmp_path):
    config, data = embedded(tmp_path, mixture={"by": "source"}, embed={"num_partitions": 2})
    groups = groups_by_source(data.groups, WEIGHTS)
    reader = MixtureReader(
        config, StreamPlace(0, 10**6, 0, 1), Mixture(WEIGHTS, seed=0), groups, stored=False
    )

    rows = reader.read(Span(0, 15)).column("id").to_pylist()  # ten batches of clotho, five of macs

    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    sources = [{one.split("/")[0] for one in batch} for batch in batches]
    assert all(len(found) == 1 for found in sources)
    macs = [one for one in rows if one.startswith("macs")]
    assert len(macs) == len(set(macs)) == 30


def test_embedding_online_gives_the_stream_that_stored_embeddings_give(tmp_path):
    stored_config, stored = embedded(tmp_path / "a", embed={"num_partitions": 2})
    online_config, online = embedded(tmp_path / "b", embed={"num_partitions": 2, "mode": "online"})

    def stream(config, data):
        place = StreamPlace(0, 100, 0, 1)
        plan = list(chunks(data.groups, seed=config.seed, start=0, stop=100))
        return pa.concat_tables(ChunkReader(config, place, stored=data.stored).read(one) for one in plan)

    before = stream(stored_config, stored)
    after = noised(with_embeddings(stream(online_config, online), CountingCLAP()), online_config)

    assert after.select(["instruction", "answer"]).equals(before.select(["instruction", "answer"]))
    matrices = [embedding_matrix(table.column(EMBEDDING)) for table in (before, after)]
    np.testing.assert_allclose(matrices[0], matrices[1], atol=1e-6)


def test_noise_follows_from_each_rows_own_epoch(tmp_path):
    config, data = embedded(tmp_path, embed={"num_partitions": 2})
    place = StreamPlace(0, 200, 0, 1)
    plan = list(chunks(data.groups, seed=config.seed, start=0, stop=200))
    reader = ChunkReader(config, place, stored=data.stored)

    one_by_one = pa.concat_tables(reader.read(chunk) for chunk in plan)
    clean = pa.concat_tables(ChunkReader(config, place, stored=False).read(chunk) for chunk in plan)
    together = noised(with_embeddings(clean, CountingCLAP()), config)

    found = embedding_matrix(together.column(EMBEDDING))
    np.testing.assert_allclose(found, embedding_matrix(one_by_one.column(EMBEDDING)), atol=1e-6)


@given(sizes=st.lists(st.integers(0, 9), max_size=8), size=st.integers(1, 5))
def test_rebatching_loses_nothing_and_keeps_the_order(sizes, size):
    ends = np.cumsum([0, *sizes]).tolist()
    tables = [pa.table({"n": pa.array(range(a, b), pa.int64())}) for a, b in pairwise(ends)]

    batches = [one.column("n").to_pylist() for one in rebatched(iter(tables), size)]

    assert [n for batch in batches for n in batch] == list(range(sum(sizes)))
    assert all(len(batch) == size for batch in batches[:-1])


@pytest.mark.parametrize("by", ["rows", "source"])
def test_a_row_group_is_read_with_the_columns_it_has(tmp_path, by):
    config, data = embedded(tmp_path, mixture={"by": by}, embed={"mode": "online", "num_partitions": 1})

    table = ChunkReader(config, StreamPlace(0, 9, 0, 1), stored=False).table_of(data.groups[0])

    assert table.column_names == ["id", "instruction", "answer", "text"]
