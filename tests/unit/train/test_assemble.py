"""What a worker is put together from: engine, checkpoint, batches, meter, settings."""

import dataclasses
import json
import re
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
import torch

from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.triplets import EMBEDDING, embedding_array
from mats_ray.errors import TrainingError
from mats_ray.models.llm import checkpoint_hash, load_tokenizer
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.assemble import (
    build_engine,
    check_same_run,
    meter_of,
    model_settings,
    open_store,
    read_newest,
    run_inputs,
    take_up,
    to_batches,
)
from mats_ray.train.context import LocalContext
from mats_ray.train.engine import TorchEngine
from mats_ray.train.loop import course, fit, run_hash
from mats_ray.train.state import RunInputs, RunState, run_state
from mats_ray.types import CLAPIdentity
from tests.unit.train.small import CLAP_DIM, fresh_engine, small_run, stream

IDENTITY = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=CLAP_DIM)


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


INPUTS = RunInputs({"data.embedded": "01ab (8 rows)", "model.clap": "laion CLAP 2", "model.llm": "33"})


@pytest.fixture
def stored_run(config):
    """What the checkpoint of a run says of it, once more from disk."""
    state = RunState(6, 48, run_hash(config), "0.1.0", None, course(config), INPUTS)
    return run_state(json.loads(json.dumps(asdict(state))))


def test_another_architecture_is_refused(config, trained):
    _, store = trained
    _, state, run = read_newest(store)
    wider = config.replace(model={"mapper": {"hidden_dim": 64}})

    with pytest.raises(TrainingError, match=r"step 6 of the run 'small' is of another architecture: \d+ of"):
        take_up(fresh_engine(wider), state, run, config)


def test_another_configuration_is_refused_with_every_key_that_differs(config, stored_run):
    other = config.replace(
        seed=1,
        model={"llm": {"lora": {"target_modules": ["q_proj"]}}},
        train={"optim": {"lr": 2e-3}, "log_every": 5},
        data={"mixture": {"by": "source", "weights": {"clotho": 2}}},
    )

    with pytest.raises(TrainingError) as caught:
        check_same_run(stored_run, other)

    assert str(caught.value) == (
        f"the run 'small' in {config.runs_dir} (checkpoint at step 6) was started with another "
        "configuration: data.mixture.by was rows, is source, "
        "data.mixture.weights.clotho was not set, is 2.0, "
        "model.llm.lora.target_modules was ['q_proj', 'v_proj'], is ['q_proj'], "
        "seed was 0, is 1, "
        "train.optim.lr was 0.001, is 0.002; "
        "choose another name, e.g. --set name=small-2"
    )


def test_a_key_that_is_newer_than_the_checkpoint_had_its_default(config, stored_run):
    older = {key: value for key, value in stored_run.config.items() if key != "data.splits"}
    older_run = dataclasses.replace(stored_run, config=older)

    check_same_run(older_run, config)
    with pytest.raises(TrainingError, match=r"data\.splits was \['train'\], is \['train', 'val'\]; choose"):
        check_same_run(older_run, config.replace(data={"splits": ["train", "val"]}))


def test_a_checkpoint_that_knows_only_its_hash_is_told_apart(config, stored_run):
    bare = dataclasses.replace(stored_run, config={}, inputs=RunInputs())

    check_same_run(bare, config, INPUTS)
    with pytest.raises(TrainingError, match=r"another configuration; choose another name"):
        check_same_run(bare, config.replace(seed=1), INPUTS)


@pytest.mark.parametrize(
    ("key", "now"),
    [("data.embedded", "01ab (9 rows)"), ("model.clap", "laion CLAP 4"), ("model.llm", "34")],
)
def test_other_inputs_at_the_same_path_are_refused_with_both_fingerprints(config, stored_run, key, now):
    then = INPUTS.fingerprints[key]
    others = RunInputs({**INPUTS.fingerprints, key: now})

    check_same_run(stored_run, config, INPUTS)
    with pytest.raises(
        TrainingError,
        match=rf"from other inputs: {re.escape(f'{key} was {then}, is {now}')}; bring the old ones back, or",
    ):
        check_same_run(stored_run, config, others)


def test_the_same_inputs_at_another_path_go_on(config, stored_run):
    moved = config.replace(
        model={"clap": {"ref": "moved/clap"}, "llm": {"path": "moved/llm"}},
        data={"embedded": "s3://moved/embedded", "triplets": "moved/triplets"},
    )

    check_same_run(stored_run, moved, INPUTS)


def test_a_driver_that_does_not_see_the_base_model_checks_the_rest(config, stored_run):
    data = EmbeddedTriplets((), IDENTITY, fingerprint="01ac")

    with pytest.raises(
        TrainingError, match=r"data\.embedded was 01ab \(8 rows\), is 01ac \(0 rows\), model\."
    ):
        check_same_run(stored_run, config, run_inputs(data))


def test_inputs_are_those_of_data_clap_and_base_model(llm_path):
    data = EmbeddedTriplets((), IDENTITY, fingerprint="01ab", sources={"clotho": 3})

    assert run_inputs(data, llm_path=llm_path) == RunInputs(
        {
            "data.embedded": "01ab (0 rows)",
            "model.clap": str(IDENTITY),
            "model.llm": checkpoint_hash(llm_path),
        },
        {"clotho": 3},
    )


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
    settings = model_settings(config, EmbeddedTriplets((), IDENTITY))

    assert settings.model.llm.path == llm_path
    assert settings.clap == IDENTITY
