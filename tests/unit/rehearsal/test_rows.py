"""The annotation files are read by the sources' readers, and become 2,000 triplets."""

import csv

import soundfile

from mats_ray.config.data import PrepareConfig
from mats_ray.data.prepare.input_files import find_input_files
from mats_ray.rehearsal.rows import NUM_CLIPS, NUM_TRIPLETS, SAMPLE_RATE, write_rows


def test_all_sources_are_found_and_audio_is_there(tmp_path):
    rows = write_rows(tmp_path)

    found = find_input_files(PrepareConfig.model_validate({"sources": rows.sources}))
    names = {row["file_name"] for row in csv.DictReader(rows.evaluation.open())}

    assert {one.source.name for one in found} == {"clotho", "clotho_aqa", "audiocaps", "openaqa"}
    assert names == {file.name for file in rows.audio.iterdir()}
    assert len(names) == NUM_CLIPS
    assert soundfile.info(next(rows.audio.iterdir())).samplerate == SAMPLE_RATE


def test_the_same_rows_are_written_every_time(tmp_path):
    first, second = write_rows(tmp_path / "a"), write_rows(tmp_path / "b")

    assert first.texts == second.texts
    assert NUM_TRIPLETS == 2_000
