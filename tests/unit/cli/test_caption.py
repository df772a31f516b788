"""`mats caption`: errors are one line before Ray starts; a finished job does nothing."""

import sys
from contextlib import nullcontext

import numpy as np
import pytest
import soundfile

from mats_ray.caption.answer import AnswerStage
from mats_ray.caption.job import CaptionJob
from mats_ray.cli.main import main
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from tests.world import tiny_model_dir


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model_dir(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    soundfile.write(folder / "a.wav", np.zeros(1600), 16_000)
    (folder / "empty.wav").touch()
    return str(folder)


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "mats_ray.cli.on_ray", None)


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.usefixtures("no_ray")
def test_faults_of_the_command_line(model, audio, tmp_path, capsys):
    where = ["--audio", audio, "--out", str(tmp_path / "out")]

    assert main(["caption", *where]) == 2
    assert "--model" in last_line(capsys)
    assert main(["caption", *where, "--model", model, "--ask", " "]) == 2
    assert "a question is empty" in last_line(capsys)
    assert main(["caption", *where, "--model", model, "--set", "caption.batchsize=3"]) == 2
    assert "caption.batchsize" in last_line(capsys)
    with pytest.raises(SystemExit, match="2"):
        main(["caption", "--model", model])


@pytest.mark.usefixtures("no_ray")
def test_faults_of_what_it_names(model, audio, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]

    assert main(["caption", "--audio", audio, *out, "--model", str(tmp_path / "none")]) == 1
    assert "no model directory at" in last_line(capsys)
    assert main(["caption", "--audio", str(tmp_path / "none"), *out, "--model", model]) == 1
    assert f"no file or folder {tmp_path / 'none'}" in last_line(capsys)
    (tmp_path / "texts").mkdir()
    assert main(["caption", "--audio", str(tmp_path / "texts"), *out, "--model", model]) == 1
    assert f"no audio below {tmp_path / 'texts'}" in last_line(capsys)


@pytest.mark.usefixtures("no_ray")
def test_a_finished_job_starts_no_ray(model, audio, tmp_path, capsys, caplog):
    out = str(tmp_path / "out")
    arguments = ["caption", "--audio", audio, "--out", out, "--model", model, "--ask", "Is there a dog?"]
    planned = []

    def in_this_process(job: CaptionJob, batches):
        answer = AnswerStage(job.answer_settings)
        for one in batches:
            planned.extend(one.to_pylist())
            for clips in job.decode_stage(one):
                job.accept(answer(clips))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mats_ray.cli.caption.start_ray", nullcontext)
        patch.setattr("mats_ray.caption.on_ray.write_missing_rows", in_this_process)
        assert main([*arguments, "--set", "caption.max_error_fraction=0.5"]) == 0
    assert "2 files, 2 rows: 1 ok, errors: 1 empty\n2 rows written" in capsys.readouterr().out
    (file,) = planned  # the empty one has its row without being opened
    assert [prompt["instruction"] for prompt in file["prompts"]] == ["Is there a dog?"]

    assert main([*arguments, "--set", "caption.max_error_fraction=0.5"]) == 0
    assert "nothing to do, every row was there" in capsys.readouterr().out
    assert f"no answer, empty: {audio}/empty.wav" in caplog.messages
    assert main(arguments) == 1
    assert "1 of 2 rows are errors (1 empty)" in last_line(capsys)


@pytest.mark.usefixtures("no_ray")
def test_a_caption_beside_a_question_is_a_row_more_for_each_file(model, audio, tmp_path, capsys):
    ask = ["caption", "--audio", audio, "--model", model, "--ask", "Is there a dog?", "--dry-run"]

    assert main([*ask, "--out", str(tmp_path / "out")]) == 0
    assert "2 files times prompts, 1 different prompts" in capsys.readouterr().out
    assert main([*ask, "--out", str(tmp_path / "out"), "--caption"]) == 0
    assert "4 files times prompts, 2 different prompts" in capsys.readouterr().out


def test_decoding_is_the_models_own_unless_configured(model, audio, tmp_path):
    def decoding(generation):
        job = CaptionJob(CaptionConfig(), generation, audio=audio, out=str(tmp_path), model=model)
        return job.provenance.decoding

    assert decoding(None) == "fast, at most 12 tokens"
    assert decoding(GenerationConfig(max_new_tokens=5)) == "paper, at most 5 tokens"


@pytest.mark.usefixtures("no_ray")
def test_a_dry_run_counts_and_touches_nothing(model, audio, tmp_path, capsys):
    (tmp_path / "list.csv").write_text(f"path,question\n{audio}/a.wav,Dog?\n{audio}/empty.wav,\n")
    (tmp_path / "labels.txt").write_text("dog barks\nrain falls\n")
    what = ["--audio", str(tmp_path / "list.csv"), "--labels", str(tmp_path / "labels.txt"), "--ask", "Rain?"]
    out = tmp_path / "out"

    assert main(["caption", *what, "--out", str(out), "--model", model, "--dry-run"]) == 0

    printed = capsys.readouterr().out
    assert "2 files, 0.0 MB; 5 files times prompts, 3 different prompts" in printed
    assert "to do: 2 files, 0.0 MB; 5 answers" in printed
    assert not out.exists()


@pytest.mark.usefixtures("no_ray")
def test_windows_are_checked_before_anything_runs(model, audio, tmp_path, capsys):
    where = ["--audio", audio, "--out", str(tmp_path / "out"), "--model", model]

    assert main(["caption", *where, "--hop", "3"]) == 2
    assert "hop=3 is given without a window" in last_line(capsys)
    assert main(["caption", *where, "--window", "2", "--hop", "3"]) == 2
    assert "hop=3 is more than window=2" in last_line(capsys)
    assert main(["caption", *where, "--window", "clap", "--hop", "5"]) == 2
    assert "caption.hop=5 is more than CLAP's window of 4 s" in last_line(capsys)
    assert main(["caption", *where, "--window", "all"]) == 2
    assert "caption.window" in last_line(capsys)
