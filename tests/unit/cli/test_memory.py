"""``mats memory``: embedded triplets to a memory file, without a cluster."""

import pytest

from mats_ray.cli.main import main
from mats_ray.models.santa import SantaMemory
from tests.unit.data.test_embedded import WORDS, write


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / "run.yaml").write_text("toy: {}\nmemory: {num_rows: 20, num_clusters: 3}\n")
    return ["memory", "--config", str(tmp_path / "run.yaml"), "--set", f"output_dir={tmp_path}"]


def test_it_writes_the_memory_and_prints_its_content(arguments, tmp_path, capsys):
    write(tmp_path / "embedded" / "part-00000.parquet", WORDS)

    assert main(arguments) == 0
    path = tmp_path / "santa_memory.safetensors"
    assert capsys.readouterr().out == f"20 texts in 3 clusters: {path}\n"
    assert SantaMemory.load(path).embeddings_NC.shape == (20, 8)


def test_a_bridge_without_its_pairs_is_one_line_and_2(arguments, tmp_path, capsys):
    write(tmp_path / "embedded" / "part-00000.parquet", WORDS)

    assert main([*arguments, "--set", "model.bridge=spectral"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "mats memory: error: the bridge 'spectral' needs a JSONL, CSV or Parquet file of path"
    )


def test_without_embedded_triplets_it_is_one_line_and_1(arguments, tmp_path, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"mats memory: error: no Parquet files at {tmp_path}/embedded"
