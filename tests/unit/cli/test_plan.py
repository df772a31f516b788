"""``mats plan``: a page of arithmetic, or one line of what is wrong."""

import json

import pytest

from mats_ray.cli.main import main

LLAMA = "configs/mats_llama_7b.yaml"


def test_the_plan_of_the_paper_on_sixteen_a100(capsys):
    assert main(["plan", "--config", LLAMA, "--gpu", "a100-80", "--gpus", "16"]) == 0

    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["trained parameters"].strip() == "117.5 M"
    assert lines["samples/s"].strip() == "540"
    assert lines["fits in memory"].strip() == "88 samples at once"
    assert lines["micro-batch"].strip() == (
        "6, the largest that fits and divides the 6 samples of each GPU "
        "(the configuration's 12 fits, and does not divide them)"
    )
    assert lines["host memory per GPU"].strip().startswith("13.5 GB ")
    assert "measured" not in lines  # its bucket is not read


def test_the_price_of_a_gpu_hour_stands_beside_the_cost(capsys):
    costs = []
    for price in ([], ["--price", "2.5"], ["--price", "0"]):
        assert main(["plan", "--config", LLAMA, "--gpus", "16", *price]) == 0
        costs += [line for line in capsys.readouterr().out.splitlines() if line.startswith("cost:")]

    default, given, free = (cost.split(None, 1)[1] for cost in costs)
    assert default == (
        "$174 at $4 per GPU hour (a rounded price of large clouds on demand, 2025; --price changes it)"
    )
    assert given == "$109 at $2.5 per GPU hour"
    assert free == "$0 at $0 per GPU hour"


@pytest.mark.parametrize(
    ("gpu", "num_gpus", "micro_batch", "expected"),
    [
        ("a100-80", "2", 12, "the configuration's 12 fits, and divides them"),
        ("a10g", "2", 24, "the configuration's 24 does not fit, and divides them"),
    ],
)
def test_what_fits_is_not_what_divides(gpu, num_gpus, micro_batch, expected, capsys):
    own = ["--set", f"train.micro_batch_size={micro_batch}", "--set", "scaling.num_workers=1"]
    assert main(["plan", "--config", LLAMA, "--gpu", gpu, "--gpus", num_gpus, *own]) == 0

    assert expected in capsys.readouterr().out


def test_a_plan_without_a_fitting_batch_is_reported(capsys):
    assert (
        main(["plan", "--config", LLAMA, "--gpu", "a10g", "--gpus", "2", "--set", "model.llm.train=full"])
        == 0
    )

    out = capsys.readouterr().out
    assert "not even one sample; try zero_stage 3" in out
    assert "micro-batch:" not in out


def test_a_run_that_was_measured_stands_beside_it(capsys, tmp_path):
    run = tmp_path / "runs" / "mats_llama_7b"
    run.mkdir(parents=True)
    record = {"step": 1, "samples_per_s": 42.0, "tokens_per_s": 4200.0, "mfu": 0.31, "peak_memory_gb": 61.5}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")

    assert main(["plan", "--config", LLAMA, "--gpus", "2", "--set", f"output_dir={tmp_path}"]) == 0

    line = capsys.readouterr().out.splitlines()[-1]
    assert "42 samples/s, 100 text tokens a sample, MFU 0.31 of the measured ceiling, 61.5 GB" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--gpus", "7"], "train.global_batch_size=96 is not a multiple of 7 GPUs"),
        (["--gpus", "0"], "--gpus 0 must be from 1 to 100000"),
        (["--tokens", str(10**400)], "must be from 1 to 1000000"),
        (["--mfu", "1.5"], "--mfu 1.5 must be from 0.001 to 1"),
        (["--price", "-1"], "--price -1.0 must be from 0 to 10000"),
        (["--price", "nan"], "--price nan must be from 0 to 10000"),
        (["--price", "inf"], "--price inf must be from 0 to 10000"),
        (["--triplets", "-1"], "--triplets -1 must be from 0 to 1000000000000"),
        (
            ["--set", "model.llm.path=org/unheard-of"],
            "the shape of the language model 'org/unheard-of' is not known",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments, expected, capsys):
    assert main(["plan", "--config", LLAMA, *arguments]) != 0

    assert expected in capsys.readouterr().err.splitlines()[-1]
