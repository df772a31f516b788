"""The loop: what it logs and stores and when, that a stop changes nothing, and how it fails."""

import itertools
import json
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from mats_ray.errors import NotFiniteError, TrainingError
from mats_ray.train.checkpoints import RECORDS, load_checkpoint
from mats_ray.train.loop import LocalContext, fit
from mats_ray.train.optim import learning_rate
from mats_ray.train.run_state import (
    UNKNOWN_INPUTS,
    RunInputs,
    fresh_state,
    identifying_settings,
    run_hash,
    state_after,
)
from tests.unit.train.small import fresh_engine, small_run, stream


@pytest.fixture
def config(llm_path):
    return small_run(llm_path)


def train(config, *, start_step=0, state=None, context=None, inputs=UNKNOWN_INPUTS, start=None, **more):
    """Fit a fresh engine, from a state if given; return it with its context."""
    engine, context = fresh_engine(config), context or LocalContext()
    if state is not None:
        engine.load_state(state)
    engine.num_updates = start_step
    fit(
        engine,
        stream(config, start_step=start_step),
        context,
        config,
        start=start or fresh_state(inputs),
        **more,
    )
    return engine, context


def losses_and_norms(context):
    """Records without what depends on the clock."""
    return [{key: record[key] for key in ("step", "loss", "lr", "grad_norm")} for record in context.records]


@pytest.mark.parametrize("stop", [2, 4])
def test_a_run_stopped_and_resumed_equals_an_unbroken_one_bit_for_bit(config, stop):
    unbroken, whole = train(config)
    state, run = load_checkpoint(whole.checkpoints[stop // 2 - 1])

    resumed, rest = train(config, start_step=run.step, state=state)

    assert (run.step, run.samples, run.run_hash) == (stop, 8 * stop, run_hash(config))
    assert losses_and_norms(rest) == losses_and_norms(whole)[stop:]
    expected, found = unbroken.state(), resumed.state()
    assert found.num_updates == 6
    assert all(torch.equal(found.trained[name], expected.trained[name]) for name in expected.trained)
    assert all(torch.equal(found.moments[name], expected.moments[name]) for name in expected.moments)


def test_a_longer_run_goes_on_as_if_it_had_been_given_the_old_ones_checkpoint(config):
    """Up to the old end nothing changes; from there on all but the weights is that of a run of nine steps."""
    longer = config.replace(train={"num_steps": 9})
    _, short = train(config)
    state, run = load_checkpoint(short.checkpoints[-1])
    same_state, _ = load_checkpoint(short.checkpoints[-1])

    raised, rest = train(longer, start_step=6, state=state, start=run)
    given, expected = train(longer, start_step=6, state=same_state)

    assert [record["step"] for record in rest.records] == [7, 8, 9]
    assert losses_and_norms(rest) == losses_and_norms(expected)
    assert all(torch.equal(t, raised.state().trained[name]) for name, t in given.state().trained.items())
    assert [record["lr"] for record in rest.records] == [
        learning_rate(step, lr=1e-3, num_steps=9, schedule=config.train.schedule) for step in (6, 7, 8)
    ]
    stored = load_checkpoint(rest.checkpoints[-1])[1]
    assert stored.num_steps_changes == ({"step": 6, "was": 6, "now": 9},)
    assert stored.config["train.num_steps"] == 9
    assert state_after(stored, longer, 9).num_steps_changes == stored.num_steps_changes


def test_every_step_draws_its_own_dropout(config):
    """Seen with weights that stay and the same eight samples in each step."""
    still = config.replace(train={"optim": {"lr": 1e-30}})
    without = still.replace(model={"llm": {"lora": {"dropout": 0.0}}})

    assert len({record["grad_norm"] for record in train(still)[1].records}) == 6
    assert len({record["grad_norm"] for record in train(without)[1].records}) == 1


def test_the_same_run_again_is_the_same_run(config):
    assert losses_and_norms(train(config)[1]) == losses_and_norms(train(config)[1])
    assert losses_and_norms(train(config)[1]) != losses_and_norms(train(config.replace(seed=1))[1])


def test_every_step_has_the_learning_rate_of_the_schedule(config):
    _, context = train(config)

    expected = [
        learning_rate(step, lr=1e-3, num_steps=6, schedule=config.train.schedule) for step in range(6)
    ]
    assert [record["lr"] for record in context.records] == expected


@pytest.mark.parametrize(
    ("log_every", "every_steps", "logged", "kept"),
    [(1, 2, [1, 2, 3, 4, 5, 6], [2, 4, 6]), (4, 4, [4, 6], [4, 6]), (100, 100, [6], [6])],
)
def test_it_logs_and_keeps_at_intervals_and_at_the_end(config, log_every, every_steps, logged, kept):
    config = config.replace(train={"log_every": log_every, "checkpoint": {"every_steps": every_steps}})

    _, context = train(config)

    assert [record["step"] for record in context.records] == logged
    assert [load_checkpoint(path)[1].step for path in context.checkpoints] == kept


def test_a_record_is_about_all_steps_since_the_last_one(config):
    _, each = train(config)
    _, third = train(config.replace(train={"log_every": 3}))

    mean = [sum(record["loss"] for record in each.records[start : start + 3]) / 3 for start in (0, 3)]
    assert [record["loss"] for record in third.records] == pytest.approx(mean)  # each step: the same tokens
    assert {"samples_per_s", "tokens_per_s", "data_wait_share"} <= third.records[0].keys()


def test_a_checkpoint_holds_the_metrics_so_far(config):
    _, context = train(config)

    for folder, steps in zip(context.checkpoints, (2, 4, 6), strict=True):
        lines = (folder / RECORDS).read_text().splitlines()
        assert [json.loads(line) for line in lines] == context.records[:steps]


def test_the_model_is_put_beside_the_last_checkpoint_once(config):
    finished = []

    engine, context = train(config, export_model=lambda directory, state: finished.append((directory, state)))

    assert [directory for directory, _ in finished] == context.checkpoints[-1:]
    weights = engine.state().trained
    assert all(torch.equal(tensor, weights[name]) for name, tensor in finished[0][1].trained.items())


def test_only_the_first_worker_writes(config):
    context = LocalContext(rank=1)

    train(config, context=context, export_model=lambda *_: pytest.fail("not the first worker"))

    assert context.checkpoints == []


def test_every_stage_is_named_before_it_starts(config):
    _, context = train(config)

    assert context.stages[:5] == [
        ("waiting for data", 1),
        ("forward, backward and update", 1),
        ("waiting for data", 2),
        ("forward, backward and update", 2),
        ("writing a checkpoint", 2),
    ]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["of Python", "of safetensors"],
)
def test_a_full_disk_is_reported_with_the_step_and_nothing_half_done_stays(config, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr("mats_ray.train.checkpoints.save_file", full)

    with pytest.raises(TrainingError, match=r"the checkpoint of step 2 cannot be written to .*No space left"):
        train(config)
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


def test_workers_of_one_step_draw_different_dropout(config):
    first, second = train(config)[1], train(config, context=LocalContext(rank=1))[1]

    assert losses_and_norms(first) != losses_and_norms(second)


def test_two_workers_train_on_half_the_micro_batches_each(config):
    batches = stream(config)

    fit(fresh_engine(config), batches, LocalContext(num_workers=2), config)

    assert len(list(batches)) == 6  # of 6 steps x 2 micro-batches


def test_a_finished_run_does_nothing(config):
    engine, context = train(config, start_step=6, export_model=lambda *_: pytest.fail("finished before"))

    assert (engine.num_updates, context.records, context.checkpoints) == (6, [], [])


def test_a_loss_that_is_not_finite_names_the_step_and_what_to_do(config):
    wild = {"optim": {"lr": 1e30, "max_grad_norm": 1e30}, "schedule": {"type": "constant", "warmup_steps": 0}}
    context = LocalContext()

    with pytest.raises(
        TrainingError, match=r"^step 2: loss sum nan over 74 .* lower train\.optim\.lr or"
    ) as caught:
        train(config.replace(train=wild), context=context)

    assert [record["step"] for record in context.records] == [1]
    assert context.checkpoints == []
    assert "among the samples s/0, s/1, s/2, s/3, s/4, s/5, s/6, s/7;" in str(caught.value)


def test_the_samples_of_a_bad_micro_batch_are_named(config):
    """The second micro-batch of step 2 holds an embedding that is not a number."""
    batches = list(stream(config))
    batches[3].clap_BC[1, 0] = float("nan")
    context = LocalContext()

    with pytest.raises(NotFiniteError, match=r"^step 2: .* among the samples s/4, s/5, s/6, s/7; ") as caught:
        fit(fresh_engine(config), batches, context, config)

    assert caught.value.certain
    assert context.checkpoints == []


def test_data_that_ends_early_is_not_the_end_of_a_run(config):
    context = LocalContext()

    with pytest.raises(TrainingError, match=r"^the data ended in step 3: 1 of 2 micro-batches came$"):
        fit(fresh_engine(config), itertools.islice(stream(config), 5), context, config)

    assert [record["step"] for record in context.records] == [1, 2]


def test_a_checkpoint_notes_what_decides_the_run_and_what_it_is_trained_from(config):
    inputs = RunInputs({"data.embedded": "0123 (8 rows)"}, {"clotho": 5, "macs": 3})
    _, context = train(config, inputs=inputs)

    for folder in context.checkpoints:
        run = load_checkpoint(folder)[1]
        assert (run.config, run.inputs) == (identifying_settings(config), inputs)
    assert identifying_settings(config)["train.optim.lr"] == 1e-3
    assert identifying_settings(config)["model.llm.lora.rank"] == 2
    assert not {"model.llm.path", "data.embedded", "train.log_every"} & identifying_settings(config).keys()


def test_records_samples_stages_and_checkpoints_stay_where_they_are(tmp_path):
    context = LocalContext()
    context.enter_stage("waiting for data", 1)
    context.log({"step": 1, "loss": 2.0})
    context.log({"step": 2, "loss": 1.0}, [{"id": "a"}])
    context.store_checkpoint(tmp_path, 2)

    assert (context.rank, context.num_workers) == (0, 1)
    assert context.stages == [("waiting for data", 1)]
    assert context.records == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    assert context.samples == [{"id": "a"}]
    assert context.checkpoints == [tmp_path]


def test_two_contexts_share_nothing():
    LocalContext().log({"step": 1})

    assert LocalContext().records == []
