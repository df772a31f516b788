"""Captioning a folder on Ray: one row per file and prompt whatever happens, the same text every time."""

import io
import json
import os
import re
import shutil
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
from ray.data import DataContext

from mats_ray.caption import on_ray
from mats_ray.caption.answer import AnswerStage
from mats_ray.caption.job import CaptionJob
from mats_ray.caption.on_ray import caption
from mats_ray.caption.output import PartStore
from mats_ray.caption.rows import SCHEMA
from mats_ray.config.caption import CaptionConfig
from mats_ray.data import manifest
from mats_ray.data.audio import read_audio
from mats_ray.errors import ConfigError, DataError, ModelError
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.on_ray.data import execution
from mats_ray.storage import lock_folder
from tests import kills
from tests.conftest import LOGICAL_CPUS
from tests.s3 import s3_server
from tests.sounds import sndfile_bytes
from tests.world import tiny_model_dir

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
BAD = {
    "text.wav": "not_audio",
    "empty.wav": "empty",
    "no samples.wav": "empty",
    "cut.ogg": "truncated",
    "nan.wav": "not_finite",
    "long.flac": "too_long",
    "link.wav": "not_found",
}
NUM_GOOD, NUM_FILES = 24, 24 + len(BAD)
QUESTIONS = ["Is there a dog?", "Does rain fall on the roof?"]


def config(**changes):
    settings = {"batch_size": 4, "max_seconds": 30, "max_error_fraction": 1.0} | changes
    return CaptionConfig.model_validate(settings)


def encoded(samples, rate=16_000, **kind):
    return sndfile_bytes(samples, rate, **(kind or {"format": "WAV", "subtype": "FLOAT"}))


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
    """Two dozen good files and one of each bad kind."""
    folder = write_good(tmp_path_factory.mktemp("mixed") / "clips # 100% ü", NUM_GOOD)
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
    assert [row["status"] for row in rows].count("ok") == NUM_GOOD
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

    assert (summary.files, summary.rows, summary.ok) == (NUM_FILES, NUM_FILES, NUM_GOOD)
    assert (summary.written, sum(summary.errors.values())) == (NUM_FILES, len(BAD))
    assert f"{NUM_FILES} files, {NUM_FILES} rows: {NUM_GOOD} ok, errors: 2 empty" in str(summary)
    assert str(out) in str(summary)


def test_captions_are_the_pipelines_own(captioned, model_dir):
    _, out = captioned
    pipeline = MATSPipeline.from_pretrained(model_dir)

    for row in rows_at(out):
        if row["status"] == "ok":
            assert row["caption"] == pipeline.caption(read_audio(row["path"])).text
            assert row["model_id"] == pipeline.model_id


def test_a_finished_job_does_nothing_and_reports_it(captioned, mixed, model_dir, monkeypatch):
    _, out = captioned
    before = parts_of(out)
    monkeypatch.setattr(on_ray, "write_missing_rows", None)  # would fail if it were called

    summary = caption(config(), audio=str(mixed), out=str(out), model=str(model_dir))

    assert parts_of(out) == before
    assert (summary.rows, summary.ok, summary.written) == (NUM_FILES, NUM_GOOD, 0)
    assert "nothing to do" in str(summary)


def test_too_many_errors_fail_the_job_with_every_row_written(captioned, mixed, model_dir):
    _, out = captioned
    what = {"audio": str(mixed), "out": str(out), "model": str(model_dir)}

    with pytest.raises(
        DataError, match=r"^7 of 31 rows are errors \(2 empty, .*max_error_fraction=0\.2 .*cut off"
    ):
        caption(config(max_error_fraction=0.2), **what)
    assert caption(config(max_error_fraction=0.25), **what).rows == len(rows_at(out)) == NUM_FILES


KILLED = """
import sys, time, ray
from mats_ray.caption import on_ray
from mats_ray.caption import output
from tests.integration.test_caption import config
output.FIRST_FLUSH_SECONDS = 0
update = on_ray.Progress.update
on_ray.Progress.update = lambda *args, **more: (update(*args, **more), time.sleep(0.3))
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
on_ray.caption(config(batch_size=1), audio=sys.argv[2], out=sys.argv[3], model=sys.argv[4])
"""


def test_a_killed_job_resumes_and_ends_like_an_unbroken_one(
    captioned, mixed, ray_cluster, model_dir, tmp_path
):
    command = [
        sys.executable,
        "-c",
        KILLED,
        ray_cluster["gcs_address"],
        str(mixed),
        str(tmp_path),
        str(model_dir),
    ]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as killed:
        deadline = time.monotonic() + 300
        while kills.num_rows(str(tmp_path)) < 3 and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL, "it ended before it could be killed"
    done = len(pq.read_table(tmp_path))
    assert 0 < done < NUM_FILES

    # other batches and numbers of workers change no word either
    changed = config(batch_size=5, concurrency=2, decode_concurrency=2)
    summary = caption(changed, audio=str(mixed), out=str(tmp_path), model=str(model_dir))

    assert (summary.rows, summary.ok, summary.written) == (NUM_FILES, NUM_GOOD, NUM_FILES - done)
    _, unbroken = captioned
    assert rows_at(tmp_path) == rows_at(unbroken)


def test_errors_of_a_code_are_computed_again_and_the_summary_follows(ray_cluster, model_dir, tmp_path):
    folder, out = write_good(tmp_path / "clips", 2), tmp_path / "out"
    (folder / "long.flac").write_bytes(encoded(np.zeros(31 * 16_000), format="FLAC"))
    (folder / "empty.wav").touch()
    where = {"audio": str(folder), "out": str(out), "model": str(model_dir)}

    def summary():
        return json.loads((out / "_summary.json").read_text())

    caption(config(), **where)
    first = summary()
    caption(config(max_seconds=60), **where)
    same = summary()
    caption(config(max_seconds=60, retry=["too_long"]), **where)

    assert (first["files"], first["ok"], first["written"]) == (4, 2, 4)
    assert first["errors"]["too_long"]["count"] == 1
    assert first["errors"]["too_long"]["examples"][0]["path"] == str(folder / "long.flac")
    assert same == first  # nothing was computed: a longer limit alone does not do errors again
    assert (summary()["ok"], summary()["written"], list(summary()["errors"])) == (3, 1, ["empty"])
    assert len(pq.read_table(out)) == 4  # readers of the folder skip the summary


def test_files_times_questions_and_only_what_is_new(ray_cluster, model_dir, tmp_path):
    folder = write_good(tmp_path / "clips", 5)
    (folder / "empty.wav").touch()

    def run(*questions):
        out = str(tmp_path / "out")
        return caption(config(), audio=str(folder), out=out, model=str(model_dir), questions=questions)

    first = run(QUESTIONS[0])
    assert (first.files, first.rows, first.written, first.errors) == (6, 6, 6, {"empty": 1})
    time.sleep(0.01)
    (folder / "empty.wav").write_bytes(encoded(sound(99)))  # another content: both questions, the others one
    second = run(*QUESTIONS)
    assert (second.files, second.rows, second.written, second.ok) == (6, 12, 7, 12)

    rows = rows_at(tmp_path / "out")
    expected = [(str(path), question) for path in sorted(folder.iterdir()) for question in sorted(QUESTIONS)]
    assert [(row["path"], row["prompt"]) for row in rows] == expected
    pipeline = MATSPipeline.from_pretrained(model_dir)
    for row in rows[:4]:
        assert row["answer"] == pipeline.ask(read_audio(row["path"]), row["prompt"]).text


@pytest.mark.parametrize("file_format", ["jsonl", pytest.param("parquet", marks=pytest.mark.slow)])
def test_columns_of_a_manifest_pass_through_and_follow_it(ray_cluster, model_dir, tmp_path, file_format):
    write_good(tmp_path / "clips", 2)
    listing, out = tmp_path / "list.csv", str(tmp_path / "out")

    def run(*lines):
        listing.write_text("\n".join(["path,question,speaker", *lines]))
        summary = caption(
            config(format=file_format, always_caption=True), audio=str(listing), out=out, model=str(model_dir)
        )
        store = PartStore(out)
        rows = [row for name in store.names() for row in store.read(name).to_pylist()]
        return summary.written, {
            (row["listed_path"], row["task"]): json.loads(row["manifest"])["speaker"] for row in rows
        }

    first = run("clips/00.wav,Is there a dog?,Ada")
    second = run("clips/00.wav,Is there a dog?,Ada L.", "./clips/01.wav,,Bob")

    assert first == (2, {("clips/00.wav", "caption"): "Ada", ("clips/00.wav", "qa"): "Ada"})
    assert second == (
        1,
        {
            ("clips/00.wav", "caption"): "Ada L.",
            ("clips/00.wav", "qa"): "Ada L.",
            ("./clips/01.wav", "caption"): "Bob",
        },
    )
    assert run("clips/00.wav,Is there a dog?,Eve", "./clips/01.wav,,Bob")[0] == 0


def test_a_manifest_that_names_its_files_again_has_each_row_and_each_embedding_once(
    ray_cluster, model_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(manifest, "FIRST_BLOCK", 2)
    monkeypatch.setattr(on_ray, "BATCHES_PER_PROCESS", 1)  # a batch that never ends holds up the job
    folder = write_good(tmp_path / "clips", 4)
    names = [path.name for path in folder.iterdir()]
    rows = [f"{name},{text}" for text in ("", "Rain?", " Dog? ") for name in names]
    (folder / "list.csv").write_text("\n".join(["path,question", *rows]))
    kept, out = tmp_path / "kept", tmp_path / "out"
    job = {"audio": f"{folder}/list.csv", "out": str(out), "model": str(model_dir), "questions": ["Dog?"]}

    first, again = (caption(config(embeddings=str(kept), batch_size=1), **job) for _ in range(2))

    assert [(one.files, one.rows, one.written) for one in (first, again)] == [(4, 8, 8), (4, 8, 0)]
    found = [(Path(row["path"]).name, row["prompt"]) for row in rows_at(out)]
    assert found == [(name, text) for name in sorted(names) for text in ("Dog?", "Rain?")]
    assert sorted(pq.read_table(kept, columns=["path"])["path"].to_pylist()) == [
        str(folder / name) for name in sorted(names)
    ]


def test_the_documentation_reads_the_rows(captioned, capsys):
    _, out = captioned
    page = (ROOT / "docs" / "batch.md").read_text()

    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(snippet.replace("out/captions", str(out)), {})

    printed = capsys.readouterr().out
    assert "Describe the following audio" in printed
    assert printed.splitlines()[-1] == str(len(BAD))


@pytest.mark.slow
def test_windows_of_long_audio_resume_whole(ray_cluster, model_dir, tmp_path):
    folder = write_good(tmp_path / "clips", 3)
    (folder / "long.flac").write_bytes(encoded(sound(7, 25), format="FLAC"))
    wanted = config(window="clap", hop=2, batch_size=3, format="jsonl")
    what = {"audio": str(folder), "out": str(tmp_path / "out"), "model": str(model_dir)}

    first = caption(wanted, **what)
    parts = sorted((tmp_path / "out").glob("*.jsonl"))
    lines = [line for part in parts for line in part.read_text().splitlines()]
    rows = sorted(map(json.loads, lines), key=lambda row: (row["path"], row["segment"]))
    assert (first.files, first.rows, first.ok) == (4, 15, 15)
    times = [(row["segment_start_s"], row["segment_end_s"]) for row in rows[3:]]
    assert times == [(start, min(start + 4, 25)) for start in range(0, 23, 2)]
    for part in parts:
        left = [line for line in part.open() if '"segment": 5' not in line]
        part.write_text("".join(left))

    again = caption(wanted, **what)  # its other windows go with the one that is missing

    assert (again.rows, again.written) == (15, 12)
    found = [json.loads(line) for path in (tmp_path / "out").glob("*.jsonl") for line in path.open()]
    assert sorted(found, key=lambda row: (row["path"], row["segment"])) == rows


def test_windows_pooled_by_several_processes_make_one_row_per_file(ray_cluster, model_dir, tmp_path):
    folder = write_good(tmp_path / "clips", 3)
    for n in range(3):
        (folder / f"long {n}.flac").write_bytes(encoded(sound(n, 25), format="FLAC"))
    (folder / "cut.ogg").write_bytes(encoded(sound(1, 25), format="OGG", subtype="VORBIS")[:-2_000])

    settings = {"window": "clap", "hop": 2, "pool": "mean"}
    where = {"audio": str(folder), "out": str(tmp_path / "out"), "model": str(model_dir)}
    job = CaptionJob(config(**settings, batch_size=100), **where)  # each file in one batch
    answer = AnswerStage(job.answer_settings)
    with job:
        batches = [clips for batch in job.batches() for clips in job.decode_stage(batch)]
    expected = [row for batch in batches for row in answer(batch).to_pylist()]

    processes = {"batch_size": 2, "concurrency": 2, "decode_concurrency": 2}
    summary = caption(config(**settings, **processes), **where)

    assert (summary.files, summary.rows, summary.errors) == (7, 7, {"truncated": 1})
    assert rows_at(tmp_path / "out") == expected
    times = [(row["segment_start_s"], row["segment_end_s"], row["segment"]) for row in expected]
    assert times[3:] == [(None, None, 0), *[(0, 25, 0)] * 3]


def test_another_model_replaces_rows_and_a_broken_one_does_not(captioned, mixed, tmp_path):
    _, first = captioned
    out = shutil.copytree(first, tmp_path / "out")
    before = rows_at(out)
    other = tiny_model_dir(tmp_path / "other", name="other", seed=1)
    what = {"audio": str(mixed), "out": str(out), "model": str(other)}

    mapper = other / "mapper.safetensors"
    whole = mapper.read_bytes()
    mapper.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        ModelError, match=r"^[^\n]*mapper\.safetensors cannot be read as safetensors \(cut off\?\)[^\n]*$"
    ):
        caption(config(), **what)
    # a file without bytes needs no model
    assert [row for row in rows_at(out) if row["error_code"] != "empty"] == [
        row for row in before if row["error_code"] != "empty"
    ]

    mapper.write_bytes(whole)
    summary = caption(config(), **what)
    assert (summary.rows, summary.written) == (NUM_FILES, NUM_FILES)
    assert {row["model_id"] for row in rows_at(out)} == {summary.model_id} != {before[0]["model_id"]}
    assert len(rows_at(out)) == NUM_FILES


def test_buckets_on_a_cluster_without_their_settings(captioned, mixed, model_dir):
    with s3_server("sounds") as files:
        for path in sorted(mixed.iterdir())[:6]:
            files.put_file(str(path), f"sounds/in/deep/{path.name}")
        files.pipe_file("sounds/in/zero.wav", b"")
        where = {"audio": "s3://sounds/in", "out": "s3://sounds/out #1/é", "model": str(model_dir)}

        summary = caption(config(), **where)
        again = caption(config(), **where)

        stored = [files.cat_file(path) for path in files.glob("sounds/out #1/é/*.parquet")]
        rows = pa.concat_tables([pq.read_table(io.BytesIO(part)) for part in stored]).to_pylist()
    assert (summary.rows, summary.ok, summary.errors, summary.written) == (7, 6, {"empty": 1}, 7)
    assert (again.rows, again.written) == (7, 0)
    assert all(row["path"].startswith("s3://sounds/in/") and row["etag"] for row in rows)
    local = {Path(row["path"]).name: row["caption"] for row in rows_at(captioned[1])}
    for row in rows:
        assert row["caption"] == local.get(row["path"].rsplit("/")[-1])


def test_the_job_script_joins_the_cluster_and_prints_where_the_rows_are(ray_cluster, model_dir, tmp_path):
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
        env=os.environ | {"RAY_ADDRESS": ray_cluster["gcs_address"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "2 files, 2 rows: 2 ok, errors: none" in done.stdout
    assert str(tmp_path / "out") in done.stdout
    assert "caption 2/2 files" in done.stderr


def test_a_second_job_on_one_folder_is_refused_and_changes_nothing(ray_cluster, mixed, model_dir, tmp_path):
    pending = tmp_path / ".part-0.parquet.0123abcd.pending"

    with lock_folder(str(tmp_path), by="mats caption"):
        pending.write_bytes(b"of the first job")
        with pytest.raises(DataError, match=f"^{tmp_path} is in use: `mats caption` on .*, process "):
            caption(config(), audio=str(mixed), out=str(tmp_path), model=str(model_dir))
        assert pending.exists()


def test_a_second_job_on_one_folder_of_embeddings_is_refused(mixed, model_dir, tmp_path):
    kept, what = str(tmp_path / "kept"), {"audio": str(mixed), "model": str(model_dir)}

    with lock_folder(kept, by="mats caption"):
        pending = tmp_path / "kept" / ".part-0.parquet.0123abcd.pending"
        pending.write_bytes(b"of the first job")
        with pytest.raises(DataError, match=f"^{kept} is in use: `mats caption` on .*, process "):
            caption(config(embeddings=kept), out=str(tmp_path / "out"), **what)
        assert pending.exists()
    with lock_folder(str(tmp_path / "out"), by="mats caption"):
        pass  # the second job holds it no more


def test_embeddings_do_not_go_to_the_folder_of_the_output(mixed, model_dir, tmp_path):
    out = tmp_path / "out"

    with pytest.raises(ConfigError, match=f"^caption.embeddings is the output's folder, {out}; "):
        caption(config(embeddings=f"{out}/"), audio=str(mixed), out=str(out), model=str(model_dir))
    assert list(out.iterdir()) == []


def test_a_gpu_pool_can_be_planned(ray_cluster, mixed, model_dir, tmp_path):
    job = CaptionJob(
        config(gpus_per_actor=0.5), audio=str(mixed), out=str(tmp_path), model=str(model_dir), questions=()
    )

    assert job.answer_settings.device == "cuda"
    batches = ray.data.from_items([0])
    assert "AnswerStage" in str(on_ray._with_actors(batches, on_ray._AnswerStage, [], job.settings))


def test_prefetched_samples_are_bounded_by_the_number_of_processes(ray_cluster):
    def limit_of(**changes):
        with execution() as context:
            on_ray._stream_batches(context, config(**changes))
            return context.execution_options.resource_limits.object_store_memory

    assert limit_of() == 2 * on_ray.PREFETCH_BYTES
    assert limit_of(concurrency=3, decode_concurrency=2) == 5 * on_ray.PREFETCH_BYTES
    assert DataContext.get_current().execution_options.resource_limits.object_store_memory > limit_of()


def test_a_cluster_that_is_too_small_is_named(ray_cluster, caplog):
    on_ray._warn_if_too_small(config(concurrency=40, cpus_per_actor=2, gpus_per_actor=0.5))
    assert (
        f"needs 81 CPUs (40 x caption.cpus_per_actor=2 and 1 to decode), the cluster has {LOGICAL_CPUS}"
        in (caplog.text)
    )
    assert "needs 20 GPUs (40 x caption.gpus_per_actor=0.5), the cluster has 0" in caplog.text

    caplog.clear()
    on_ray._warn_if_too_small(config())
    assert not caplog.text
