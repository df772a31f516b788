"""The ledger: which rows are missing, which are there, and which to remove."""

import dataclasses

import pytest

from mats_ray.caption.ledger import Ledger
from mats_ray.caption.output import PartStore
from mats_ray.caption.prompts import CAPTION, plan_prompts
from mats_ray.caption.rows import Prompt, Provenance, RowError, Source, error_row, ok_row, to_table
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio_files import AudioObject
from mats_ray.errors import DataError
from mats_ray.tasks import Task
from mats_ray.types import Answer

PROVENANCE = Provenance(model_id="m@1", generation=GenerationConfig())
OBJECTS = [AudioObject(path=path, size=1, etag=f"etag {path}") for path in ("a", "b", "c")]
PLAN = plan_prompts(["a", "b", "c"], shared=["Dog?", "Rain?"])
PROMPTS = PLAN.prompts


def row(path, prompt=PROMPTS[0], *, etag=None, provenance=PROVENANCE, text="yes", error=None, **window):
    source = Source(path=path, etag=etag or f"etag {path}", start_s=0.0, end_s=1.0, **window)
    if error:
        return error_row(source, prompt, provenance, RowError(error, f"{path} is bad"))
    return ok_row(source, prompt, provenance, Answer(text=text, num_tokens=1, finish_reason="stop"))


@pytest.fixture
def ledger():
    return Ledger(OBJECTS, PLAN, PROVENANCE)


@pytest.fixture
def store(tmp_path):
    return PartStore(str(tmp_path))


def everything(**kind):
    return to_table([row(one.path, prompt, **kind) for one in OBJECTS for prompt in PROMPTS])


def remove_outdated(ledger, store):
    for name, keep_N in ledger.scan(store).items():
        store.keep_rows(name, keep_N)


def test_nothing_is_done_at_first(ledger):
    assert ledger.done_K.shape == (6,)
    assert not ledger.done_K.any()


def test_rows_are_counted_by_outcome(ledger, store):
    rows = [
        row("a"),
        row("b", error="empty"),
        row("b", PROMPTS[1], error="empty"),
        row("c", error="too_long"),
    ]

    store.write("part-1.parquet", to_table(rows))

    assert ledger.scan(store) == {}
    assert ledger.done_K.reshape(3, 2).tolist() == [[True, False], [True, True], [True, False]]
    assert (ledger.num_ok, dict(ledger.errors), ledger.first_error) == (
        1,
        {"empty": 2, "too_long": 1},
        "b is bad",
    )


@pytest.mark.parametrize(
    "stale",
    [
        {"etag": "an older content"},
        {"provenance": dataclasses.replace(PROVENANCE, model_id="m@2")},
        {"provenance": Provenance(model_id="m@1", generation=GenerationConfig(profile="fast"))},
        {"error": "read_failed"},
        {"error": "changed"},
    ],
    ids=["content", "model", "decoding", "storage trouble", "changed meanwhile"],
)
def test_what_is_out_of_date_is_done_again(ledger, store, stale):
    store.write("part-1.parquet", to_table([row("a", **stale), row("b")]))
    store.write("part-2.parquet", to_table([row("c", **stale)]))

    remove_outdated(ledger, store)

    assert ledger.done_K.reshape(3, 2).tolist() == [[False, False], [True, False], [False, False]]
    assert store.names() == ["part-1.parquet"]
    assert store.read("part-1.parquet").column("path").to_pylist() == ["b"]


def test_a_duplicate_row_is_removed_once(ledger, store):
    store.write("part-1.parquet", to_table([row("a", text="first")]))
    store.write("part-2.parquet", to_table([row("a", text="second"), row("b")]))

    remove_outdated(ledger, store)

    answers = [store.read(name).column("answer").to_pylist() for name in store.names()]
    assert answers == [["first"], ["yes"]]


def test_errors_of_the_file_itself_stay(ledger, store):
    store.write("part-1.parquet", to_table([row("a", error="damaged")]))

    remove_outdated(ledger, store)

    assert ledger.done_K[0]
    assert len(store.read("part-1.parquet")) == 1


def test_rows_of_other_files_and_prompts_are_left_alone(ledger, store):
    foreign = [row("elsewhere"), row("a", Prompt(Task.QA, "Cat?")), row("a", CAPTION, etag="old")]
    store.write("part-1.parquet", to_table(foreign))

    remove_outdated(ledger, store)

    assert not ledger.done_K.any()
    assert len(store.read("part-1.parquet")) == 3


def test_a_complete_output_passes(ledger, store):
    store.write("part-1.parquet", everything(error="read_failed"))  # an outcome like any other at the end

    assert ledger.check(store).done_K.all()


def test_a_missing_row_is_named(ledger, store):
    store.write("part-1.parquet", everything().slice(0, 5))

    with pytest.raises(DataError, match=r"1 of 6 rows are missing, the first of c; 0 are there twice"):
        ledger.check(store)


def test_a_surplus_row_is_an_error(ledger, store):
    store.write("part-1.parquet", everything())
    store.write("part-2.parquet", everything().slice(0, 2))

    with pytest.raises(DataError, match=r"0 of 6 rows are missing; 2 are there twice"):
        ledger.check(store)


def windows(path, count, of=3, prompt=PROMPTS[0], **kind):
    return [row(path, prompt, segment=n, is_last=n == of - 1, **kind) for n in range(count)]


def test_windows_count_together(ledger, store):
    a, b = windows("a", 3), windows("b", 2)
    store.write("part-1.parquet", to_table([b[1], a[2], a[0]]))
    store.write("part-2.parquet", to_table([a[1], b[0], row("c", error="empty", segment=1)]))

    remove_outdated(ledger, store)

    assert ledger.done_K.reshape(3, 2).tolist() == [[True, False], [False, False], [False, False]]
    assert (ledger.num_rows, ledger.num_ok, dict(ledger.errors)) == (3, 3, {})
    kept = [store.read(name).to_pylist() for name in store.names()]
    assert [(one["path"], one["segment"]) for part in kept for one in part] == [("a", 2), ("a", 0), ("a", 1)]


def test_windows_before_trouble_with_the_storage_are_done_again(ledger, store):
    store.write("part-1.parquet", to_table([*windows("a", 2), row("a", segment=2, error="read_failed")]))

    remove_outdated(ledger, store)

    assert not ledger.done_K.any()
    assert store.names() == []


def test_duplicate_windows_are_removed_once(ledger, store):
    store.write("part-1.parquet", to_table([*windows("a", 3), *windows("a", 2)]))

    remove_outdated(ledger, store)

    assert ledger.num_rows == len(store.read("part-1.parquet")) == 3


def test_windows_of_another_cut_are_out_of_date(ledger, store):
    cut = dataclasses.replace(PROVENANCE, windows="windows of 7 s every 7 s")
    store.write("part-1.parquet", to_table(windows("a", 3, provenance=cut)))

    remove_outdated(ledger, store)

    assert store.names() == []


def test_a_missing_window_is_an_error(ledger, store):
    pairs = [(path, prompt) for path in "abc" for prompt in PROMPTS]
    rows = [one for path, prompt in pairs for one in windows(path, 3, prompt=prompt)]
    store.write("part-1.parquet", to_table(rows))
    assert ledger.check(store).num_rows == 18

    store.write("part-1.parquet", to_table(rows[:-2] + rows[-1:]))
    with pytest.raises(DataError, match=r"1 of 6 rows are missing, the first of c; 2 are there twice"):
        ledger.check(store)


def test_prompts_without_a_row_are_missing(ledger, store):
    store.write("part-1.parquet", to_table([row("a"), *(row("b", prompt) for prompt in PROMPTS)]))

    ledger.scan(store)

    assert [ledger.missing_prompts(file) for file in range(3)] == [[1], [], [0, 1]]
    assert ledger.files_done().tolist() == [False, True, False]


def test_errors_of_a_code_are_dropped_to_be_computed_again_and_others_stay(ledger, store):
    rows = [row("a"), row("b", error="too_long"), row("c", error="empty")]
    store.write("part-1.parquet", to_table(rows))

    keep = ledger.scan(store, retried=frozenset({"too_long"}))

    assert {name: keep_N.tolist() for name, keep_N in keep.items()} == {"part-1.parquet": [True, False, True]}
    assert dict(ledger.errors) == {"empty": 1}


def test_the_first_errors_of_each_code_are_kept_as_examples(store):
    objects = [AudioObject(path=f"{n}", size=1, etag=f"etag {n}") for n in range(5)]
    plan = plan_prompts([one.path for one in objects])
    rows = [row(f"{n}", plan.prompts[0], error="empty" if n else "too_long") for n in range(5)]
    store.write("part-1.parquet", to_table(rows))
    ledger = Ledger(objects, plan, PROVENANCE)

    ledger.scan(store)

    assert ledger.examples == {
        "too_long": [("0", "0 is bad")],
        "empty": [("1", "1 is bad"), ("2", "2 is bad"), ("3", "3 is bad")],
    }
