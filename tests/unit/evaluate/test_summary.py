"""What a terminal shows of an evaluation: every number with its error, and every count."""

import dataclasses

from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.scoring import score_log
from mats_ray.evaluate.summary import summary_lines
from tests.unit.evaluate.logs import BENCHMARK, RESOURCES, row, write_log


def test_values_counts_and_absent_measures_each_have_a_line(tmp_path):
    rows = [row("a", "dog", "dog"), row("b", "dog", "", "missing"), row("c", "dog", "", "empty")]
    log = write_log(tmp_path / "tiny", rows, left_out={"duplicate id": 3})

    lines = summary_lines({"tiny": score_log(log, BENCHMARK, RESOURCES)}, out=str(tmp_path))

    assert lines[0].startswith("tiny: accuracy 0.3333 ± 0.2")
    assert lines[0].endswith("chance 0.5000; 0.5000 over the 2 with audio")
    assert lines[1] == "tiny: spice absent: no jar"
    assert lines[2] == (
        "tiny: 1 of 3 samples answered (4 published); 1 empty answers; "
        "1 without audio or answer, counted as wrong; 3 records left out"
    )
    assert lines[-1] == f"{tmp_path}/report.html"


def test_the_papers_number_stands_beside_the_published_set_alone(tmp_path):
    whole = [row(name, "dog", "dog") for name in "abcd"]
    logs = {"whole": write_log(tmp_path / "whole", whole), "part": write_log(tmp_path / "part", whole[:3])}

    lines = summary_lines(
        {name: score_log(log, BENCHMARK, RESOURCES) for name, log in logs.items()}, out=str(tmp_path)
    )

    assert [line for line in lines if "in the paper 0.9" in line] == [lines[0]]
    assert lines[0].startswith("whole: accuracy")


def test_the_modality_gap_has_a_line_where_it_was_measured(tmp_path):
    log = write_log(tmp_path / "tiny", [row("a", "dog", "dog")])
    names = ("matching", "others", "centroids")
    log.write_gap({f"{name}{when}": 0.25 for name in names for when in ("", "_after_santa")} | {"clips": 7})

    lines = summary_lines({"tiny": score_log(log, BENCHMARK, RESOURCES)}, out=str(tmp_path))

    assert (
        "modality gap of 7 clips: cosine 0.250 (others 0.250), centroids 0.250 apart; after the bridge: "
        in lines[2]
    )


def test_the_embedder_and_the_number_of_labels_are_told(tmp_path):
    log = write_log(tmp_path / "tiny", [row("a", "dog", "a dog"), row("b", "rain", "rain")])
    benchmark = dataclasses.replace(BENCHMARK, score=label_accuracy)

    lines = summary_lines({"tiny": score_log(log, benchmark, RESOURCES)}, out=str(tmp_path))

    assert "tiny: embedder: bag of words, labels: 2" in lines
