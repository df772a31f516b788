"""Stages answer on the device that the configuration names, by arguments that the commands have."""

from pathlib import Path

import pytest

from mats_ray.cli.main import build_parser
from mats_ray.config import load_config
from mats_ray.rehearsal.commands import ask_command, evaluate_command
from mats_ray.rehearsal.rows import Rows

ROWS = Rows(sources=[], evaluation=Path("clotho.csv"), audio=Path("audio"), texts=[])


def parsed(words):
    return build_parser(words).parse_args(words)


def on(gpus):
    sections = {"serve": {"answerer": {"gpus": gpus}}, "caption": {"gpus_per_actor": gpus}}
    return load_config("configs/mats_gpt2.yaml").replace(**sections)


@pytest.mark.parametrize(("gpus", "device"), [(0.5, "cuda"), (0, "cpu")])
def test_a_question_is_asked_on_the_device_of_the_service(gpus, device):
    config = on(gpus)
    command = ask_command(config, ROWS)

    args = parsed(command[command.index("ask") :])

    assert (args.device, args.model, args.audio) == (device, config.model_dir, "audio/clip0000.wav")


@pytest.mark.parametrize("gpus", [0.5, 0.0])
def test_the_evaluation_answers_with_the_gpus_of_the_caption_job(gpus):
    config = on(gpus)
    _, job, *words = evaluate_command(config, ROWS)

    args = parsed(["evaluate", *words])

    assert job == "jobs/evaluate.py"
    assert args.rehearsal
    assert f"caption.gpus_per_actor={gpus}" in args.overrides
    assert f"caption.batch_size={config.caption.batch_size}" in args.overrides
