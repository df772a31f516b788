"""A plan finds what is wrong with annotations and audio before anything is computed."""

import logging

import pytest
import soundfile

from mats_ray.config.evaluate import BenchmarkInput
from mats_ray.errors import ConfigError, DataError
from mats_ray.evaluate.plan import PlannedBenchmark

HEADER = "filename,fold,target,category,esc10,src_file,take\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("1-1-A-0", "1-2-A-0"):
        soundfile.write(tmp_path / f"{name}.flac", [0.0] * 160, 16_000)
    rows = [f"1-{n}-A-0.wav,1,0,{'dog' if n % 2 else 'rain'},True,{n},A\n" for n in (1, 2, 3, 1)]
    (tmp_path / "esc50.csv").write_text(HEADER + "".join(rows))
    return tmp_path


def test_samples_have_their_files_and_the_others_are_named(folder, caplog):
    caplog.set_level(logging.WARNING)
    one = BenchmarkInput(name="esc50", annotations=str(folder / "esc50.csv"), audio=str(folder))

    planned = PlannedBenchmark.plan(one)

    assert [one.id for one in planned.annotations.samples] == ["1-1-A-0.wav", "1-2-A-0.wav", "1-3-A-0.wav"]
    assert list(planned.matches.objects) == ["1-1-A-0.wav", "1-2-A-0.wav"]
    assert "3 samples in" in caplog.text
    assert "has 2000: another set" in caplog.text
    assert "1 records left out, duplicate id" in caplog.text
    assert "1 of 3 samples have no audio, which counts as wrong (0 names fit several files): 1-3-A-0.wav" in (
        caplog.text
    )


def test_an_unknown_benchmark_is_refused_with_the_known_ones(folder):
    with pytest.raises(ConfigError, match=r"benchmark 'esc51' is unknown; there are .*esc50"):
        PlannedBenchmark.plan(BenchmarkInput(name="esc51", annotations="x", audio="y"))


def test_a_file_of_another_benchmark_is_refused_by_its_columns(folder):
    (folder / "other.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,a,0,A dog\n")
    one = BenchmarkInput(name="esc50", annotations=str(folder / "other.csv"), audio=str(folder))

    with pytest.raises(DataError, match="has no column filename, category; its header is audiocap_id"):
        PlannedBenchmark.plan(one)


def test_neither_audio_nor_answers_is_refused(folder):
    with pytest.raises(ConfigError, match="esc50 needs a folder of audio, or a file of answers"):
        PlannedBenchmark.plan(BenchmarkInput(name="esc50", annotations=str(folder / "esc50.csv")))


def test_answers_of_a_file_need_no_audio(folder):
    one = BenchmarkInput(name="esc50", annotations=str(folder / "esc50.csv"), answers="a.csv")

    assert PlannedBenchmark.plan(one).matches is None
