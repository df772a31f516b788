"""Captioning a folder on Ray: one row per file and prompt whatever happens, the same words every time."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import soundfile
import torch

from mats_ray.config import RunConfig
from mats_ray.data.audio import read_audio
from mats_ray.errors import DataError, ModelError
from mats_ray.infer import on_ray
from mats_ray.infer.on_ray import caption
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.infer.rows import SCHEMA
from tests.s3 import s3_server
from tests.world import tiny_model_dir

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
ESC10 = ROOT.parent / "shared" / "data" / "esc10"
BAD = {
    "text.wav": "unsupported_format",
    "empty.wav": "empty",
    "no samples.wav": "empty",
    "cut.ogg": "decode_failed",
    "nan.wav": "not_finite",
    "long.flac": "too_long",
    "link.wav": "not_found",
}
QUESTIONS = ["Is there a dog?", "Does rain fall on the roof?"]


@pytest.fixture(scope="module")
def ray_cluster():
    os.environ["RAY_AUTH_MODE"] = "disabled"
    context = ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_model_dir(tmp_path_factory.mktemp("world"))


def config(**changes):
    settings = {"batch_size": 4, "max_seconds": 30, "max_error_fraction": 1.0} | changes
    return RunConfig.model_validate({"toy": {}, "caption": settings})


def encoded(samples, rate=16_000, **kind):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **(kind or {"format": "WAV", "subtype": "FLOAT"}))
    return buffer.getvalue()


def sound(seed, seconds=1.5, rate=16_000):
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch, loud = draw.uniform(50, 3000), draw.uniform(0, 0.3)
    return 0.5 * np.sin(2 * np.pi * pitch * time) + loud * draw.uniform(-1, 1, len(time))


def write_good(folder, num_files):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(num_files):
        (folder / f"{i:02d}.wav").write_bytes(encoded(sound(i, 0.5 + i / 4), 16_000 if i % 3 else 22_050))
    return folder


def write_bad(folder):
    nan = sound(0)
    nan[100] = np.nan
    ogg = encoded(sound(1, 5), format="OGG", subtype="VORBIS")
    (folder / "text.wav").write_text("a note\n" * 50)
    (folder / "empty.wav").touch()
    (folder / "no samples.wav").write_bytes(encoded(np.zeros(0)))
    (folder / "cut.ogg").write_bytes(ogg[: len(ogg) // 2])
    (folder / "nan.wav").write_bytes(encoded(nan))
    (folder / "long.flac").write_bytes(encoded(np.zeros(31 * 16_000), format="FLAC"))
    (folder / "link.wav").symlink_to(folder / "nowhere.wav")


def rows_at(out):
    """Rows sorted by path and prompt."""
    rows = pq.read_table(out).to_pylist()
    return sorted(rows, key=lambda row: (row["path"], row["prompt"]))


def parts_of(out):
    return {path.name: path.stat().st_mtime_ns for path in Path(out).iterdir()}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Seven good files and one of each bad kind."""
    folder = write_good(tmp_path_factory.mktemp("mixed") / "clips # 100% ü", 7)
    write_bad(folder)
    return folder


@pytest.fixture(scope="module")
def captioned(ray_cluster, model_dir, mixed, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "captions"
    summary = caption(config(), audio=str(mixed), out=str(out), model=str(model_dir))
    return summary, out


def test_every_file_has_one_row(captioned, mixed):
    _, out = captioned
    rows = rows_at(out)

    assert [row["path"] for row in rows] == sorted(str(path) for path in mixed.iterdir())
    assert pq.read_table(out).schema.equals(SCHEMA)
    assert [row["status"] for row in rows].count("ok") == 7
    for row in rows:
        answered = row["status"] == "ok"
        assert bool(row["caption"]) is bool(row["num_tokens"]) is answered
        assert (row["segment_end_s"] is not None) is answered
        assert row["answer"] is None


def test_every_kind_of_bad_file_has_its_code_and_words(captioned, mixed):
    _, out = captioned
    errors = {Path(row["path"]).name: row for row in rows_at(out) if row["status"] == "error"}

    assert {name: row["error_code"] for name, row in errors.items()} == BAD
    assert all(str(mixed / name) in row["error"] for name, row in errors.items())


def test_the_summary_counts_them(captioned):
    summary, out = captioned

    assert (summary.files, summary.rows, summary.ok, summary.written) == (14, 14, 7, 14)
    assert sum(summary.errors.values()) == 7
    assert summary.errors["empty"] == 2
    assert "14 files, 14 rows: 7 ok, errors: 2 empty" in str(summary)
    assert str(out) in str(summary)


def test_the_words_are_the_pipelines_own(captioned, model_dir):
    _, out = captioned
    pipeline = MATSPipeline.from_pretrained(model_dir)

    for row in rows_at(out):
        if row["status"] == "ok":
            assert row["caption"] == pipeline.caption(read_audio(row["path"])).text
            assert row["model_id"] == pipeline.model_id


def test_batch_size_and_number_of_workers_change_no_word(captioned, mixed, model_dir, tmp_path):
    _, out = captioned
    changed = config(batch_size=1, concurrency=2, decode_concurrency=2)
    caption(changed, audio=str(mixed), out=str(tmp_path), model=str(model_dir))

    assert rows_at(tmp_path) == rows_at(out)


def test_a_finished_job_does_nothing_and_says_so(captioned, mixed, model_dir, monkeypatch):
    _, out = captioned
    before = parts_of(out)
    monkeypatch.setattr(on_ray, "_write_missing", None)  # would fail if it were called

    summary = caption(config(), audio=str(mixed), out=str(out), model=str(model_dir))

    assert parts_of(out) == before
    assert (summary.rows, summary.ok, summary.written) == (14, 7, 0)
    assert "nothing to do" in str(summary)


def test_files_times_questions_and_only_what_is_new(ray_cluster, mixed, model_dir, tmp_path):
    folder = write_good(tmp_path / "clips", 5)
    (folder / "empty.wav").touch()

    def run(*questions):
        out = str(tmp_path / "out")
        return caption(config(), audio=str(folder), out=out, model=str(model_dir), questions=questions)

    first = run(QUESTIONS[0])
    assert (first.files, first.rows, first.written) == (6, 6, 6)
    both = run(*QUESTIONS)
    assert (both.files, both.rows, both.written, both.errors) == (6, 12, 6, {"empty": 2})

    # a file that changes is asked again, nothing else
    time.sleep(0.01)
    (folder / "empty.wav").write_bytes(encoded(sound(99)))
    again = run(*QUESTIONS)
    assert (again.rows, again.written, again.ok) == (12, 2, 12)

    rows = rows_at(tmp_path / "out")
    expected = [(str(path), question) for path in sorted(folder.iterdir()) for question in sorted(QUESTIONS)]
    assert [(row["path"], row["prompt"]) for row in rows] == expected
    pipeline = MATSPipeline.from_pretrained(model_dir)
    for row in rows[:4]:
        assert row["answer"] == pipeline.ask(read_audio(row["path"]), row["prompt"]).text


def test_another_model_replaces_rows_and_a_broken_one_does_not(ray_cluster, model_dir, tmp_path):
    folder, out = write_good(tmp_path / "clips", 3), tmp_path / "out"
    other = tiny_model_dir(tmp_path / "other", name="other", seed=1)
    caption(config(), audio=str(folder), out=str(out), model=str(model_dir))
    before = rows_at(out)

    mapper = other / "mapper.safetensors"
    whole = mapper.read_bytes()
    mapper.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"^[^\n]*mapper\.safetensors cannot be read \(cut off\?\)[^\n]*$"):
        caption(config(), audio=str(folder), out=str(out), model=str(other))
    assert rows_at(out) == before

    mapper.write_bytes(whole)
    summary = caption(config(), audio=str(folder), out=str(out), model=str(other))
    assert (summary.rows, summary.written) == (3, 3)
    assert {row["model_id"] for row in rows_at(out)} == {summary.model_id} != {before[0]["model_id"]}
    assert len(rows_at(out)) == 3


def test_too_many_errors_fail_the_job_with_every_row_written(ray_cluster, model_dir, tmp_path):
    folder = write_good(tmp_path / "clips", 3)
    (folder / "empty.wav").touch()

    for _ in range(2):  # so does the next run, which has nothing to write
        with pytest.raises(
            DataError, match=r"1 of 4 rows are errors \(1 empty\).*max_error_fraction=0\.1.*0 bytes"
        ):
            caption(
                config(max_error_fraction=0.1),
                audio=str(folder),
                out=str(tmp_path / "o"),
                model=str(model_dir),
            )
        assert len(rows_at(tmp_path / "o")) == 4
    assert caption(
        config(max_error_fraction=0.25), audio=str(folder), out=str(tmp_path / "o"), model=str(model_dir)
    ).errors == {"empty": 1}


KILLED = """
import ray, sys, time
from mats_ray.infer import parts, on_ray
from tests.integration.test_caption import config
parts.FIRST_FLUSH_SECONDS = 0
slow = on_ray.Progress.advance
on_ray.Progress.advance = lambda self, *args, **more: (slow(self, *args, **more), time.sleep(0.3))
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
on_ray.caption(config(batch_size=2), audio=sys.argv[2], out=sys.argv[3], model=sys.argv[4])
"""


def test_a_killed_job_goes_on_where_it_was(ray_cluster, model_dir, tmp_path):
    folder, out = write_good(tmp_path / "clips", 24), tmp_path / "out"
    out.mkdir()
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, ray_cluster, str(folder), str(out), str(model_dir)], cwd=ROOT
    )
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob("*.parquet"))) < 3:
            assert killed.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    done = len(pq.read_table(out))
    assert 0 < done < 24

    summary = caption(config(), audio=str(folder), out=str(out), model=str(model_dir))

    assert (summary.files, summary.rows, summary.ok, summary.written) == (24, 24, 24, 24 - done)
    caption(config(), audio=str(folder), out=str(tmp_path / "unbroken"), model=str(model_dir))
    assert rows_at(out) == rows_at(tmp_path / "unbroken")


def test_buckets_on_a_cluster_that_knows_nothing_of_them(ray_cluster, model_dir, tmp_path):
    folder = write_good(tmp_path / "clips", 5)
    with s3_server("sounds") as files:
        for path in folder.iterdir():
            files.put_file(str(path), f"sounds/in/deep {path.name}")
        files.pipe_file("sounds/in/empty.wav", b"")
        where = {"audio": "s3://sounds/in", "out": "s3://sounds/out/captions", "model": str(model_dir)}

        summary = caption(config(), **where)
        again = caption(config(), **where)

        stored = [files.cat_file(path) for path in files.ls("sounds/out/captions")]
        rows = pa.concat_tables([pq.read_table(io.BytesIO(part)) for part in stored]).to_pylist()
    assert (summary.rows, summary.ok, summary.errors, summary.written) == (6, 5, {"empty": 1}, 6)
    assert (again.rows, again.written) == (6, 0)
    local = tmp_path / "local"
    caption(config(), audio=str(folder), out=str(local), model=str(model_dir))
    said = {row["path"].rsplit(" ")[-1]: row["caption"] for row in rows if row["status"] == "ok"}
    assert said == {Path(row["path"]).name: row["caption"] for row in rows_at(local)}
    assert all(row["path"].startswith("s3://sounds/in/") and row["etag"] for row in rows)


def test_the_job_script_joins_the_cluster_and_says_where_the_rows_are(ray_cluster, model_dir, tmp_path):
    folder = write_good(tmp_path / "clips", 2)
    arguments = ["--audio", str(folder), "--out", str(tmp_path / "out"), "--model", str(model_dir)]

    done = subprocess.run(
        [
            sys.executable,
            "jobs/caption.py",
            *arguments,
            "--ask",
            QUESTIONS[0],
            "--set",
            "caption.batch_size=1",
        ],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "2 files, 2 rows: 2 ok, errors: none" in done.stdout
    assert str(tmp_path / "out") in done.stdout
    assert "caption 2/2 files" in done.stderr


@pytest.mark.shared
def test_real_recordings(ray_cluster, model_dir, tmp_path):
    if not ESC10.is_dir():
        pytest.skip(f"no recordings at {ESC10}")
    for path in sorted(ESC10.glob("*/*.ogg"))[::40]:
        (tmp_path / "clips" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / path.parent.name / path.name).symlink_to(path)

    summary = caption(
        config(), audio=str(tmp_path / "clips"), out=str(tmp_path / "out"), model=str(model_dir)
    )

    assert (summary.files, summary.ok, summary.errors) == (8, 8, {})
    assert all(4.9 < row["segment_end_s"] < 5.1 for row in rows_at(tmp_path / "out"))
