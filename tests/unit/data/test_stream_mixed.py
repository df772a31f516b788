"""Rows of a worker where sources are mixed, or where CLAP embeds online."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mats_ray.config import RunConfig
from mats_ray.data.embedded import inspect
from mats_ray.data.embedding.embed_plan import EmbedLedger
from mats_ray.data.embedding.partition import write_partition
from mats_ray.data.embedding.shuffle import scatter
from mats_ray.data.stream import SpanReader, StreamPlace, noised, rebatched, with_embeddings
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.errors import ConfigError
from tests.unit.data.embedding.triplets import CountingCLAP, plan_of, rows_of

BATCH = 6
MIXTURE = {"by": "source", "weights": {"clotho": 2, "macs": 1}}


def embedded(tmp_path, **data):
    """Embed 50 + 30 rows of two sources."""
    rows = rows_of(50, texts=9) + rows_of(30, texts=9, source="macs")
    plan = plan_of(tmp_path, rows, **data)
    clap = CountingCLAP()
    EmbedLedger(plan).start()
    scatter(plan, 0)
    done = [write_partition(plan, n, clap, batch_size=4) for n in range(plan.num_partitions)]
    EmbedLedger(plan).finish(done, {})
    config = RunConfig.model_validate(
        {
            "output_dir": str(tmp_path),
            "model": {"clap": {"ref": "x"}, "llm": {"path": "x"}},
            "data": {"chunk_rows": 16, **data},
            "train": {"global_batch_size": BATCH, "micro_batch_size": 1},
        }
    )
    return config, inspect(config.embedded_path)


def read(config, data, first, last, *, rank=0, num_workers=1):
    """Read batches ``first`` to ``last``."""
    place = StreamPlace(first * BATCH, last * BATCH, rank, num_workers)
    return SpanReader(config, data, place).read((place.start, place.stop))


def test_a_mixture_gives_every_worker_its_part_of_the_same_batches(tmp_path):
    config, data = embedded(tmp_path, mixture=MIXTURE, embed={"num_partitions": 2})

    whole = read(config, data, 0, 12)
    halves = [read(config, data, 0, 12, rank=rank, num_workers=2) for rank in (0, 1)]

    assert len(whole) == 12 * BATCH
    turns = [half.slice(row, 1) for row in range(6 * BATCH) for half in halves]
    assert pa.concat_tables(turns).equals(whole)


def test_a_mixture_resumes_at_any_step_and_repeats(tmp_path):
    config, data = embedded(tmp_path, mixture=MIXTURE, embed={"num_partitions": 2})

    whole = read(config, data, 0, 30)  # beyond an epoch of either source

    assert read(config, data, 17, 30).equals(whole.slice(17 * BATCH))


def test_each_batch_of_a_mixture_is_of_one_source_and_an_epoch_has_every_row_once(tmp_path):
    config, data = embedded(tmp_path, mixture=MIXTURE, embed={"num_partitions": 2})

    rows = read(config, data, 0, 15).column("id").to_pylist()  # ten batches of clotho, five of macs

    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    sources = [{one.split("/")[0] for one in batch} for batch in batches]
    assert all(len(found) == 1 for found in sources)
    macs = [one for one in rows if one.startswith("macs")]
    assert len(macs) == len(set(macs)) == 30


def test_embedding_online_gives_the_stream_that_stored_embeddings_give(tmp_path):
    stored_config, stored = embedded(tmp_path / "a", embed={"num_partitions": 2})
    online_config, online = embedded(tmp_path / "b", embed={"num_partitions": 2, "mode": "online"})

    before = read(stored_config, stored, 0, 30)  # more than two epochs
    texts = read(online_config, online, 0, 30)
    variance = online_config.model.noise.variance
    after = noised(with_embeddings(texts, CountingCLAP()), seed=online_config.seed, variance=variance)

    assert texts.column_names == ["id", "instruction", "answer", "text", "epoch"]
    assert after.drop_columns(EMBEDDING).equals(before.drop_columns(EMBEDDING))
    matrices = [embedding_matrix(table.column(EMBEDDING)) for table in (before, after)]
    np.testing.assert_allclose(matrices[0], matrices[1], atol=1e-6)


def test_a_source_without_a_weight_is_refused(tmp_path):
    config, data = embedded(tmp_path, mixture=MIXTURE, embed={"num_partitions": 2})
    tree = config.model_dump(mode="json")
    tree["data"]["mixture"]["weights"] = {"clotho": 1}

    with pytest.raises(ConfigError, match="names no weight for macs"):
        read(RunConfig.model_validate(tree), data, 0, 2)


@given(sizes=st.lists(st.integers(0, 9), max_size=8), size=st.integers(1, 5))
def test_rebatching_loses_nothing_and_keeps_the_order(sizes, size):
    ends = np.cumsum([0, *sizes]).tolist()
    tables = [pa.table({"n": pa.array(range(a, b), pa.int64())}) for a, b in pairwise(ends)]

    batches = [one.column("n").to_pylist() for one in rebatched(iter(tables), size)]

    assert [n for batch in batches for n in batch] == list(range(sum(sizes)))
    assert all(len(batch) == size for batch in batches[:-1])
