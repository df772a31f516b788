"""``mats plan``: a page of arithmetic, or one line of what is wrong."""

import json

import pytest

from mats_ray.cli.main import main

LLAMA = "configs/mats_llama_7b.yaml"


def test_the_plan_of_the_paper_on_sixteen_a100(capsys):
    assert main(["plan", LLAMA, "--gpu", "a100-80", "--gpus", "16"]) == 0

    said = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert said["trained parameters"].strip() == "117.5 M"
    assert said["samples/s"].strip() == "540"
    assert said["micro-batch that fits"].strip() == "6 (the configuration says 12)"
    assert said["host memory per GPU"].strip().startswith("13.5 GB ")
    assert "measured" not in said  # its bucket is not asked


def test_a_run_that_was_measured_stands_beside_it(capsys, tmp_path):
    run = tmp_path / "runs" / "mats_llama_7b"
    run.mkdir(parents=True)
    record = {"step": 1, "samples_per_s": 42.0, "tokens_per_s": 4200.0, "mfu": 0.31, "peak_memory_gb": 61.5}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")

    assert main(["plan", LLAMA, "--gpus", "2", "--set", f"output_dir={tmp_path}"]) == 0

    line = capsys.readouterr().out.splitlines()[-1]
    assert "42 samples/s, 100 text tokens a sample, MFU 0.31 of the measured ceiling, 61.5 GB" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpus", "7"], "train.global_batch_size=96 is not a multiple of 7 GPUs"),
        (["--gpus", "0"], "--gpus 0 and --tokens 100 must be at least 1"),
        (["--mfu", "1.5"], "--mfu 1.5 in (0, 1]"),
        (
            ["--set", "model.llm.path=org/unheard-of"],
            "the shape of the language model 'org/unheard-of' is not known",
        ),
    ],
)
def test_what_cannot_be_planned_is_said(arguments, said, capsys):
    assert main(["plan", LLAMA, *arguments]) != 0

    assert said in capsys.readouterr().err.splitlines()[-1]
