"""The decoding stage: every listed file becomes a clip or an error, in batches that fit."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from mats_ray.data.objects import open_storage
from mats_ray.errors import AudioError
from mats_ray.infer import decode
from mats_ray.infer.decode import BATCHES, LISTED, Decoder, batches_of, clips_of
from tests.s3 import s3_server


def wav(samples, rate=16_000):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def listed(*paths, size=1):
    rows = [
        {"path": str(path), "etag": f"e{i}", "size": size, "prompts": [0, 2]} for i, path in enumerate(paths)
    ]
    return pa.Table.from_pylist(rows, schema=LISTED)


def decoder(files=None, *, max_seconds=10.0, batch_size=8):
    return Decoder(files=files, max_seconds=max_seconds, batch_size=batch_size)


def outcomes(tables):
    """Samples or error code of every clip, by batch."""
    return [
        [clip.code if isinstance(clip, AudioError) else clip.samples.tolist() for clip in clips_of(batch)]
        for table in tables
        for batch in batches_of(table)
    ]


@pytest.fixture
def paths(tmp_path):
    found = []
    for i in range(5):
        found.append(tmp_path / f"{i}.wav")
        found[-1].write_bytes(wav(np.full(i + 1, i / 8, np.float32)))
    return found


def test_samples_arrive_as_they_were(paths):
    assert outcomes(decoder()(listed(*paths))) == [[[i / 8] * (i + 1) for i in range(5)]]


def test_rows_keep_what_they_were_listed_with(paths):
    (batch,) = batches_of(next(iter(decoder()(listed(*paths)))))

    assert batch.column("path").to_pylist() == [str(path) for path in paths]
    assert batch.column("etag").to_pylist() == ["e0", "e1", "e2", "e3", "e4"]
    assert batch.column("prompts").to_pylist() == [[0, 2]] * 5
    assert [clip.sample_rate for clip in clips_of(batch)] == [16_000] * 5


def test_a_batch_ends_at_its_number_of_clips(paths):
    assert [len(batch) for batch in outcomes(decoder(batch_size=2)(listed(*paths)))] == [2, 2, 1]


def test_a_batch_ends_at_its_number_of_bytes(paths, monkeypatch):
    monkeypatch.setattr(decode, "BATCH_BYTES", 4 * 5)

    assert [len(batch) for batch in outcomes(decoder()(listed(*paths)))] == [3, 2]


def test_an_error_travels_on_between_clips(paths):
    paths[1].write_text("no sound")
    paths[3].unlink()
    paths[4].write_bytes(wav(np.zeros(11 * 16_000)))

    expected = [[0.0], "not_audio", [0.25] * 3, "not_found", "too_long"]
    assert outcomes(decoder()(listed(*paths))) == [expected]


def test_errors_keep_their_words(paths):
    paths[0].write_bytes(b"")
    (batch,) = batches_of(next(iter(decoder()(listed(paths[0])))))

    assert str(clips_of(batch)[0]) == f"{paths[0]} is empty (0 bytes)"


def test_nothing_listed_gives_nothing():
    assert list(decoder()(listed())) == []


def test_tables_have_their_schema(paths):
    assert {table.schema for table in decoder(batch_size=2)(listed(*paths))} == {BATCHES}


def test_objects_of_a_bucket():
    with s3_server("clips") as files:
        files.pipe_file("clips/good name # 1.wav", wav(np.ones(3) / 4))
        files.pipe_file("clips/empty.wav", b"")
        remote, _ = open_storage("s3://clips")
        there = decoder(pickle.loads(pickle.dumps(remote)))

        rows = listed("s3://clips/good name # 1.wav", "s3://clips/empty.wav", "s3://clips/deleted.wav")
        assert outcomes(there(rows)) == [[[0.25] * 3, "empty", "not_found"]]
        assert outcomes(there(listed("s3://clips/x.wav", size=2**40))) == [["too_large"]]


def test_trouble_with_the_storage_is_told_apart_from_a_bad_file():
    class Flaky:
        def cat_file(self, path):
            raise ConnectionResetError("connection reset by peer")

    (table,) = decoder(Flaky())(listed("s3://clips/a.wav"))
    (batch,) = batches_of(table)
    (error,) = clips_of(batch)

    assert error.code == "read_failed"
    assert "s3://clips/a.wav cannot be fetched: ConnectionResetError" in str(error)


def test_decoding_processes_import_no_torch():
    code = "import sys, mats_ray.infer.decode; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}
        ).returncode
        == 0
    )
