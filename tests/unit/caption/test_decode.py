"""The decoding stage: every listed file becomes a clip or an error, in batches that fit."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from mats_ray.caption import decode
from mats_ray.caption.decode import BATCH_SCHEMA, FILE_SCHEMA, AudioOpener, DecodeStage, unpack
from mats_ray.data.audio import Limits
from mats_ray.data.audio_files import stat_audio
from mats_ray.data.windows import Cut
from mats_ray.storage import Environment, access, reading, retries
from tests.s3 import s3_server

PROMPTS = [{"task": "qa", "instruction": "Dog?"}, {"task": "caption", "instruction": "Describe it."}]


def wav(samples, rate=16_000):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def listed(*paths, size=1, etag=""):
    rows = [
        {"path": str(path), "etag": etag or stat_audio(str(path)).etag, "size": size, "prompts": PROMPTS}
        for path in paths
    ]
    return pa.Table.from_pylist(rows, schema=FILE_SCHEMA)


def decoder(*, batch_size=8, cut=None, long_cut=None, pooled=False, **limits):
    opener = AudioOpener(environment=Environment(), limits=Limits(**{"max_seconds": 10.0} | limits))
    return DecodeStage(opener=opener, batch_size=batch_size, cut=cut, long_cut=long_cut, pooled=pooled)


def outcomes(tables):
    """Samples or error code of every clip, by batch."""
    return [
        [
            clip["error_code"] or np.frombuffer(clip["samples"], np.float32).tolist()
            for clip in batch.to_pylist()
        ]
        for table in tables
        for batch in unpack(table)
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
    (batch,) = unpack(next(iter(decoder()(listed(*paths)))))

    assert batch.column("path").to_pylist() == [str(path) for path in paths]
    assert batch.column("etag").to_pylist() == [stat_audio(str(path)).etag for path in paths]
    assert batch.column("prompts").to_pylist() == [PROMPTS] * 5
    assert batch.column("sample_rate").to_pylist() == [16_000] * 5


def test_a_batch_ends_at_its_number_of_clips(paths):
    assert [len(batch) for batch in outcomes(decoder(batch_size=2)(listed(*paths)))] == [2, 2, 1]


def test_a_batch_ends_at_its_number_of_bytes(paths, monkeypatch):
    monkeypatch.setattr(decode, "BATCH_BYTES", 4 * 5)

    assert [len(batch) for batch in outcomes(decoder()(listed(*paths)))] == [3, 2]


def test_an_error_is_a_row_between_clips(paths):
    paths[1].write_text("no sound")
    paths[3].unlink()
    paths[4].write_bytes(wav(np.zeros(11 * 16_000)))

    expected = [[0.0], "not_audio", [0.25] * 3, "not_found", "too_long"]
    assert outcomes(decoder()(listed(*paths))) == [expected]


def test_errors_keep_their_message(paths):
    paths[0].write_bytes(b"")

    assert rows_of(decoder()(listed(paths[0])), "error") == [(f"{paths[0]} is empty (0 bytes)",)]


def test_nothing_listed_gives_nothing():
    assert list(decoder()(listed())) == []


def test_tables_have_their_schema(paths):
    assert {table.schema for table in decoder(batch_size=2)(listed(*paths))} == {BATCH_SCHEMA}


def test_objects_of_a_bucket(monkeypatch):
    with s3_server("clips") as files:
        files.pipe_file("clips/good name # 1.wav", wav(np.ones(3) / 4))
        files.pipe_file("clips/empty.wav", b"")
        there = pickle.loads(pickle.dumps(decoder()))
        for name in access._VARIABLES:  # another process has none of them
            monkeypatch.delenv(name, raising=False)

        (good,) = outcomes(there(listed("s3://clips/good name # 1.wav", size=len(wav(np.ones(3))))))
        assert good == [[0.25] * 3]
        assert outcomes(there(listed("s3://clips/empty.wav", size=0))) == [["empty"]]
        assert outcomes(there(listed("s3://clips/deleted.wav"))) == [["not_found"]]
        assert outcomes(there(listed("s3://clips/x.wav", size=2**40))) == [["too_large"]]


@pytest.fixture
def object_replaced(monkeypatch):
    """An object that is replaced by one as long after its first range; yields its path, size and etag."""
    monkeypatch.setattr(reading, "CHUNK_BYTES", 1_000)
    old, new = (wav(np.full(5_000, level, np.float32)) for level in (0.25, 0.5))
    with s3_server("clips") as files:
        files.pipe_file("clips/a.wav", old)
        before = stat_audio("s3://clips/a.wav")
        part, num_parts = reading._range, []

        def replace_after_the_first(*args, **how):
            data = part(*args, **how)
            if not num_parts:
                files.pipe_file("clips/a.wav", new)
            num_parts.append(data)
            return data

        monkeypatch.setattr(reading, "_range", replace_after_the_first)
        yield before


def test_an_object_replaced_while_it_is_read_is_not_mixed(object_replaced):
    tables = list(
        decoder()(listed(object_replaced.path, size=object_replaced.size, etag=object_replaced.etag))
    )

    assert outcomes(tables) == [["changed"]]
    assert rows_of(tables, "error") == [("s3://clips/a.wav changed while it was read",)]


def test_an_object_replaced_since_it_was_listed_is_an_error(object_replaced):
    etag = object_replaced.etag
    list(decoder()(listed(object_replaced.path, size=object_replaced.size, etag=etag)))  # replaces it

    assert outcomes(decoder()(listed(object_replaced.path, size=object_replaced.size, etag=etag))) == [
        ["changed"]
    ]


def test_a_local_file_replaced_while_it_is_read_is_not_mixed(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(np.zeros(20 * 16_000)))
    row = listed(path)
    tables = decoder(batch_size=1, cut=Cut(seconds=10, hop=10), max_seconds=60)(row)

    first = next(tables)
    path.write_bytes(wav(np.ones(20 * 16_000) / 2))
    rest = list(tables)

    assert rows_of([first], "segment", "error_code") == [(0, None)]
    assert rows_of(rest, "segment", "is_last", "error_code") == [(1, True, "changed")]


def test_a_local_file_written_since_it_was_listed_is_not_called_damaged(paths):
    rows = listed(*paths[:3])
    paths[0].write_bytes(wav(np.ones(1)))
    paths[1].write_bytes(wav(np.ones(100))[:60])  # half of it
    paths[2].unlink()

    assert outcomes(decoder()(rows)) == [["changed", "changed", "not_found"]]


def test_trouble_with_the_storage_is_not_a_bad_file(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing listens there

    ((code, message),) = rows_of(decoder()(listed("s3://clips/a.wav")), "error_code", "error")

    assert code == "read_failed"
    assert "s3://clips/a.wav cannot be read: EndpointConnectionError" in message


def test_decoding_processes_import_no_torch():
    code = "import sys, mats_ray.caption.decode; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}
        ).returncode
        == 0
    )


def rows_of(tables, *names):
    rows = [row for table in tables for batch in unpack(table) for row in batch.to_pylist()]
    return [tuple(row[name] for name in names) for row in rows]


TIMES = ("segment", "is_last", "start_s", "end_s", "error_code")


def test_windows_are_clips_with_times(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(np.arange(40_000) / 65_536))
    (tmp_path / "b.wav").write_bytes(wav(np.zeros(8_000)))
    tables = list(decoder(batch_size=2, cut=Cut(seconds=1, hop=1))(listed(*sorted(tmp_path.iterdir()))))

    assert rows_of(tables, *TIMES) == [
        (0, False, 0, 1, None),
        (1, False, 1, 2, None),
        (2, True, 2, 2.5, None),
        (0, True, 0, 0.5, None),
    ]
    samples = [clip for batch in outcomes(tables) for clip in batch]
    assert [len(clip) for clip in samples] == [16_000, 16_000, 8_000, 8_000]
    assert np.concatenate(samples[:3]).tolist() == (np.arange(40_000) / 65_536).tolist()


def test_damage_ends_the_windows_of_a_file_where_it_is(tmp_path):
    samples = np.zeros(30 * 44_100)
    samples[-50_000] = np.nan
    (tmp_path / "a.wav").write_bytes(wav(samples, 44_100))
    tables = decoder(cut=Cut(seconds=10, hop=10), max_seconds=60)(listed(tmp_path / "a.wav"))

    # blocks of 2**17 samples, 3 s: all windows but the last are there
    assert rows_of(tables, *TIMES) == [
        (0, False, 0, 10, None),
        (1, False, 10, 20, None),
        (2, True, 20, None, "not_finite"),
    ]


def test_a_file_that_is_bad_from_the_start_has_one_row(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")

    tables = decoder(cut=Cut(seconds=1, hop=1))(listed(tmp_path / "a.wav"))
    assert rows_of(tables, *TIMES) == [(0, True, None, None, "not_audio")]


@pytest.fixture
def opened(monkeypatch):
    """Names of the files opened to be decoded."""
    names, open_audio = [], decode.open_audio
    monkeypatch.setattr(
        decode,
        "open_audio",
        lambda *args, name, **more: names.append(name) or open_audio(*args, name=name, **more),
    )
    return names


@pytest.fixture
def long_file(tmp_path, monkeypatch):
    """40 s in blocks of 2**20 samples, long where more than 1 s is."""
    monkeypatch.setattr(decode, "BATCH_BYTES", 4 * 44_100)
    samples = np.random.default_rng(0).uniform(-1, 1, 40 * 44_100).astype(np.float32)
    (tmp_path / "long.wav").write_bytes(wav(samples, 44_100))
    return tmp_path / "long.wav", samples


def test_a_long_file_is_windows_to_be_pooled_and_decoded_once(long_file, opened):
    path, samples = long_file
    cut = Cut(seconds=15, hop=15)
    tables = list(decoder(long_cut=lambda: cut, max_seconds=60)(listed(path)))

    assert opened == [str(path)]
    assert rows_of(tables, *TIMES, "pool_weight_s") == [
        (0, False, 0, 15, None, 15),
        (1, False, 15, 30, None, 15),
        (2, True, 30, 40, None, 10),
    ]
    decoded = [clip for batch in outcomes(tables) for clip in batch]
    assert np.concatenate(decoded).tolist() == samples.tolist()


def test_damage_in_a_long_file_is_the_last_of_what_is_pooled(long_file):
    path, samples = long_file
    samples[-1] = np.nan
    path.write_bytes(wav(samples, 44_100))
    tables = decoder(long_cut=lambda: Cut(seconds=15, hop=15), max_seconds=60)(listed(path))

    # blocks of 2**17 samples, 3 s: all windows but the last are there
    assert rows_of(tables, *TIMES, "pool_weight_s") == [
        (0, False, 0, 15, None, 15),
        (1, False, 15, 30, None, 15),
        (2, True, 30, None, "not_finite", 0),
    ]


def test_a_long_file_stays_one_clip_where_its_windows_are_not_pooled(long_file, opened):
    path, samples = long_file
    tables = list(decoder(max_seconds=60)(listed(path)))

    assert opened == [str(path)]
    assert rows_of(tables, *TIMES, "pool_weight_s") == [(0, True, 0, 40, None, None)]
    assert outcomes(tables) == [[samples.tolist()]]


def test_pooled_windows_weigh_what_they_cover(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(np.zeros(40_080)))  # a rest of 5 ms belongs to the window before
    tables = decoder(cut=Cut(seconds=1, hop=0.5), pooled=True)(listed(tmp_path / "a.wav"))

    times = [(start / 2, 1 + start / 2, 1) for start in range(3)] + [(1.5, 2.505, 1)]
    assert rows_of(tables, "start_s", "end_s", "pool_weight_s") == times


@pytest.mark.parametrize("how", ["cut=Cut(seconds=60, hop=60)", "long_cut=lambda: Cut(seconds=60, hop=60)"])
def test_three_hours_need_no_more_memory_than_a_batch(tmp_path, how):
    """The peak of a process that decodes three hours in windows; whole, they would take 345 MB."""
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 8_000, 1) as file:
        for _ in range(18):  # ten minutes each
            file.write(np.zeros(8_000 * 600, np.int16))
    code = f"""
import resource, sys
from mats_ray.data.windows import Cut
from tests.unit.caption.test_decode import decoder, listed
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode_stage = decoder({how}, batch_size=16, max_seconds=40_000)
batches = decode_stage(listed({str(tmp_path / "long.flac")!r}))
before = peak()
print(sum(1 for _ in batches), peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    num_batches, grown_kilobytes = map(int, done.stdout.split())

    assert num_batches == 12  # of sixteen minutes, 31 MB
    assert grown_kilobytes < 120_000
