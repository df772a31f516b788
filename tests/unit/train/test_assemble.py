"""What a worker is put together from: engine, checkpoint, batches, meter, settings."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.triplets import EMBEDDING, embedding_array
from mats_ray.errors import TrainingError
from mats_ray.models.llm import load_tokenizer
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.assemble import (
    build_engine,
    check_same_run,
    meter_of,
    model_settings,
    open_store,
    read_newest,
    take_up,
    to_batches,
)
from mats_ray.train.context import LocalContext
from mats_ray.train.engine import TorchEngine
from mats_ray.train.loop import fit
from mats_ray.types import CLAPIdentity
from tests.unit.train.small import CLAP_DIM, fresh_engine, small_run, stream


@pytest.fixture
def config(llm_path, tmp_path):
    return small_run(llm_path, output_dir=str(tmp_path / "out"))


@pytest.fixture
def trained(config):
    """A run of six steps and its store."""
    engine, context, store = fresh_engine(config), LocalContext(), open_store(config)
    fit(engine, stream(config), context, config)
    for step, folder in zip((2, 4, 6), context.checkpoints, strict=True):
        store.put(folder, step)
    return engine, store


def test_a_run_goes_on_from_its_newest_checkpoint(config, trained):
    engine, store = trained
    other = fresh_engine(config.replace(seed=3))

    stored, state, run = read_newest(store)

    assert stored.step == 6
    assert take_up(other, state, run, config) == 6
    expected = engine.state().trained
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state().trained.items())


def test_a_damaged_checkpoint_is_passed_over_and_said(config, trained, tmp_path, caplog):
    _, store = trained
    newest = tmp_path / "out/runs/small/checkpoints/step-00000006/trained.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])

    stored, _, run = read_newest(store)

    assert stored.step == run.step == 4
    assert "going back to the one before" in caplog.text


def test_a_run_whose_every_checkpoint_is_damaged_does_not_begin_again(config, trained, tmp_path):
    _, store = trained
    for folder in (tmp_path / "out/runs/small/checkpoints").iterdir():
        (folder / "moments.safetensors").write_bytes(b"")

    with pytest.raises(TrainingError, match=r"moments\.safetensors is not what was committed"):
        read_newest(store)


def test_a_run_without_checkpoints_begins(config):
    assert read_newest(open_store(config)) is None


def test_another_configuration_and_another_architecture_are_refused(config, trained):
    _, store = trained
    _, state, run = read_newest(store)
    wider = config.replace(model={"mapper": {"hidden_dim": 64}})

    with pytest.raises(TrainingError, match=r"another configuration .*--set name=small-2"):
        check_same_run(run, config.replace(seed=1))
    with pytest.raises(TrainingError, match=r"step 6 of the run 'small' is of another architecture: \d+ of"):
        take_up(fresh_engine(wider), state, run, config)


def test_the_engine_is_the_one_named(config):
    engine = build_engine(config, fresh_engine(config).model, "cpu")

    assert isinstance(engine, TorchEngine)


def test_tables_become_micro_batches_with_their_ids(config, llm_path):
    table = pa.table(
        {
            "id": ["a", "b"],
            "instruction": ["Q", "Q"],
            "answer": ["yes", "no"],
            EMBEDDING: embedding_array(np.eye(2, CLAP_DIM)),
        }
    )

    (batch,) = to_batches([table], PromptTokenizer(load_tokenizer(llm_path)), config)

    assert batch.ids == ("a", "b")
    assert batch.clap_BC.tolist() == np.eye(2, CLAP_DIM).tolist()


def test_a_meter_counts_for_all_workers(config):
    model = fresh_engine(config).model

    meter = meter_of(config, model, device="cpu", num_workers=2)

    assert meter.peak > 1e8
    assert meter.flops.llm.dim == 32
    assert meter.flops.lora == config.model.llm.lora


def test_settings_name_what_the_model_stands_on(config, llm_path):
    identity = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=CLAP_DIM)

    settings = model_settings(config, EmbeddedTriplets((), identity))

    assert settings.model.llm.path == llm_path
    assert settings.clap == identity
