"""``mats ask``: one file, one answer on stdout, or one line with the reason."""

import numpy as np
import pytest
import soundfile

from mats_ray.cli.main import main
from mats_ray.data.audio import read_audio
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.tasks import NO_CLIP, several_clips


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


@pytest.mark.parametrize(
    ("more", "count"), [([], 2), (["Which is louder?"], 2), (["{clip}", "Which is louder?"], 3)]
)
def test_several_files_are_refused_by_the_rule(model_dir, clip, more, count, capsys):
    arguments = [str(clip), str(clip), *(one.format(clip=clip) for one in more)]

    assert main(["ask", *arguments, "--model", str(model_dir)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(several_clips(count))


def test_a_question_without_a_file_is_refused_by_the_rule(model_dir, capsys):
    assert main(["ask", "What is jazz?", "--model", str(model_dir)]) == 1

    last = capsys.readouterr().err.splitlines()[-1]
    assert "What is jazz?" in last
    assert last.endswith(NO_CLIP)


def test_a_missing_file_beside_a_question_is_only_missing(model_dir, capsys):
    assert main(["ask", "none.wav", "Is there a dog?", "--model", str(model_dir)]) == 1

    assert "none.wav" in (last := capsys.readouterr().err.splitlines()[-1])
    assert NO_CLIP not in last


def test_a_question_that_the_shell_has_split_is_bad_usage(model_dir, clip, capsys):
    words = ["Is", "there", "a", "dog?"]

    assert main(["ask", str(clip), *words, "--model", str(model_dir)]) == 2
    assert 'put it between quotes: "Is there a dog?"' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("question", ["x" * 5000, "a\0b"])
def test_a_question_that_can_be_no_file_name_is_asked(model_dir, clip, question, capsys):
    status = main(["ask", str(clip), question, "--model", str(model_dir)])

    assert status in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
