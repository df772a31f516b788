"""``mats embed --estimate-noise``: a table, and nothing on disk. Embedding itself: tests/integration."""

import pytest

from mats_ray.cli.main import main
from tests.unit.data.embedding.test_noise_variance import caption
from tests.unit.data.embedding.triplets import write_triplets


@pytest.fixture
def arguments(tmp_path, model_dir):
    clap = model_dir.parent / "clap"
    (tmp_path / "run.yaml").write_text(
        f"output_dir: {tmp_path}/out\ndata: {{triplets: {tmp_path}/triplets}}\n"
        f"model: {{clap: {{ref: {clap}, dim: 24}}, llm: {{path: x}}}}\n"
    )
    return ["embed", "--config", str(tmp_path / "run.yaml"), "--estimate-noise"]


def test_it_prints_the_variance_by_source_and_writes_nothing(arguments, tmp_path, capsys):
    rows = [
        caption(f"clotho/train/{clip}/{place}", f"{clip} {word}")
        for clip in ("dog", "rain", "bell")
        for place, word in enumerate(("barks", "falls", "rings"))
    ]
    write_triplets(tmp_path / "triplets", rows)
    before = sorted(tmp_path.rglob("*"))

    assert main(arguments) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["clotho", "3", "9"]
    assert float(lines[1].split()[3]) > 0
    assert lines[-1].split()[:3] == ["the", "paper", "0.015"]
    assert sorted(tmp_path.rglob("*")) == before


def test_without_two_captions_of_a_clip_it_is_one_line_and_1(arguments, tmp_path, capsys):
    write_triplets(tmp_path / "triplets", [caption("clotho/train/a.wav/1", "a dog")])

    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"mats embed: error: the triplets at {tmp_path}/triplets have no clip with two")
