"""Missing or unsuitable inputs are reported on the driver, before anything starts."""

import logging
import shutil
from pathlib import Path

import pytest

from mats_ray.cli.main import main
from mats_ray.config import RunConfig
from mats_ray.data.embedding.noise_variance import training_variance
from mats_ray.errors import ConfigError, DataError, ModelError, TrainingError
from mats_ray.train.checkpoints import save_checkpoint
from mats_ray.train.engine import EngineState
from mats_ray.train.inputs import check_inputs, with_noise_variance
from mats_ray.train.run_state import RunState, check_same_run, identifying_settings, run_hash, run_inputs
from mats_ray.types import CLAPIdentity
from tests.unit.data.embedding.test_noise_variance import caption
from tests.unit.data.embedding.triplets import write_triplets
from tests.unit.data.test_stream import DIM, write_embedded


@pytest.fixture
def config(tmp_path):
    return RunConfig.model_validate(
        {
            "toy": {},
            "output_dir": str(tmp_path / "out"),
            "model": {"clap": {"dim": DIM}},
            "data": {"embedded": str(write_embedded(tmp_path / "embedded"))},
            "santa": {"enabled": False},
        }
    )


def test_rows_by_source_are_logged_and_returned(config, caplog):
    caplog.set_level(logging.INFO)

    data = check_inputs(config)

    assert (data.num_rows, data.sources) == (30, {"test": 30})
    assert f"training on 30 rows: 30 test of {config.embedded_path}" in caplog.text


def test_a_memory_that_was_not_built_is_missed(config):
    with pytest.raises(ConfigError, match=r"no Santa memory at .*; run `mats memory` first"):
        check_inputs(config.replace(santa={"enabled": True}))


def test_the_state_of_another_bridge_is_missed_by_its_name(config):
    with pytest.raises(
        ConfigError, match=r"no state of the bridge 'spectral' at .*; run `mats memory` first"
    ):
        check_inputs(config.replace(model={"bridge": "spectral"}, santa={"enabled": True}))


def test_a_variance_that_is_a_number_stays(config):
    assert with_noise_variance(config) is config


def test_auto_becomes_the_number_that_captions_of_one_clip_give(tmp_path, model_dir):
    config = auto_run(tmp_path, model_dir)

    found = with_noise_variance(config)

    assert found.model.noise.variance == training_variance(config).value > 0
    assert found.replace(model={"noise": {"variance": "auto"}}).model_dump() == config.model_dump()


def test_auto_of_a_run_that_has_begun_is_its_own_number(tmp_path, model_dir):
    config = auto_run(tmp_path, model_dir)
    begun = config.replace(model={"noise": {"variance": 0.25}})
    folder = Path(f"{config.runs_dir}/{config.name}/checkpoints/step-00000001")
    run = RunState(1, 96, run_hash(begun), "0.1.0", None, identifying_settings(begun))
    save_checkpoint(folder, EngineState({}, {}, 1), run)

    check_same_run(run, config)
    assert with_noise_variance(config) == begun


def test_auto_without_two_captions_of_a_clip_is_refused(config):
    with pytest.raises(DataError, match="have no clip with two captions"):
        with_noise_variance(config.replace(model={"noise": {"variance": "auto"}}))


def auto_run(folder, model_dir):
    """A run whose triplets have three captions of each clip."""
    rows = [
        caption(f"clotho/train/{clip}/{place}", f"a {clip} {word}")
        for clip in ("dog", "rain", "bell")
        for place, word in enumerate(("barks", "falls", "rings"))
    ]
    write_triplets(folder / "embedded", rows)
    model = {"clap": {"ref": str(model_dir.parent / "clap")}, "noise": {"variance": "auto"}}
    return RunConfig.model_validate({"toy": {}, "output_dir": str(folder), "model": model})


def test_embeddings_of_another_width_are_refused(config):
    with pytest.raises(DataError, match=r"holds 8-d embeddings, model\.clap\.dim is 24"):
        check_inputs(config.replace(model={"clap": {"dim": 24}}))


def test_embeddings_of_another_clap_are_refused(config, tmp_path):
    other = tmp_path / "clap.pt"
    other.write_bytes(b"weights")

    with pytest.raises(
        DataError,
        match=r"embedded with transformers CLAP 0{16} \(8-d\), the CLAP at .*clap\.pt is 9a129038d9a00aed;",
    ):
        check_inputs(config.replace(model={"clap": {"ref": str(other)}}))


def test_no_rows_are_refused(config, tmp_path):
    empty = write_embedded(tmp_path / "empty", num_rows=0)

    with pytest.raises(DataError, match=f"the embedded triplets at {empty} hold no rows"):
        check_inputs(config.replace(data={"embedded": str(empty)}))


def test_rows_of_other_splits_are_counted_in_a_warning(config, tmp_path, caplog):
    mixed = write_embedded(tmp_path / "mixed", split_of=lambda row: ("train", "val", "test")[row % 3])

    data = check_inputs(config.replace(data={"embedded": str(mixed)}))

    assert data.num_rows == 10
    assert data.sources == {"test": 10}
    assert "data.splits=['train']: 10 of 'test', 10 of 'val'; 10 rows remain" in caplog.text


def test_data_without_a_row_to_train_on_is_refused(config, tmp_path):
    tests = write_embedded(tmp_path / "tests", split_of=lambda _: "test")

    with pytest.raises(DataError, match=r"hold no rows of data\.splits, only of test"):
        check_inputs(config.replace(data={"embedded": str(tests)}))


def test_validation_data_of_another_clap_is_refused(config, tmp_path):
    other = CLAPIdentity(family="laion", checkpoint_hash="1" * 16, dim=DIM)
    held_out = write_embedded(tmp_path / "held_out", identity=other)

    with pytest.raises(DataError, match="was embedded with laion CLAP 1111111111111111"):
        check_inputs(config.replace(train={"validation": {"data": str(held_out)}}))


def test_a_tracker_that_is_not_installed_is_named(config, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)

    with pytest.raises(ConfigError, match="pip install wandb"):
        check_inputs(config.replace(train={"trackers": ["wandb"]}))


def test_weights_and_sources_that_differ_are_named_before_workers_start(config, tmp_path):
    write_embedded(tmp_path / "mixed" / "of-test")
    config = config.replace(data={"embedded": str(tmp_path / "mixed")})

    with pytest.raises(DataError, match=r"data\.mixture\.by=source, the configuration says rows"):
        check_inputs(config)
    for weights, message in (
        ({"clotho": 1}, "no weight for test"),
        ({"test": 1, "x": 1}, "names x, of which"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_inputs(config.replace(data={"mixture": {"by": "source", "weights": weights}}))


def test_shares_of_a_mixture_are_logged(config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for source in ("clotho", "macs"):
        write_embedded(tmp_path / "mixed" / f"of-{source}")
    mixture = {"by": "source", "weights": {"clotho": 1, "macs": 1e-9}}

    check_inputs(config.replace(data={"embedded": str(tmp_path / "mixed"), "mixture": mixture}))

    assert "shares of the batches: 0.9999 clotho, 0.0001 macs" in caplog.text


def committed(config, data):
    """Leave a checkpoint of a run on this data."""
    config = config.replace(train={"num_steps": 1, "schedule": {"warmup_steps": 0}})
    folder = Path(f"{config.runs_dir}/{config.name}/checkpoints/step-00000001")
    run = RunState(1, 96, run_hash(config), "0.1.0", None, identifying_settings(config), run_inputs(data))
    save_checkpoint(folder, EngineState({}, {}, 1), run)
    return config


def test_another_configuration_is_refused_before_anything_is_built(config, monkeypatch, tmp_path, capsys):
    config = committed(config, check_inputs(config))
    monkeypatch.setattr("mats_ray.toy.world.ensure_training_data", lambda _: pytest.fail("built"))
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml())

    assert main(["train", "--config", str(file), "--set", "seed=3"]) == 1

    assert "another configuration: seed was 0, is 3; give the other run" in capsys.readouterr().err


def test_more_steps_are_logged_with_both_learning_rates(config, caplog):
    config = committed(config, check_inputs(config))
    caplog.set_level(logging.INFO)
    longer = {"num_steps": 2, "optim": {"lr": config.train.optim.lr}}

    check_inputs(config)
    assert "num_steps" not in caplog.text
    check_inputs(config.replace(train=longer))

    assert (
        "train.num_steps was 1, is 2: the run goes on after step 1 on the cosine schedule of 2 steps; "
        "the learning rate was 3e-05 in step 1, is 1.5e-05 in step 2"
    ) in caplog.text


def test_initial_weights_are_checked_before_workers_start(config):
    with pytest.raises(ModelError, match=r"train\.init_from: no model directory at /nowhere"):
        check_inputs(config.replace(train={"init_from": "/nowhere"}))


def test_data_embedded_anew_at_the_same_path_is_refused(config, tmp_path):
    config = committed(config, check_inputs(config))
    assert check_inputs(config).num_rows == 30
    moved = shutil.copytree(config.embedded_path, tmp_path / "moved")
    shutil.rmtree(config.embedded_path)
    write_embedded(Path(config.embedded_path), num_rows=40)

    with pytest.raises(
        TrainingError, match=r"other inputs: data\.embedded was \w{16} \(30 rows\), is \w{16} \(40 rows\);"
    ):
        check_inputs(config)
    assert check_inputs(config.replace(data={"embedded": str(moved)})).num_rows == 30
