"""Checkpoints: their format, which ones are kept, what happens when storage fails, and resuming."""

import json
import os
import threading

import pytest
import torch

from mats_ray.errors import TrainingError
from mats_ray.storage import ATTEMPTS_REFUSED, exists, retries, write_file, writing
from mats_ray.train import checkpoints
from mats_ray.train.checkpoints import (
    COMMITTED,
    MOMENTS,
    TRAINED,
    CheckpointStore,
    CheckpointUploader,
    check_architecture,
    load_checkpoint,
    open_store,
    restore,
    save_checkpoint,
)
from mats_ray.train.engine import EngineState
from mats_ray.train.loop import LocalContext, fit
from mats_ray.train.run_state import STATE, RunState
from tests.faults import faults
from tests.s3 import s3_server
from tests.unit.train.small import fresh_engine, small_run, stream

RUN = RunState(step=4, samples=32, run_hash="abc", version="0.1.0")


def write_checkpoint(folder, step, *, loss=None):
    """A checkpoint folder on this machine."""
    weights = {"w": torch.full((3,), float(step))}
    state = EngineState(
        weights, {f"{key}/w": weights["w"].clone() for key in ("exp_avg", "exp_avg_sq")}, step
    )
    save_checkpoint(folder / f"local-{step}", state, RunState(step, 8 * step, "hash", "0.1.0", loss))
    return folder / f"local-{step}"


def store_at(path, *, keep=2):
    return CheckpointStore(str(path), keep=keep)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Return the waits between attempts, which are skipped."""
    waited = []
    monkeypatch.setattr(retries.time, "sleep", waited.append)
    return waited


@pytest.fixture
def full_disk(monkeypatch):
    """Fail as many writes as the list has entries."""
    left = []

    def sync(_):
        if left:
            left.pop()
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", sync)
    return left


def steps(store):
    return [stored.step for stored in store.committed()]


def test_what_is_put_comes_back(tmp_path):
    store = store_at(tmp_path / "store")

    stored = store.put(write_checkpoint(tmp_path, 4), 4)

    state, run = store.download(stored, tmp_path / "back")
    assert (run.step, state.num_updates) == (4, 4)
    assert state.trained["w"].tolist() == [4.0, 4.0, 4.0]
    assert stored.path == f"{tmp_path}/store/step-00000004"
    assert store.find(4) == stored
    assert store.find(5) is None


def test_the_newest_and_the_best_stay(tmp_path):
    store = store_at(tmp_path / "store", keep=2)
    seen = []
    for step, loss in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, 1.5), (6, 0.5), (7, 0.9)]:
        store.put(write_checkpoint(tmp_path, step, loss=loss), step)
        seen.append(steps(store))

    assert seen == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7]]


def test_without_validation_only_the_newest_stay(tmp_path):
    store = store_at(tmp_path / "store", keep=3)
    for step in range(1, 6):
        store.put(write_checkpoint(tmp_path, step), step)

    assert steps(store) == [3, 4, 5]


def test_a_folder_without_its_mark_does_not_count_and_is_cleared_away(tmp_path):
    store = store_at(tmp_path / "store")
    store.put(write_checkpoint(tmp_path, 1), 1)
    half = tmp_path / "store" / "step-00000002"
    write_checkpoint(tmp_path, 2).rename(half)
    (half / COMMITTED).unlink()

    assert steps(store) == [1]
    store.put(write_checkpoint(tmp_path, 3), 3)
    assert steps(store) == [1, 3]
    assert not half.exists()


def test_the_mark_is_written_last(tmp_path, monkeypatch):
    store = store_at(tmp_path / "store")
    order = []

    def watch(path, source, **how):
        order.append(path.rpartition("/")[2])
        write_file(path, source, **how)

    monkeypatch.setattr(checkpoints, "write_file", watch)
    store.put(write_checkpoint(tmp_path, 1), 1)

    assert order[-1] == COMMITTED
    assert order.count(COMMITTED) == 1
    assert len(order) == 5


def test_a_passing_failure_is_outlived(tmp_path, full_disk, waits, caplog):
    full_disk += [True] * 2
    store = store_at(tmp_path / "store")

    store.put(write_checkpoint(tmp_path, 1), 1)

    assert steps(store) == [1]
    assert len(waits) == caplog.text.count("No space left on device; trying again in ") == 2


def test_a_lasting_failure_is_an_error_that_names_what_is_left(tmp_path, full_disk, waits):
    store = store_at(tmp_path / "store")
    store.put(write_checkpoint(tmp_path, 1), 1)
    full_disk += [True] * checkpoints.UPLOAD_ATTEMPTS

    with pytest.raises(
        TrainingError,
        match=r"step 2 could not be written: .*step-0+2/\S+ .*: No space.*; the one of step 1 is intact",
    ):
        store.put(write_checkpoint(tmp_path, 2), 2)

    assert len(waits) == checkpoints.UPLOAD_ATTEMPTS - 1
    assert store.download(store.committed()[-1], tmp_path / "back")[1].step == 1


def test_s3_and_its_outage(tmp_path):
    with s3_server("runs") as files:
        store = store_at("s3://runs/x/checkpoints", keep=1)
        for step, loss in [(1, 0.5), (2, 0.7), (3, 0.6)]:
            store.put(write_checkpoint(tmp_path, step, loss=loss), step)

        assert steps(store) == [1, 3]
        state, run = store.download(store.committed()[-1], tmp_path / "back")
        assert (run.step, state.trained["w"][0].item()) == (3, 3.0)
        assert not exists("s3://runs/x/checkpoints/step-00000002/state.json")
        files.rm("runs", recursive=True)  # the bucket is gone
        with pytest.raises(
            TrainingError,
            match=r"step 4 could not .* s3://runs/x/checkpoints/step-0+4/.*: no bucket of that name",
        ):
            store.put(write_checkpoint(tmp_path, 4), 4)


def test_an_outage_of_s3_in_the_middle_of_an_upload(tmp_path):
    """The second file of the second checkpoint is refused, until it is over."""
    down = threading.Event()
    with s3_server("runs"):
        spoil = faults(
            os.environ["AWS_ENDPOINT_URL"],
            lambda key, _: "denied" if down.is_set() and key.endswith(MOMENTS) else None,
            methods=("PUT", "POST"),
        )
        with spoil as attempts:
            store = store_at("s3://runs/x/checkpoints")
            store.put(write_checkpoint(tmp_path, 1), 1)
            down.set()
            folder = write_checkpoint(tmp_path, 2)

            with pytest.raises(
                TrainingError, match=r"step 2 could not be written: .*; the one of step 1 is intact"
            ):
                store.put(folder, 2)

            assert attempts[f"/runs/x/checkpoints/step-00000002/{MOMENTS}"] == ATTEMPTS_REFUSED
            assert steps(store) == [1]
            assert store.download(store.committed()[-1], tmp_path / "back")[1].step == 1
            down.clear()
            store.put(folder, 2)
            assert steps(store) == [1, 2]


def test_uploads_run_while_training_continues(tmp_path, monkeypatch):
    store, folder = store_at(tmp_path / "store"), write_checkpoint(tmp_path, 1)
    gate = threading.Event()

    def slow(path, source, **how):
        gate.wait(10)
        write_file(path, source, **how)

    monkeypatch.setattr(checkpoints, "write_file", slow)
    uploader = CheckpointUploader(store)

    uploader.submit(folder, 1)
    assert steps(store) == []  # and we are here already
    gate.set()
    uploader.wait()

    assert steps(store) == [1]
    assert not folder.exists()


def test_a_failed_upload_is_raised_by_the_next_one(tmp_path, full_disk):
    store = store_at(tmp_path / "store")
    full_disk += [True] * checkpoints.UPLOAD_ATTEMPTS
    uploader = CheckpointUploader(store)
    uploader.submit(write_checkpoint(tmp_path, 1), 1)

    with pytest.raises(TrainingError, match=r"step 1 could not be written: .* no earlier one is known"):
        uploader.submit(write_checkpoint(tmp_path, 2), 2)


def test_every_failure_of_an_upload_is_raised(tmp_path, monkeypatch):
    """Also an unexpected one: training would continue without checkpoints."""
    uploader = CheckpointUploader(store_at(tmp_path / "store"))
    monkeypatch.setattr(CheckpointStore, "put", lambda *_: [].pop())
    uploader.submit(write_checkpoint(tmp_path, 1), 1)

    with pytest.raises(IndexError, match="pop from empty list"):
        uploader.wait()


def test_a_store_that_does_not_exist_is_empty(tmp_path):
    assert store_at(tmp_path / "nowhere").committed() == []


def test_metrics_are_restored_unless_damaged_or_older(tmp_path):
    store, folder = store_at(tmp_path / "store"), tmp_path / "local"
    state = EngineState({"w": torch.zeros(1)}, {}, 1)
    save_checkpoint(folder, state, RunState(2, 16, "hash", "0.1.0"), [{"step": 1.0}, {"step": 2.0}])
    stored = store.put(folder, 2)

    assert store.records(stored) == [{"step": 1.0}, {"step": 2.0}]
    kept = tmp_path / "store/step-00000002/records.jsonl"
    kept.write_text('{"step')
    assert store.records(stored) == []
    kept.unlink()
    assert store.records(stored) == []


def test_the_state_is_read_without_tensors(tmp_path):
    store = store_at(tmp_path / "store")
    stored = store.put(write_checkpoint(tmp_path, 3, loss=0.25), 3)

    assert store.state(stored) == RunState(3, 24, "hash", "0.1.0", 0.25)
    assert json.loads((tmp_path / "store/step-00000003/state.json").read_text())["validation_loss"] == 0.25


def engine_state():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator)
    return EngineState(
        trained={"mapper.weight": weight, "mapper.bias": torch.randn(3, generator=generator)},
        moments={"exp_avg/mapper.weight": weight.t(), "exp_avg_sq/mapper.weight": weight**2},
        num_updates=4,
    )


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", engine_state(), RUN)
    return tmp_path / "checkpoint"


def test_what_comes_back_is_what_was_kept_to_the_last_bit(checkpoint):
    state, run = load_checkpoint(checkpoint)
    kept = engine_state()

    assert run == RUN
    assert state.num_updates == 4
    for found, expected in ((state.trained, kept.trained), (state.moments, kept.moments)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_same_state_gives_the_same_bytes(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "again", engine_state(), RUN)

    for path in checkpoint.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_checkpoint_without_its_mark_is_refused(checkpoint):
    (checkpoint / COMMITTED).unlink()

    with pytest.raises(TrainingError, match=f"^the checkpoint {checkpoint} was not finished: {COMMITTED}"):
        load_checkpoint(checkpoint)


def test_a_mark_that_is_cut_off_is_refused(checkpoint):
    text = (checkpoint / COMMITTED).read_text()
    (checkpoint / COMMITTED).write_text(text[: len(text) // 2])

    with pytest.raises(TrainingError, match="was not finished"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", [TRAINED, MOMENTS, STATE])
def test_a_missing_file_is_refused(checkpoint, name):
    (checkpoint / name).unlink()

    with pytest.raises(TrainingError, match=f"^the checkpoint {checkpoint} lacks {name}$"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", [TRAINED, MOMENTS, STATE])
def test_a_file_that_is_cut_off_is_refused(checkpoint, name):
    data = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(data[:-3])

    with pytest.raises(TrainingError, match=f"{name} .*: {len(data) - 3} bytes instead of {len(data)}"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", [TRAINED, MOMENTS, STATE])
def test_one_altered_byte_is_refused(checkpoint, name):
    data = bytearray((checkpoint / name).read_bytes())
    data[-2] ^= 1
    (checkpoint / name).write_bytes(data)

    with pytest.raises(TrainingError, match=f"{checkpoint / name} is not what was committed"):
        load_checkpoint(checkpoint)


def test_nothing_at_all_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="was not finished"):
        load_checkpoint(tmp_path / "nowhere")


def test_the_mark_covers_every_other_file(checkpoint):
    marked = json.loads((checkpoint / COMMITTED).read_text())

    assert set(marked) == {path.name for path in checkpoint.iterdir()} - {COMMITTED}


def test_weights_of_another_architecture_are_counted_and_named():
    state = engine_state()
    here = {"mapper.weight": torch.zeros(3, 5), "lora": torch.zeros(2)}

    check_architecture(state, state.trained, where="x")
    with pytest.raises(
        TrainingError,
        match=r"^x is of another architecture: 3 of 2 tensors differ, first lora: absent there, \(2,\)",
    ):
        check_architecture(state, here, where="x")


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


def test_a_run_resumes_from_its_newest_checkpoint(config, trained):
    engine, store = trained
    other = fresh_engine(config.replace(seed=3))

    state, run = store.read_newest()

    assert run.step == 6
    restore(other, state, run, config)
    assert other.num_updates == 6
    expected = engine.state().trained
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state().trained.items())


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(config, trained, tmp_path, caplog):
    _, store = trained
    newest = tmp_path / "out/runs/small/checkpoints/step-00000006/trained.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])

    _, run = store.read_newest()

    assert run.step == 4
    assert "going back to the one before" in caplog.text


def test_a_run_whose_every_checkpoint_is_damaged_does_not_restart(config, trained, tmp_path):
    _, store = trained
    for folder in (tmp_path / "out/runs/small/checkpoints").iterdir():
        (folder / "moments.safetensors").write_bytes(b"")

    with pytest.raises(TrainingError, match=r"moments\.safetensors is not what was committed"):
        store.read_newest()


def test_a_run_without_checkpoints_starts(config):
    assert open_store(config).read_newest() is None


def test_another_architecture_is_refused(config, trained):
    _, store = trained
    state, run = store.read_newest()
    wider = config.replace(model={"mapper": {"hidden_dim": 64}})

    with pytest.raises(TrainingError, match=r"step 6 of the run 'small' is of another architecture: \d+ of"):
        restore(fresh_engine(wider), state, run, config)
