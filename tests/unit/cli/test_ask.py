"""``mats ask``: one file, one answer on stdout, or one line with the reason."""

import numpy as np
import pytest
import soundfile

from mats_ray.cli.main import main
from mats_ray.data.audio import read_audio
from mats_ray.infer.pipeline import MATSPipeline


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(16_000) / 7), 16_000)
    return path


def test_the_answer_is_the_pipelines(model_dir, clip, capsys):
    pipeline = MATSPipeline.from_pretrained(model_dir)

    assert main(["ask", str(clip), "Is there a dog?", "--model", str(model_dir)]) == 0
    assert capsys.readouterr().out == pipeline.ask(read_audio(clip), "Is there a dog?").text + "\n"


def test_without_a_question_the_file_is_described(model_dir, clip, capsys):
    pipeline = MATSPipeline.from_pretrained(model_dir)

    assert main(["ask", str(clip), "--model", str(model_dir)]) == 0
    assert capsys.readouterr().out == pipeline.caption(read_audio(clip)).text + "\n"


def test_a_text_file_named_wav_is_one_clear_line(model_dir, tmp_path, capsys):
    (tmp_path / "text.wav").write_text("this is no sound")

    assert main(["ask", str(tmp_path / "text.wav"), "--model", str(model_dir)]) == 1
    assert "text.wav" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_is_no_model_is_named(clip, tmp_path, capsys):
    assert main(["ask", str(clip), "--model", str(tmp_path)]) == 1
    assert "is not a model directory: it has no config.json" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question_is_bad_usage(model_dir, clip, question, capsys):
    assert main(["ask", str(clip), question, "--model", str(model_dir)]) == 2
    assert "the question is empty" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_a_device_that_is_not_there_is_bad_usage(model_dir, clip, device, capsys):
    assert main(["ask", str(clip), "--model", str(model_dir), "--device", device]) == 2
    assert f"--device {device} cannot be used: " in capsys.readouterr().err.splitlines()[-1]
