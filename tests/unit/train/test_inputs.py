"""What a run needs is missed on the driver, before anything starts."""

import pytest

from mats_ray.config import RunConfig
from mats_ray.errors import ConfigError, DataError
from mats_ray.train.inputs import check_inputs
from mats_ray.types import CLAPIdentity
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


def test_what_is_there_is_told(config):
    assert check_inputs(config).num_rows == 30


def test_a_memory_that_was_not_built_is_missed(config):
    with pytest.raises(ConfigError, match=r"no Santa memory at .*; run `mats memory` first"):
        check_inputs(config.replace(santa={"enabled": True}))


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


def test_rows_of_other_splits_are_counted_and_said(config, tmp_path, caplog):
    mixed = write_embedded(tmp_path / "mixed", split_of=lambda row: ("train", "val", "test")[row % 3])

    data = check_inputs(config.replace(data={"embedded": str(mixed)}))

    assert data.num_rows == 10
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
