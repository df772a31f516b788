"""Validation inside a run: one loss for every number of workers, answers to fixed questions."""

import pytest

from mats_ray.errors import DataError
from mats_ray.models.llm import load_tokenizer
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.checkpoints import load_checkpoint
from mats_ray.train.loop import LocalContext, fit
from mats_ray.train.validation import load_validation
from mats_ray.types import CLAPIdentity
from tests.unit.data.test_stream import CLAP, write_embedded
from tests.unit.train.small import CLAP_DIM, fresh_engine, small_run, stream

WIDE = CLAPIdentity(family=CLAP.family, checkpoint_hash=CLAP.checkpoint_hash, dim=CLAP_DIM)


@pytest.fixture
def config(llm_path, tmp_path):
    held_out = str(write_embedded(tmp_path / "held_out", identity=WIDE))
    validation = {"data": held_out, "num_rows": 16, "num_samples": 2, "every_steps": 3, "max_new_tokens": 3}
    return small_run(llm_path, train={"validation": validation, "checkpoint": {"every_steps": 4}})


def load(config, *, rank=0, num_workers=1):
    prompts = PromptTokenizer(load_tokenizer(config.llm_path))
    return load_validation(config, prompts, WIDE, rank=rank, num_workers=num_workers)


def test_without_data_there_is_none(llm_path):
    assert load(small_run(llm_path)) is None


def test_workers_share_the_rows_evenly(config):
    alone = load(config)
    halves = [load(config, rank=rank, num_workers=2) for rank in (0, 1)]
    turns = [batch for turn in zip(*(half.batches for half in halves), strict=True) for batch in turn]

    assert len(alone.batches) == 4
    assert all(one.after_BT.equal(two.after_BT) for one, two in zip(alone.batches, turns, strict=True))


@pytest.mark.parametrize("num_workers", [3, 9])
def test_no_worker_waits_for_another(config, num_workers):
    counts = {len(load(config, rank=rank, num_workers=num_workers).batches) for rank in range(num_workers)}

    assert len(counts) == 1
    assert counts != {0}


def test_a_run_logs_its_held_out_loss_and_generated_texts(config):
    engine, context = fresh_engine(config), LocalContext()

    fit(engine, stream(config), context, config, validation=load(config))

    measured = [record["step"] for record in context.records if "validation_loss" in record]
    assert measured == [3, 4, 6]  # every third step, at the checkpoint, at the end
    assert len(context.samples) == 3 * 2
    assert context.samples[0].keys() == {"id", "instruction", "answer", "generated"}
    assert context.samples[0]["id"] == context.samples[2]["id"]
    last = context.records[-1]["validation_loss"]
    assert last == load(config).loss(engine)
    assert load_checkpoint(context.checkpoints[-1])[1].validation_loss == last


def test_validation_changes_nothing_of_what_is_learnt(config, llm_path):
    losses = []
    for validation in (load(config), None):
        context = LocalContext()
        fit(fresh_engine(config), stream(config), context, config, validation=validation)
        losses.append([record["loss"] for record in context.records if "loss" in record])

    assert losses[0] == losses[1]


def test_rows_of_another_clap_are_refused(config):
    prompts = PromptTokenizer(load_tokenizer(config.llm_path))

    with pytest.raises(DataError, match="was embedded with"):
        load_validation(config, prompts, CLAP, rank=0, num_workers=1)
