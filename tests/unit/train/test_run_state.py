"""The identity of a run: its settings and inputs, and how the checkpoint of another run is refused."""

import dataclasses
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from mats_ray.config import RunConfig
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.errors import TrainingError
from mats_ray.models.llm import checkpoint_hash
from mats_ray.train.run_state import (
    INPUT_PATHS,
    NUM_STEPS,
    WITHOUT_EFFECT,
    RunInputs,
    RunState,
    check_same_run,
    identifying_settings,
    parse_run_state,
    run_hash,
    run_inputs,
)
from mats_ray.types import CLAPIdentity
from tests.unit.train.small import CLAP_DIM, small_run

IDENTITY = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=CLAP_DIM)
INPUTS = RunInputs({"data.embedded": "01ab (8 rows)", "model.clap": "laion CLAP 2", "model.llm": "33"})


@pytest.fixture
def config(llm_path, tmp_path):
    return small_run(llm_path, output_dir=str(tmp_path / "out"))


@pytest.fixture
def stored_run(config):
    """The run state of a checkpoint, read from its JSON."""
    state = RunState(6, 48, run_hash(config), "0.1.0", None, identifying_settings(config), INPUTS)
    return parse_run_state(json.loads(json.dumps(asdict(state))))


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
        f"give the other run a folder of its own, e.g. --set output_dir={config.output_dir}-2 "
        f"--set data.embedded={config.output_dir}/embedded "
        f"--set memory.path={config.output_dir}/santa_memory.safetensors"
    )


def test_more_steps_go_on_and_fewer_than_are_done_are_refused(config, stored_run):
    for num_steps in (6, 7, 600):
        check_same_run(stored_run, config.replace(train={"num_steps": num_steps}), INPUTS)
    longer = dataclasses.replace(stored_run, step=6, config=stored_run.config | {"train.num_steps": 12})
    check_same_run(longer, config.replace(train={"num_steps": 7}))

    for run, was, now in ((stored_run, 6, 5), (longer, 12, 6)):
        with pytest.raises(
            TrainingError,
            match=rf"shortened: train\.num_steps was {was}, is {now}; set it above the 6 steps done, or",
        ):
            check_same_run(run, config.replace(train={"num_steps": now}), INPUTS)


@pytest.mark.parametrize(
    ("then", "now"), [("0a", "0b"), ("0a", "not set"), ("not set", "0a"), (None, "0a")], ids=str
)
def test_other_initial_weights_are_refused(config, stored_run, then, now):
    """``None``: the checkpoint of a version without that key."""
    recorded = {} if then is None else {"train.init_from": then}
    run = dataclasses.replace(stored_run, inputs=RunInputs(recorded))

    check_same_run(run, config, RunInputs({"train.init_from": then or "not set"}))
    with pytest.raises(TrainingError, match=rf"train\.init_from was {then or 'not set'}, is {now}; bring"):
        check_same_run(run, config, RunInputs({"train.init_from": now}))


def test_the_page_lists_the_keys_that_may_change():
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    rows = [
        line.split("|")[1:3] for line in page.split("\n## Going on")[1].splitlines() if line.startswith("| ")
    ]
    listed = {key: rule.strip() for keys, rule in rows for key in re.findall(r"`([^`]+)`", keys)}
    prefixes = {"train": "train", "data": "data", "embed": "data.embed"}
    free = {f"{prefixes[name]}.{key}" for name, keys in WITHOUT_EFFECT.items() for key in keys}
    sections = {key.split(".")[0] for key in identifying_settings(RunConfig.model_construct())}

    assert {key for key, rule in listed.items() if rule == "may change" and "." in key} == free | {
        "train.engine.type",
        "train.engine.zero_stage",
    }
    assert {key for key, rule in listed.items() if rule.startswith("another place")} == set(INPUT_PATHS)
    assert [key for key, rule in listed.items() if "above the steps done" in rule] == [NUM_STEPS]
    assert {key for key, rule in listed.items() if rule.startswith("refused, with every key")} == sections


def test_a_key_that_is_newer_than_the_checkpoint_had_its_default(config, stored_run):
    older = {key: value for key, value in stored_run.config.items() if key != "data.splits"}
    older_run = dataclasses.replace(stored_run, config=older)

    check_same_run(older_run, config)
    with pytest.raises(TrainingError, match=r"data\.splits was \['train'\], is \['train', 'val'\]; give"):
        check_same_run(older_run, config.replace(data={"splits": ["train", "val"]}))


def test_a_checkpoint_that_with_only_a_hash_is_compared_by_it(config, stored_run):
    bare = dataclasses.replace(stored_run, config={}, inputs=RunInputs())

    check_same_run(bare, config, INPUTS)
    with pytest.raises(TrainingError, match=r"another configuration; give the other run"):
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


def test_the_same_inputs_at_another_path_resume(config, stored_run):
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
            "train.init_from": "not set",
        },
        {"clotho": 3},
    )


def test_a_prompt_is_compared_by_its_text_and_not_by_its_name(config, stored_run):
    """A checkpoint of a version without formats was trained with Vicuna's."""
    for name in ("auto", "vicuna", "chat"):
        check_same_run(
            stored_run,
            config.replace(model={"llm": {"prompt_format": name}}),
            RunInputs({"model.llm.prompt_format": "vicuna"}),
        )
    with pytest.raises(TrainingError, match=r"model\.llm\.prompt_format was vicuna, is chat \(01ab\); bring"):
        check_same_run(stored_run, config, RunInputs({"model.llm.prompt_format": "chat (01ab)"}))

    chat = dataclasses.replace(stored_run, inputs=RunInputs({"model.llm.prompt_format": "chat (01ab)"}))
    check_same_run(chat, config, RunInputs({"model.llm.prompt_format": "chat (01ab)"}))
    with pytest.raises(TrainingError, match=r"model\.llm\.prompt_format was chat \(01ab\), is chat \(02cd\)"):
        check_same_run(chat, config, RunInputs({"model.llm.prompt_format": "chat (02cd)"}))


def test_the_name_of_the_prompt_format_changes_no_hash(config):
    assert run_hash(config) == run_hash(config.replace(model={"llm": {"prompt_format": "vicuna"}}))


def test_the_prompt_is_an_input(llm_path):
    data = EmbeddedTriplets((), IDENTITY, fingerprint="01ab")

    found = run_inputs(data, prompt="chat (01ab)").fingerprints

    assert found["model.llm.prompt_format"] == "chat (01ab)"


def test_the_state_of_another_version_is_named():
    with pytest.raises(TrainingError, match=r"state\.json of mats_ray 9\.0 cannot be read: .*'pace'"):
        parse_run_state({"step": 1, "samples": 8, "run_hash": "a", "version": "9.0", "pace": 3})


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling": {"num_workers": 1, "threads_per_worker": 4, "use_gpu": True}},
        {"train": {"log_every": 7, "max_failures": 0, "micro_batch_size": 2}},
        {"train": {"checkpoint": {"every_steps": 3, "keep": 9}, "trackers": [], "stall_seconds": 3}},
        {"train": {"validation": {"data": "held_out", "every_steps": 5}}, "data": {"group_by_length": False}},
        {"train": {"engine": {"type": "deepspeed", "zero_stage": 1}}},
        {"data": {"embed": {"batch_size": 3, "concurrency": 4, "gpus_per_actor": 1}}},
        {"name": "other", "output_dir": "s3://bucket/x", "generation": {"profile": "fast"}},
        {"model": {"bridge": "spectral"}, "spectral": {"num_axes": 3}, "memory": {"pairs": "p.jsonl"}},
        {"santa": {"mix": 0.5}, "caption": {"batch_size": 1}, "serve": {"threads": 2}},
    ],
    ids="-".join,
)
def test_workers_logging_and_use_do_not_make_another_run(config, changes):
    assert run_hash(config.replace(**changes)) == run_hash(config)
    assert identifying_settings(config.replace(**changes)) == identifying_settings(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"train": {"optim": {"lr": 2e-3}}},
        {"train": {"optim": {"weight_decay": 0}}},
        {"train": {"schedule": {"warmup_steps": 1}}},
        {"train": {"num_steps": 7}},
        {"train": {"global_batch_size": 16}},
        {"train": {"engine": {"type": "deepspeed", "precision": "bf16"}}},
        {"model": {"mapper": {"num_layers": 2}}},
        {"model": {"noise": {"variance": 0.1}}},
        {"model": {"llm": {"path": "another"}}},
        {"data": {"embedded": "elsewhere"}},
        {"data": {"embed": {"num_partitions": 3}}},
    ],
    ids=str,
)
def test_what_decides_the_numbers_makes_another_run(config, changes):
    assert run_hash(config.replace(**changes)) != run_hash(config)
