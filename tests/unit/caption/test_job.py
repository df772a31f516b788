"""A job from its requests to its summary, without Ray."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mats_ray.caption.job import CaptionJob
from mats_ray.caption.output import PartStore
from mats_ray.caption.rows import Prompt, RowError, Source, error_row, ok_row, to_table
from mats_ray.config.caption import CaptionConfig
from mats_ray.data import audio_listing, manifest
from mats_ray.data.audio_files import AudioObject
from mats_ray.errors import DataError
from mats_ray.types import Answer
from tests.world import tiny_model_dir

GIB = 2**30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model_dir(tmp_path_factory.mktemp("world")))


@pytest.fixture
def out(tmp_path):
    return str(tmp_path / "out")


def files(*names, size=1_000, etag="1"):
    return [AudioObject(path=f"/clips/{name}.wav", size=size, etag=etag) for name in names]


def answer(job, batch, *, error=None):
    """Answer a batch; returns its pairs of name and prompt."""
    rows, pairs = [], []
    for file in batch.to_pylist():
        for value in file["prompts"]:
            prompt, source = Prompt.from_value(value), Source(path=file["path"], etag=file["etag"])
            text = Answer(text="a dog", num_tokens=2, finish_reason="stop")
            made = error_row(source, prompt, job.provenance, RowError(error, "why")) if error else None
            rows.append(made or ok_row(source, prompt, job.provenance, text))
            pairs.append((file["path"].rpartition("/")[2].removesuffix(".wav"), value["instruction"]))
    job.accept(to_table(rows))
    return pairs


def run(model, out, audio, *, error=None, **settings):
    """Do a whole job; returns its summary and the pairs that were missing."""
    questions = settings.pop("questions", ["Dog?"])
    config = CaptionConfig(**{"batch_size": 2, "max_error_fraction": 1.0} | settings)
    job = CaptionJob(config, audio=audio, out=out, model=model, questions=questions)
    sent = []
    with job:
        for batch in job.batches():
            assert len(batch) <= 2
            sent += answer(job, batch, error=error)
    return job.finish(), sent


def rows_at(out):
    store = PartStore(out, create=False)
    rows = [row for name in store.names() for row in store.read(name).to_pylist()]
    return sorted(rows, key=lambda row: (row["path"], row["prompt"]))


def test_a_job_does_what_is_missing_and_then_nothing(model, out):
    first, sent = run(model, out, files("a", "b", "c"))
    second, more = run(model, out, files("a", "b", "c", "d"))
    third, nothing = run(model, out, files("a", "b", "c", "d"))

    assert sent == [("a", "Dog?"), ("b", "Dog?"), ("c", "Dog?")]
    assert (more, nothing) == ([("d", "Dog?")], [])
    assert [(one.files, one.rows, one.written) for one in (first, second, third)] == [
        (3, 3, 3),
        (4, 4, 1),
        (4, 4, 0),
    ]
    assert len(rows_at(out)) == 4


def test_files_of_no_use_by_their_size_have_their_rows_without_being_opened(model, out):
    audio = [*files("a"), *files("empty", size=0), *files("not reached", size=0, etag="")]
    audio += [*files("huge", size=8 * GIB), *files("larger", size=8 * GIB + 1)]

    summary, sent = run(model, out, audio)

    assert sent == [("a", "Dog?"), ("huge", "Dog?"), ("not reached", "Dog?")]
    assert (summary.rows, summary.ok, summary.errors) == (5, 3, {"empty": 1, "too_large": 1})
    texts = {row["path"]: row["error"] for row in rows_at(out) if row["error"]}
    assert texts == {
        "/clips/empty.wav": "/clips/empty.wav is empty (0 bytes)",
        "/clips/larger.wav": f"/clips/larger.wav has {8 * GIB + 1} bytes, the limit is {8 * GIB}",
    }


def test_thousands_of_empty_objects_need_no_batch(model, out):
    audio = files(*(f"{n:05d}" for n in range(20_000)), size=0)

    summary, sent = run(model, out, audio, part_rows=5_000)

    assert (sent, summary.rows, summary.errors) == ([], 20_000, {"empty": 20_000})
    assert list(PartStore(out, create=False).num_rows().values()) == [5_000] * 4
    assert run(model, out, audio)[0].written == 0


def test_the_first_batch_is_there_before_the_listing_is(model, out, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_listing, "FIRST_BLOCK", 4)
    folder = tmp_path / "clips"
    folder.mkdir()
    for n in range(200):
        (folder / f"{n:03d}.wav").write_bytes(b"x")
    job = CaptionJob(CaptionConfig(batch_size=2), audio=str(folder), out=out, model=model)

    with job:
        batches = job.batches()
        answer(job, next(batches))
        assert (job.num_files, job.is_listed) == (4, False)
        for batch in batches:
            answer(job, batch)

    assert job.is_listed
    assert (job.finish().files, job.num_files_new) == (200, 200)


def test_a_changed_file_keeps_its_row_until_the_new_one_is_there(model, out):
    run(model, out, files("a", "b"))
    changed = files("a", "b", etag="2")
    job = CaptionJob(CaptionConfig(), audio=changed, out=out, model=model, questions=["Dog?"])

    with job:
        (batch,) = job.batches()
        assert [row["etag"] for row in rows_at(out)] == ["1", "1"]
        answer(job, batch)
    assert [row["etag"] for row in rows_at(out)] == ["2", "2"]
    assert job.finish().written == 2


def test_an_error_is_done_again_until_it_is_none(model, out):
    first, _ = run(model, out, files("a"), error="read_failed")
    again, sent = run(model, out, files("a"), error="too_long")
    same, nothing = run(model, out, files("a"))
    mended, retried = run(model, out, files("a"), retry=["too_long"])

    assert [one.errors for one in (first, again, same, mended)] == [
        {"read_failed": 1},
        {"too_long": 1},
        {"too_long": 1},
        {},
    ]
    assert (sent, nothing, retried) == ([("a", "Dog?")], [], [("a", "Dog?")])
    assert len(rows_at(out)) == 1


def test_rows_that_never_came_are_named(model, out):
    job = CaptionJob(CaptionConfig(batch_size=1), audio=files("a", "b"), out=out, model=model)
    with job:
        for batch, number in zip(job.batches(), range(2), strict=True):
            if number == 0:
                answer(job, batch)

    with pytest.raises(DataError, match=r"rows of 1 files are missing, the first of /clips/b\.wav"):
        job.finish()
    assert len(rows_at(out)) == 1


def test_a_manifest_with_duplicates_in_any_distance_has_each_row_once(model, tmp_path, out, monkeypatch):
    monkeypatch.setattr(manifest, "FIRST_BLOCK", 3)
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"x")
    rows = [("a", "Dog?"), ("b", ""), ("a", "Dog?"), ("a", "Rain?"), ("b", ""), ("b", "Dog?"), ("a", "Dog?")]
    listed = [{"path": f"{name}.wav", "question": text, "n": n} for n, (name, text) in enumerate(rows)]
    listing = tmp_path / "list.jsonl"
    listing.write_text("\n".join(map(json.dumps, listed)))

    summary, sent = run(model, out, str(listing), questions=[])
    again, nothing = run(model, out, str(listing), questions=[])

    caption = "Describe the following audio in a caption."
    assert sent == [("a", "Dog?"), ("b", caption), ("a", "Rain?"), ("b", "Dog?")]
    assert (summary.files, summary.rows, summary.written) == (2, 4, 4)
    assert (nothing, again.files, again.rows, again.written) == ([], 2, 4, 0)
    found = [(row["listed_path"], row["prompt"], json.loads(row["manifest"])["n"]) for row in rows_at(out)]
    assert found == [
        ("a.wav", "Dog?", 0),
        ("a.wav", "Rain?", 3),
        ("b.wav", caption, 1),
        ("b.wav", "Dog?", 5),
    ]


def test_prefixes_that_overlap_are_refused():
    with pytest.raises(ValueError, match="'2026/01' begins with '2026/', and would be listed twice"):
        CaptionConfig(prefixes=["2026/01", "2025/", "2026/"])


@pytest.mark.parametrize(
    ("question", "rows"),
    [("Dog?", [("a", "Dog?"), ("b", "Dog?")]), ("Rain?", [("a", "Dog?"), ("a", "Rain?"), ("b", "Dog?")])],
)
def test_a_path_of_two_blocks_has_each_row_once_while_it_is_in_flight(
    model, out, tmp_path, monkeypatch, question, rows
):
    monkeypatch.setattr(manifest, "FIRST_BLOCK", 2)
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF" + bytes(60))
    listed = f"path,question\na.wav,\nb.wav,\na.wav,{question} \n"
    (tmp_path / "list.csv").write_text(listed)
    job = CaptionJob(
        CaptionConfig(batch_size=2), audio=f"{tmp_path}/list.csv", out=out, model=model, questions=["Dog?"]
    )
    with job, ThreadPoolExecutor(1) as answering:
        for call in [answering.submit(answer, job, batch) for batch in job.batches()]:
            call.result()
    first = job.finish()
    again, sent = run(model, out, f"{tmp_path}/list.csv")

    names = [(row["path"].rpartition("/")[2].removesuffix(".wav"), row["prompt"]) for row in rows_at(out)]
    assert (names, sent) == (rows, [])
    assert [(one.files, one.rows) for one in (first, again)] == [(2, len(rows))] * 2


def test_a_summary_of_an_older_run_is_replaced_where_the_run_of_the_last_rows_wrote_none(model, out):
    run(model, out, files("a"))
    killed = CaptionJob(CaptionConfig(), audio=files("a", "b"), out=out, model=model, questions=["Dog?"])
    with killed:
        for batch in killed.batches():
            answer(killed, batch)

    run(model, out, files("a", "b"))
    tree = PartStore(out).read_summary()
    run(model, out, files("a", "b"))

    assert (tree["files"], tree["rows"], tree["written"]) == (2, 2, 0)
    assert PartStore(out).read_summary() == tree


def test_a_job_whose_folder_another_job_took_over_writes_no_more(model, out):
    taken = []

    def check():
        if taken:
            raise DataError("taken over")

    def suspended():
        job = CaptionJob(CaptionConfig(batch_size=1), audio=files("a", "b"), out=out, model=model)
        job.check = check
        with job:
            for batch in job.batches():
                answer(job, batch)
                taken.append(job)

    with pytest.raises(DataError, match="taken over"):
        suspended()
    assert rows_at(out) == []
