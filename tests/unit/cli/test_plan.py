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
    assert lines["fits in memory"].strip() == "80 samples at once"
    assert lines["micro-batch"].strip() == (
        "6, the largest that fits and divides the 6 samples of each GPU "
        "(the configuration's 12 fits, and does not divide them)"
    )
    assert lines["host memory per GPU"].strip().startswith("13.5 GB ")
    assert "measured" not in lines  # its bucket is not read


def test_the_next_model_is_planned_offline(capsys):
    plan = ["plan", "--config", "configs/mats_next.yaml", "--gpu", "h100-80", "--gpus", "8"]

    assert main(plan) == 0
    assert "trained parameters:    135.1 M" in capsys.readouterr().out.splitlines()
    assert main([*plan, "--objects", "1000000"]) == 0


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


BUCKET = ["plan", "--config", LLAMA, "--gpu", "h200-141", "--gpus", "8", "--objects"]


def planned(capsys, *arguments):
    assert main([*BUCKET, *arguments]) == 0
    return {
        key: value.strip()
        for key, _, value in (line.partition(":") for line in capsys.readouterr().out.splitlines())
    }


def test_a_hundred_million_clips_of_ten_seconds(capsys):
    """60 clips/s on each of eight GPUs: 57.9 hours; the lock is written 13,889 times, parts 865 times."""
    lines = planned(capsys, "100000000", "--seconds-per-clip", "10", "--clips-per-second", "60")

    assert lines["clips/s"] == "60 per GPU, as given"
    assert lines["hours"] == "57.9 on 8 GPUs; 463 GPU hours"
    assert lines["cost"].startswith("$3704 at $8 per GPU hour")
    assert lines["requests"] == (
        "100000 LIST, 100000000 GET, 14755 PUT, 0 HEAD: $40.57 (S3 Standard, us-east-1, 2025)"
    )
    assert lines["bytes"].startswith("16000.0 GB fetched: $0 within the region, $320.00 from another; ")
    assert lines["output"] == "100000000 rows, 4.70 GB in 400 parts"
    assert lines["driver memory"] == "875 MB"
    assert (
        "the rate that was given; 10 s, 160000 bytes, 2 CLAP windows and 1 rows an object" in lines["assumed"]
    )
    assert "micro-batch" not in lines


def test_an_estimate_is_marked_as_one(capsys):
    lines = planned(capsys, "1000", "--mfu", "0.3")

    assert lines["clips/s"].endswith(" per GPU, estimated")
    assert "MFU 0.3, MBU 0.5, not measured on a GPU" in lines["assumed"]


def test_more_gpus_than_one_driver_feeds_are_told(capsys):
    lines = planned(capsys, "100000000", "--clips-per-second", "60", "--gpus", "1000")

    assert ", waiting for the driver; " in lines["hours"]


def test_a_model_that_does_not_fit_is_told(capsys):
    lines = planned(capsys, "1000", "--gpu", "a10g")

    assert lines["memory per GPU"].endswith("24 GB; it does not fit, try a smaller caption.batch_size")


def test_an_empty_bucket_costs_its_listing(capsys):
    lines = planned(capsys, "0")

    assert lines["hours"] == "0.0 on 8 GPUs; 0 GPU hours"
    assert lines["requests"].startswith("1 LIST, 0 GET, 1 PUT, 0 HEAD: $0.00")
    assert lines["output"] == "0 rows, 0.00 GB in 0 parts"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--objects", "100000000000"], "--objects 100000000000 must be from 0 to 10000000000"),
        (["--objects", "-1"], "--objects -1 must be from 0 to 10000000000"),
        (["--objects", "1", "--seconds-per-clip", "0"], "--seconds-per-clip 0.0 must be from 0.01 to 43200"),
        (
            ["--objects", "1", "--seconds-per-clip", "nan"],
            "--seconds-per-clip nan must be from 0.01 to 43200",
        ),
        (["--objects", "1", "--prompts", "0"], "--prompts 0 must be from 1 to 1000"),
        (
            ["--objects", "1", "--bytes-per-second", "inf"],
            "--bytes-per-second inf must be from 1 to 10000000",
        ),
        (
            ["--objects", "1", "--clips-per-second", "0"],
            "--clips-per-second 0.0 must be from 0.001 to 100000",
        ),
        (["--prompts", "2"], "--prompts is about captioning: it needs --objects"),
        (
            ["--objects", "1", "--triplets", "2"],
            "--triplets is about training: leave it out, or leave out --objects",
        ),
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


def test_a_cluster_has_its_cost_per_hour(capsys):
    assert main(["plan", "--config", LLAMA, "--cluster", "cluster.yaml"]) == 0

    assert "cluster:               $0.77 an hour idle, $102.93 with all workers" in capsys.readouterr().out


def test_a_file_that_is_no_cluster_is_one_line(capsys):
    assert main(["plan", "--config", LLAMA, "--cluster", LLAMA]) == 2

    assert "has no available_node_types" in capsys.readouterr().err
