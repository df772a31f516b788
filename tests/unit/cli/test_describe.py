from mats_ray.cli.main import main


def test_labels_and_keys_that_are_not_there_are_named(tmp_path, capsys):
    common = ["--endpoint", "http://localhost:1", "--model", "x", "--out", str(tmp_path / "o.jsonl")]

    assert main(["describe", "--labels", str(tmp_path / "none"), *common]) == 2
    assert "none cannot be read" in capsys.readouterr().err
    assert main(["describe", "--labels", "x", "--api-key-env", "NO_SUCH_VARIABLE", *common]) == 2
    assert "NO_SUCH_VARIABLE is not set" in capsys.readouterr().err
