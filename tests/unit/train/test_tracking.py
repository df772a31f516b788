"""Trackers: event files that TensorBoard reads, packages that are not there, what is handed to the others."""

import sys
from types import SimpleNamespace

import pytest

from mats_ray.config import RunConfig
from mats_ray.errors import ConfigError
from mats_ray.storage import exists
from mats_ray.train.tracking import check_trackers, open_trackers
from tests.s3 import s3_server

SAMPLE = {"id": "a", "instruction": "Is there a dog?", "answer": "yes", "generated": "no"}
RECORD = {"step": 3, "loss": 0.5, "validation_loss": 0.75}


def configured(output_dir, *trackers):
    tree = {"name": "birds", "toy": {}, "output_dir": str(output_dir), "train": {"trackers": trackers}}
    return RunConfig.model_validate(tree)


def track(config):
    check_trackers(config)
    for tracker in open_trackers(config):
        tracker.restart()
        tracker.log(RECORD, [SAMPLE])
        tracker.log({"step": 4, "loss": 0.25}, [])
        tracker.close()


def all_events(folder):
    """Return ((tag, step), value) of every event as TensorBoard reads it, texts as bytes."""
    from tensorboardX.proto.event_pb2 import Event

    for file in folder.glob("events.*"):
        data = file.read_bytes()
        while data:  # a length, its checksum, a message, its checksum
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                text = value.tensor.string_val
                yield (value.tag, event.step), text[0] if text else value.simple_value
            data = data[16 + size :]


def events_in(folder):
    return dict(all_events(folder))


def test_a_restart_replaces_event_files_and_nothing_else(tmp_path):
    config, folder = configured(tmp_path, "tensorboard"), tmp_path / "runs" / "birds" / "tensorboard"
    track(config)
    (folder / "notes.txt").touch()
    before = list(all_events(folder))

    track(config)

    assert list(all_events(folder)) == before
    assert (folder / "notes.txt").exists()


def test_a_restart_replaces_event_files_on_s3(tmp_path):
    config = configured("s3://runs/out", "tensorboard")
    with s3_server("runs") as files:
        track(config)
        track(config)
        files.get("runs/out/runs/birds/tensorboard/", str(tmp_path / "got"), recursive=True)

    events = [event for event, _ in all_events(tmp_path / "got")]
    assert events.count(("loss", 3)) == events.count(("loss", 4)) == 1


def test_tensorboard_is_the_default_and_gets_numbers_and_text(tmp_path):
    assert RunConfig.model_validate({"toy": {}}).train.trackers == ("tensorboard",)
    track(configured(tmp_path, "tensorboard"))

    events = events_in(tmp_path / "runs" / "birds" / "tensorboard")

    assert events["loss", 3] == 0.5
    assert events["loss", 4] == 0.25
    assert events["validation_loss", 3] == 0.75
    (text,) = [value for (tag, _), value in events.items() if tag.startswith("samples")]
    assert text == b"Is there a dog? | generated: no | reference: yes"


def test_event_files_reach_s3():
    with s3_server("runs"):
        track(configured("s3://runs/out", "tensorboard"))

        assert exists("s3://runs/out/runs/birds/tensorboard")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_not_there_is_named_before_anything_starts(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ConfigError, match=f"train.trackers names '{name}', .*pip install {name}"):
        check_trackers(configured(tmp_path, name))


def test_wandb_resumes_the_same_run(tmp_path, monkeypatch):
    calls = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finished"), step=0
    )
    started = []
    wandb = SimpleNamespace(init=lambda **what: started.append(what) or run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    for _ in range(2):
        track(configured(tmp_path, "wandb"))

    assert started[0] == started[1]
    assert (started[0]["name"], started[0]["resume"]) == ("birds", "allow")
    line = "Is there a dog? | generated: no | reference: yes"
    assert calls[:3] == [
        (3, {"loss": 0.5, "validation_loss": 0.75, "samples": line}),
        (4, {"loss": 0.25}),
        "finished",
    ]


def test_wandb_and_mlflow_get_each_step_once(tmp_path, monkeypatch):
    steps = {"wandb": [], "mlflow": []}
    run = SimpleNamespace(step=4, log=lambda values, step: steps["wandb"].append(step), finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run))

    class MLflowModule:
        def __getattr__(self, name):
            return lambda *_, step=0, **__: steps["mlflow"].append(step) if name == "log_metrics" else None

    monkeypatch.setitem(sys.modules, "mlflow", MLflowModule())
    for tracker in open_trackers(configured(tmp_path, "wandb", "mlflow")):
        for first in (1, 3):  # a worker was lost after step 5, and the run resumes from step 2
            tracker.restart()
            for step in range(1, 6 if first == 1 else 8):
                tracker.log({"step": step, "loss": 1.0}, [])

    assert steps["mlflow"] == [1, 2, 3, 4, 5, 6, 7]
    assert set(steps["wandb"]) == {4, 5, 6, 7}  # steps 1 to 3 were there from before


def test_mlflow_gets_metrics_by_step_and_samples_as_text(tmp_path, monkeypatch):
    calls = []

    class MLflowModule:
        def __getattr__(self, name):
            return lambda *args, **kwargs: calls.append((name, args, kwargs))

    monkeypatch.setitem(sys.modules, "mlflow", MLflowModule())
    track(configured(tmp_path, "mlflow"))

    assert ("start_run", (), {"run_name": "birds"}) in calls
    assert ("log_metrics", ({"loss": 0.25},), {"step": 4}) in calls
    assert (
        "log_text",
        ("Is there a dog? | generated: no | reference: yes", "samples/00000003.txt"),
        {},
    ) in calls
    assert calls[-1][0] == "end_run"


def test_no_trackers_is_no_work(tmp_path):
    track(configured(tmp_path))

    assert not (tmp_path / "runs").exists()
