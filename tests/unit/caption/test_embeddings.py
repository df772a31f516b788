"""Kept embeddings: of one space, of the present content of each file, answered like fresh ones."""

import json

import numpy as np
import pyarrow as pa
import pytest

from mats_ray.caption.answer import AnswerSettings, AnswerStage
from mats_ray.caption.decode import AudioOpener, DecodeStage, file_table, pack_table
from mats_ray.caption.embeddings import ROWS_PER_GROUP, SCHEMA, EmbeddingStore, EncodeSettings, EncodeStage
from mats_ray.caption.job import CaptionJob
from mats_ray.caption.part_writer import PartWriter
from mats_ray.caption.prompts import PromptRules
from mats_ray.caption.rows import Provenance
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio import Limits
from mats_ray.data.audio_files import AudioObject
from mats_ray.data.audio_listing import to_block
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.directory import read_info
from mats_ray.storage import Environment
from mats_ray.storage.writing import PENDING
from tests.unit.caption.test_decode import wav

PROMPTS = PromptRules(shared=["Is there a dog?", "Does it rain?"]).of_file()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for n, seconds in enumerate([1, 3, 9]):  # the last is longer than CLAP's window
        time = np.arange(seconds * 16_000) / 16_000
        (folder / f"{n}.wav").write_bytes(wav(0.4 * np.sin(2 * np.pi * (200 + 700 * n) * time), 16_000))
    (folder / "note.wav").write_text("no sound")
    return [str(path) for path in sorted(folder.iterdir())]


def files_of(paths, prompts=()):
    return file_table([(one, prompts) for one in objects(paths)])


def decoded(paths, prompts):
    stage = DecodeStage(
        opener=AudioOpener(environment=Environment(), limits=Limits(max_seconds=60)), batch_size=2
    )
    return list(stage(files_of(paths, prompts)))


def encoded(model_dir, paths):
    stage = EncodeStage(EncodeSettings(model=str(model_dir), num_threads=1, device="cpu"))
    return pa.concat_tables([stage(table) for table in decoded(paths, [])])


def filled(folder, table):
    store = EmbeddingStore(str(folder), "space")
    with PartWriter(store.parts, part_rows=1_000) as writer:
        writer.add(table)
    return store


def objects(paths, etag=""):
    return [AudioObject(path=path, size=1, etag=etag) for path in paths]


def test_answers_from_kept_embeddings_are_those_of_the_audio(model_dir, paths, tmp_path):
    settings = AnswerSettings(
        model=str(model_dir),
        provenance=Provenance(model_id="m", generation=GenerationConfig(profile="fast", max_new_tokens=8)),
        batch_size=2,
        num_threads=1,
        device="cpu",
    )
    answer = AnswerStage(settings)
    fresh = pa.concat_tables([answer(table) for table in decoded(paths, PROMPTS)])
    store = filled(tmp_path, encoded(model_dir, paths))

    table, none = store.join(files_of(paths, PROMPTS))
    kept = answer(pack_table(table))

    assert not len(none)

    def key(row):
        return row["path"], row["prompt"]

    assert sorted(kept.to_pylist(), key=key) == sorted(fresh.to_pylist(), key=key)


def test_a_file_is_missing_until_its_present_content_is_embedded(model_dir, paths, tmp_path):
    store = filled(tmp_path, encoded(model_dir, paths[:2]))

    assert [one.path for one in store.missing(to_block(objects(paths)))] == paths[2:]
    assert [one.path for one in store.missing(to_block(objects(paths, etag="new")))] == paths


def test_a_passing_error_is_retried_and_its_row_replaced(paths, tmp_path):
    row = {"path": paths[0], "etag": "", "error_code": "read_failed", "error": "x"}
    store = filled(tmp_path, pa.Table.from_pylist([row], schema=SCHEMA))

    missing = store.missing(to_block(objects(paths[:1])))
    with PartWriter(store.parts, part_rows=1_000) as writer:
        good = {"path": paths[0], "etag": "", "end_s": 1.0, "embedding": [1.0]}
        writer.add(pa.Table.from_pylist([good], schema=SCHEMA))

    assert [one.path for one in missing] == paths[:1]
    table, _ = store.join(files_of(paths[:1], PROMPTS))
    assert table.column("embedding").to_pylist() == [[1.0]]


def test_files_without_an_embedding_of_their_content_are_told_apart(model_dir, paths, tmp_path):
    store = filled(tmp_path, encoded(model_dir, paths[:2]))
    files = file_table(
        [(one, PROMPTS) for one in [*objects(paths[1:]), *objects(paths[:1], etag="changed since")]]
    )

    table, none = store.join(files)

    assert table["path"].to_pylist() == [paths[1]]
    assert table["prompts"].to_pylist() == [[prompt.value for prompt in PROMPTS]]
    assert none["path"].to_pylist() == [*paths[2:], paths[0]]


def rows_of(*names):
    return pa.Table.from_pylist(
        [{"path": f"/clips/{name}.wav", "etag": "", "error_code": "empty", "error": "why"} for name in names],
        schema=SCHEMA,
    )


def test_what_waits_to_be_written_is_not_missing(tmp_path):
    store = EmbeddingStore(str(tmp_path), "space")
    block = to_block(objects([f"/clips/{name}.wav" for name in "abc"]))
    with store.writing():
        store.add(rows_of("a"))
        store.add(rows_of("c"))

        assert [one.path for one in store.missing(block)] == ["/clips/b.wav"]
    assert [one.path for one in store.missing(block)] == ["/clips/b.wav"]


def test_a_folder_of_embeddings_is_written_by_one_job(tmp_path):
    one, other = (EmbeddingStore(str(tmp_path), "space") for _ in range(2))
    with one.writing():
        pending = tmp_path / f".part.1{PENDING}"
        pending.write_bytes(b"of the job that holds the folder")
        EmbeddingStore(str(tmp_path), "space")
        with pytest.raises(DataError, match=r"is in use: `mats caption` on "), other.writing():
            pass
        assert pending.exists()


def test_a_dry_run_makes_nothing(tmp_path):
    EmbeddingStore(str(tmp_path / "none"), "space", create=False)

    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_leaves_a_folder_that_another_job_writes(model_dir, paths, tmp_path):
    kept = filled(tmp_path / "kept", rows_of("a"))
    (tmp_path / "kept" / f".part.1{PENDING}").write_bytes(b"of the other job")
    space = read_info(str(model_dir)).space
    (tmp_path / "kept" / "_space.json").write_text(json.dumps({"space": space}))
    before = {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    for folder in (kept.folder, str(tmp_path / "none")):
        settings = CaptionConfig(embeddings=folder)
        what = {"audio": objects(paths), "out": str(tmp_path / "out"), "model": str(model_dir)}
        CaptionJob(settings, **what, create=False).forecast()

    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == before


def names_of(count, start=0):
    return [f"{n:04d}" for n in range(start, start + count)]


def block_of(names):
    return to_block(objects([f"/clips/{name}.wav" for name in names]))


def test_a_part_that_another_job_replaces_is_read_anew(tmp_path):
    """Row groups with other numbers of rows: what is read is not what was looked up."""
    one, other = (EmbeddingStore(str(tmp_path), "space") for _ in range(2))
    with other.writing():
        other.add(rows_of(*names_of(ROWS_PER_GROUP + 2, start=10)))
    block = block_of(names_of(ROWS_PER_GROUP + 2, start=10))
    assert one.missing(block) == []

    with other.writing():
        other.add(rows_of(*names_of(10)))

    assert one.missing(block) == []


def test_rows_that_another_job_moved_to_another_row_group_are_found(tmp_path):
    """The row group that held the path is as long as before, and holds others."""
    one, other = (EmbeddingStore(str(tmp_path), "space") for _ in range(2))
    with other.writing():
        other.add(rows_of(*names_of(ROWS_PER_GROUP, start=10)))
    path = f"/clips/{ROWS_PER_GROUP + 9:04d}.wav"
    assert len(one.join(files_of([path], PROMPTS))[0]) == 1

    with other.writing():
        other.add(rows_of(*names_of(10)))

    table, none = one.join(files_of([path], PROMPTS))
    assert table["path"].to_pylist() == [path]
    assert not len(none)


def test_a_job_adds_to_what_another_wrote_before_it_held_the_folder(tmp_path):
    one, other = (EmbeddingStore(str(tmp_path), "space") for _ in range(2))
    assert len(one.missing(block_of("ab"))) == 2
    with other.writing():
        other.add(rows_of("a"))

    with one.writing():
        assert [file.path for file in one.missing(block_of("ab"))] == ["/clips/b.wav"]
        one.add(rows_of("b"))

    assert EmbeddingStore(str(tmp_path), "space").missing(block_of("ab")) == []
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".parquet"]) == 1


def test_a_path_of_two_blocks_is_missing_once(tmp_path):
    store, in_flight = EmbeddingStore(str(tmp_path), "space"), dict[str, int]()
    with store.writing(in_flight):
        first = [file.path for file in store.missing(block_of("aba"))]
        in_flight.update(dict.fromkeys(first, 0))
        second = store.missing(block_of("abc"))  # while both are in flight
        store.add(rows_of("a", "b"))
        in_flight.clear()  # before the second block is sent

        assert first == ["/clips/a.wav", "/clips/b.wav"]
        assert [file.path for file in second] == ["/clips/c.wav"]
        assert [file.path for file in store.missing(block_of("abc"))] == ["/clips/c.wav"]


def test_embeddings_of_another_space_are_refused(tmp_path):
    EmbeddingStore(str(tmp_path), "one CLAP")

    with pytest.raises(
        ConfigError, match="holds embeddings of one CLAP, not of another; give another folder"
    ):
        EmbeddingStore(str(tmp_path), "another")
