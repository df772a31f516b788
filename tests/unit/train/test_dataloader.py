"""Micro-batches from rows; the prefetcher: the same items in order, errors in place, no thread left."""

import itertools
import threading

import numpy as np
import pyarrow as pa
import pytest

from mats_ray.data.triplets import EMBEDDING, embedding_array
from mats_ray.models.llm import load_tokenizer
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.dataloader import Prefetcher, micro_batches
from tests.unit.train.small import CLAP_DIM, small_run


def test_it_gives_what_the_source_gives_and_ends_for_good():
    prefetcher = Prefetcher(range(100), depth=3)

    assert list(prefetcher) == list(range(100))
    assert list(prefetcher) == []


def test_it_starts_before_the_first_next_and_stays_within_its_depth():
    read = threading.Semaphore(0)
    seen = []

    def source():
        for number in itertools.count():
            seen.append(number)
            read.release()
            yield number

    prefetcher = Prefetcher(source(), depth=2)
    for _ in range(3):  # two are ready, a third is in hand
        assert read.acquire(timeout=10)
    assert not read.acquire(timeout=0.05)
    assert seen == [0, 1, 2]

    assert next(prefetcher) == 0
    assert read.acquire(timeout=10)
    prefetcher.close()


def test_an_error_comes_where_the_next_item_would_have():
    def source():
        yield 1
        raise LookupError("a file is gone")

    prefetcher = Prefetcher(source(), depth=5)

    assert next(prefetcher) == 1
    for _ in range(2):
        with pytest.raises(LookupError, match="a file is gone"):
            next(prefetcher)


def test_closing_ends_the_thread_even_if_ready_items_are_not_consumed():
    before = threading.active_count()
    prefetcher = Prefetcher(itertools.count(), depth=1)

    prefetcher.close()

    assert threading.active_count() == before


def test_tables_become_micro_batches_with_their_ids(llm_path):
    table = pa.table(
        {
            "id": ["a", "b"],
            "instruction": ["Q", "Q"],
            "answer": ["yes", "no"],
            EMBEDDING: embedding_array(np.eye(2, CLAP_DIM)),
        }
    )

    (batch,) = micro_batches([table], PromptTokenizer(load_tokenizer(llm_path)), small_run(llm_path))

    assert batch.ids == ("a", "b")
    assert batch.clap_BC.tolist() == np.eye(2, CLAP_DIM).tolist()
