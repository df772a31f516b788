"""Metrics on the driver: every record in metrics.jsonl once, a whole file whenever it is read."""

import json

import pytest

from mats_ray.config import RunConfig
from mats_ray.errors import DataError
from mats_ray.storage import exists
from mats_ray.train.metrics_logger import MetricsLogger, read_records
from mats_ray.train.tracking import TensorBoard
from tests.s3 import s3_server
from tests.unit.train.test_tracking import all_events


def record(step, loss=1.0):
    return {"step": step, "loss": loss, "lr": 1e-3, "samples_per_s": 10.0}


def follow(records, path, *, log_every=1, num_steps=8, checkpoint_records=()):
    """Run the logger on records that are all there already."""
    metrics_logger = MetricsLogger(
        lambda index: [(one, ()) for one in records[index:]],
        path=path,
        label="train x",
        num_steps=num_steps,
        log_every=log_every,
        checkpoint_records=checkpoint_records,
    )
    with metrics_logger:
        pass
    return metrics_logger


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "runs" / "x" / "metrics.jsonl")


def test_records_are_lines_of_json_by_step(path):
    metrics_logger = follow([record(1), record(2, loss=0.5)], path)

    assert read_records(path) == {1: record(1), 2: record(2, loss=0.5)}
    assert metrics_logger.last == record(2, loss=0.5)


def test_records_on_s3():
    with s3_server("runs"):
        follow([record(1)], "s3://runs/x/metrics.jsonl")

        assert read_records("s3://runs/x/metrics.jsonl") == {1: record(1)}
        assert not exists("s3://runs/x/metrics.jsonl.pending")


def test_a_resumed_run_keeps_what_was_and_replaces_what_it_did_again(path):
    follow([record(1), record(2), record(3, loss=9.0)], path)

    follow([record(3, loss=0.3), record(4)], path)

    assert read_records(path) == {1: record(1), 2: record(2), 3: record(3, loss=0.3), 4: record(4)}


def test_what_a_killed_driver_had_not_written_comes_from_the_checkpoint(path):
    follow([record(1), record(2)], path)

    follow([record(5)], path, checkpoint_records=[record(2, loss=7.0), record(3), record(4)])

    assert read_records(path) == {step: record(step) for step in range(1, 6)}


def test_a_run_without_new_records_returns_the_last_one(path):
    follow([record(1), record(2)], path)

    assert follow([], path).last == record(2)


def test_no_file_is_no_records(path):
    assert read_records(path) == {}
    assert follow([], path).last == {}


def test_each_record_is_polled_once(path):
    indices = []

    def poll(index):
        indices.append(index)
        return [(record(len(indices)), ())] if len(indices) <= 3 else []

    metrics_logger = MetricsLogger(poll, path=path, label="x", num_steps=3, log_every=1)
    with metrics_logger:
        for _ in range(3):
            metrics_logger._poll()

    assert indices == [0, 1, 2, 3]
    assert list(read_records(path)) == [1, 2, 3]


@pytest.mark.parametrize("text", ['{"step": 1, "lo', '{"loss": 1}\n', "[1]\n", "\x00\n"])
def test_a_file_that_is_no_records_is_named(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record(1)) + "\n" + text)

    with pytest.raises(
        DataError, match=f"^{tmp_path}/metrics.jsonl holds a line that is no metrics record: "
    ):
        read_records(str(tmp_path / "metrics.jsonl"))


def test_a_reader_during_a_write_finds_a_whole_file(path, tmp_path):
    """The file is replaced, never cut and refilled: an open one stays as it was."""
    follow([record(1)], path)
    with open(path) as before:  # noqa: PTH123
        follow([record(2)], path)

        assert before.read() == json.dumps(record(1)) + "\n"
    assert [one.name for one in (tmp_path / "runs" / "x").iterdir()] == ["metrics.jsonl"]


def test_progress_names_run_step_loss_and_rate_of_samples(path, capsys):
    follow([record(1), record(8, loss=0.25)], path)

    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("train x 8/8 steps  ")
    assert line.endswith("loss 0.250  lr 1.0e-03  10 samples/s")


def test_the_rate_of_a_resumed_run_leaves_out_what_was_done_before(path):
    metrics_logger = follow([record(40)], path, log_every=20, num_steps=60)

    assert (metrics_logger._progress._offset, metrics_logger._progress.done) == (20, 40)


def test_an_error_in_the_run_passes_through(path):
    with (
        pytest.raises(ZeroDivisionError),
        MetricsLogger(
            lambda index: [(record(1), ())][index:], path=path, label="x", num_steps=2, log_every=1
        ),
    ):
        raise ZeroDivisionError

    assert read_records(path) == {1: record(1)}


def test_generated_texts_are_written_beside_the_metrics_by_step(path, tmp_path):
    def sample(step, text):
        return (record(step), [{"id": "a", "instruction": "Q", "answer": "yes", "generated": text}])

    for logged in ([sample(1, "x"), sample(2, "y")], [sample(2, "z")]):
        with MetricsLogger(
            lambda index, all_=logged: all_[index:], path=path, label="x", num_steps=2, log_every=1
        ):
            pass

    lines = [
        json.loads(line) for line in (tmp_path / "runs" / "x" / "samples.jsonl").read_text().splitlines()
    ]
    assert [(line["step"], line["generated"]) for line in lines] == [(1, "x"), (2, "z")]


class Recorded:
    """A tracker that can be read."""

    def __init__(self):
        self.records, self.restarts, self.closed = [], 0, False

    def restart(self):
        self.records, self.restarts = [], self.restarts + 1

    def log(self, record, samples):
        self.records.append(record)

    def close(self):
        self.closed = True


def tracked(records, path, tracker, *, checkpoint_records=()):
    """Follow with a tracker; polled after each record, as in a slow run."""
    metrics_logger = MetricsLogger(
        lambda index: [(one, ()) for one in records[index : index + 1]],
        path=path,
        label="x",
        num_steps=9,
        log_every=1,
        trackers=[tracker],
        checkpoint_records=checkpoint_records,
    )
    with metrics_logger:
        for _ in records:
            metrics_logger._poll()


def test_trackers_get_every_record_and_are_closed(path):
    tracker = Recorded()
    tracked([record(1), record(2)], path, tracker)

    assert tracker.records == [record(1), record(2)]
    assert tracker.closed
    assert tracker.restarts == 1


def test_trackers_have_each_step_once_after_a_worker_was_lost(path):
    tracker = Recorded()
    again = [record(step, loss=2.0) for step in (3, 4, 5, 6)]

    tracked([*(record(step) for step in range(1, 6)), *again], path, tracker)

    assert tracker.records == [record(1), record(2), *again]
    assert tracker.records == list(read_records(path).values())
    assert tracker.restarts == 2


@pytest.mark.parametrize("written", range(8))
def test_trackers_have_each_step_once_after_the_driver_was_killed(path, written):
    """Killed with so many records written down, it resumes from its checkpoint of step 4."""
    tracked([record(step) for step in range(1, written + 1)], path, Recorded())
    tracker = Recorded()

    tracked(
        [record(step) for step in range(5, 10)],
        path,
        tracker,
        checkpoint_records=[record(step) for step in range(1, 5)],
    )

    assert tracker.records == [record(step) for step in range(1, 10)] == list(read_records(path).values())


def test_trackers_have_what_a_run_logged_that_trains_nothing_more(path):
    tracked([record(step) for step in range(1, 6)], path, Recorded())
    finished, failed = Recorded(), Recorded()

    tracked([], path, finished)
    tracked([record(3, loss=2.0)], path, failed)  # and then it fails

    assert finished.records == [record(step) for step in range(1, 6)]
    assert failed.records == [record(1), record(2), record(3, loss=2.0), record(4), record(5)]
    assert failed.records == list(read_records(path).values())


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_event_files_have_each_step_once_wherever_the_kill_cut_them_off(tmp_path, cut):
    config = RunConfig.model_validate({"name": "x", "toy": {}, "output_dir": str(tmp_path)})
    path, folder = f"{config.runs_dir}/x/metrics.jsonl", tmp_path / "runs/x/tensorboard"
    tracked([record(step) for step in range(1, 8)], path, TensorBoard(config))
    (file,) = folder.glob("events.*")
    file.write_bytes(file.read_bytes()[:-cut])

    tracked([record(step, loss=2.0) for step in range(5, 10)], path, TensorBoard(config))

    losses = [(step, value) for (tag, step), value in all_events(folder) if tag == "loss"]
    assert losses == [(step, 1.0 if step < 5 else 2.0) for step in range(1, 10)]


def test_trackers_get_the_answers_of_steps_before(path):
    class Samples(Recorded):
        def log(self, record, samples):
            self.records.append([sample["generated"] for sample in samples])

    answers = [{"id": "a", "instruction": "Q", "answer": "yes", "generated": "no"}]
    for tracker in (Samples(), Samples()):
        logged = [(record(1), answers)]
        with MetricsLogger(
            lambda index, all_=logged: all_[index:],
            path=path,
            label="x",
            num_steps=1,
            log_every=1,
            trackers=[tracker],
        ):
            pass

        assert tracker.records == [["no"]]


def test_a_record_of_validation_alone_draws_progress(path, capsys):
    follow([{"step": 8, "validation_loss": 0.5}], path)

    assert capsys.readouterr().err.splitlines()[-1].endswith("held out 0.500")
