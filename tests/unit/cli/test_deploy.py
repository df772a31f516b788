"""``mats deploy``: files written or refused in one line, and a model directory fetched."""

import pytest

from mats_ray.cli.main import main
from tests.unit.deploy.configs import CPU, GPU, ROOT


def flags(names):
    return [word for name in names for word in ("--config", str(ROOT / name))]


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_rendering_says_what_is_needed_beside(tmp_path, capsys):
    assert main(["deploy", "render", *flags(CPU), "--out", str(tmp_path)]) == 0

    first, *needs = capsys.readouterr().out.splitlines()
    assert first == f"{len(list(tmp_path.rglob('*.yaml'))) - 3} resources in {tmp_path}"
    assert [line.split()[7] for line in needs] == ["mats-redis", "mats-api-keys"]


def test_a_refusal_is_one_line_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "out"

    assert main(["deploy", "render", *flags(GPU), "--set", "output_dir=out", "--out", str(out)]) == 2

    assert capsys.readouterr().err == (
        "mats deploy: error: output_dir = out is a path of one pod: use an s3:// path, or one on the volume, "
        "/mnt/mats/...\n"
    )
    assert not out.exists()


def test_rendering_again_leaves_nothing_of_before(tmp_path):
    assert main(["deploy", "render", *flags(CPU), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "jobs/caption.yaml").exists()

    assert (
        main(["deploy", "render", *flags(CPU), "--set", "deploy.caption=null", "--out", str(tmp_path)]) == 0
    )

    assert not (tmp_path / "jobs/caption.yaml").exists()


def test_files_of_others_stay(tmp_path, capsys):
    mine, other = tmp_path / "raycluster.yaml", tmp_path / "notes.yaml"
    for path in (mine, other):
        path.write_text("mine: true\n")

    assert main(["deploy", "render", *flags(CPU), "--out", str(tmp_path)]) == 2

    assert "raycluster.yaml was not written by mats deploy render" in last_line(capsys)
    assert mine.read_text() == other.read_text() == "mine: true\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["render", "s3://bucket/x", "--out", "x"], "render takes no URL"),
        (["render", "--out", "x"], "no configuration file given"),
        (["fetch", "--out", "x"], "fetch needs the URL of a model directory"),
        (["fetch", "somewhere", "--out", "x", "--set", "a=1"], "fetch takes no configuration"),
    ],
)
def test_bad_usage_is_one_line(words, expected, capsys):
    assert main(["deploy", *words]) == 2

    assert expected in last_line(capsys)


def test_a_model_is_fetched_and_fetched_again_after_a_crash(tmp_path, capsys):
    source, out = tmp_path / "model", tmp_path / "copy"
    (source / "parts").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "parts" / "mapper.safetensors").write_bytes(b"weights")

    for _ in range(2):
        assert main(["deploy", "fetch", str(source), "--out", str(out)]) == 0
        assert (out / "parts" / "mapper.safetensors").read_bytes() == b"weights"
        (out / "parts" / "mapper.safetensors").write_bytes(b"weig")

    (source / "config.json").write_text('{"another": "model"}')
    assert main(["deploy", "fetch", str(source), "--out", str(out)]) == 2
    assert "holds something other than" in last_line(capsys)


def test_a_folder_that_is_no_model_is_named(tmp_path, capsys):
    assert main(["deploy", "fetch", str(tmp_path), "--out", str(tmp_path / "x")]) == 1

    assert "config.json" in last_line(capsys)
