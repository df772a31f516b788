"""The ledger: which rows are missing, there, or to be removed, and which of those in flight count."""

import dataclasses
import threading

import numpy as np
import pytest

from mats_ray.caption.ledger import COLUMNS, RETRIED, InFlight, Outcomes, compare
from mats_ray.caption.output import PartStore
from mats_ray.caption.prompts import CAPTION, PromptPlan, PromptRules
from mats_ray.caption.rows import Prompt, Provenance, RowError, Source, error_row, ok_row, to_table
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio_files import AudioObject
from mats_ray.data.audio_listing import to_block
from mats_ray.errors import DataError
from mats_ray.tasks import Task
from mats_ray.types import Answer

PROVENANCE = Provenance(model_id="m@1", generation=GenerationConfig())
FILES = to_block([AudioObject(path=path, size=1, etag=f"etag {path}") for path in ("a", "b", "c")])
PROMPTS = PromptRules(shared=["Dog?", "Rain?"]).of_file()
PLAN = PromptPlan.uniform(PROMPTS, 3)


def row(path, prompt=PROMPTS[0], *, etag=None, provenance=PROVENANCE, text="yes", error=None, **window):
    source = Source(path=path, etag=etag or f"etag {path}", start_s=0.0, end_s=1.0, **window)
    if error:
        return error_row(source, prompt, provenance, RowError(error, f"{path} is bad"))
    return ok_row(source, prompt, provenance, Answer(text=text, num_tokens=1, finish_reason="stop"))


@pytest.fixture
def store(tmp_path):
    return PartStore(str(tmp_path))


def compared(store, *, plan=PLAN, retried=RETRIED):
    found = PartStore(store.out).find(FILES["path"].combine_chunks(), COLUMNS)
    return compare(FILES, plan, PROVENANCE, found, retried=retried)


def done(comparison):
    return comparison.done_K.reshape(3, 2).tolist()


def outcomes(comparison):
    counted = Outcomes()
    for one in comparison.kept:
        counted.add(one.table)
    return counted


def surplus(comparison):
    return {part: row_N.tolist() for part, row_N in comparison.surplus}


def test_nothing_is_done_at_first(store):
    comparison = compared(store)

    assert comparison.done_K.tolist() == [False] * 6
    assert (comparison.stale, comparison.num_stale, surplus(comparison)) == ({}, 0, {})


def test_rows_are_counted_by_outcome(store):
    rows = [
        row("a"),
        row("b", error="empty"),
        row("b", PROMPTS[1], error="empty"),
        row("c", error="too_long"),
    ]
    store.write("part-1.parquet", to_table(rows))

    comparison = compared(store)

    assert done(comparison) == [[True, False], [True, True], [True, False]]
    assert (comparison.stale, surplus(comparison)) == ({}, {})
    counted = outcomes(comparison)
    assert (counted.num_ok, dict(counted.errors), counted.num_rows) == (1, {"empty": 2, "too_long": 1}, 4)
    assert counted.first_error == "b is bad"


@pytest.mark.parametrize(
    "outdated",
    [
        {"etag": "an older content"},
        {"provenance": dataclasses.replace(PROVENANCE, model_id="m@2")},
        {"provenance": Provenance(model_id="m@1", generation=GenerationConfig(profile="fast"))},
        {"error": "read_failed"},
        {"error": "changed"},
    ],
    ids=["content", "model", "decoding", "storage trouble", "changed meanwhile"],
)
def test_what_is_out_of_date_is_to_be_replaced(store, outdated):
    store.write("part-1.parquet", to_table([row("a", **outdated), row("b")]))
    store.write("part-2.parquet", to_table([row("c", **outdated), row("c", **outdated)]))

    comparison = compared(store)

    assert done(comparison) == [[False, False], [True, False], [False, False]]
    assert comparison.stale == {
        ("a", "qa", "Dog?"): ["part-1.parquet"],
        ("c", "qa", "Dog?"): ["part-2.parquet"],
    }
    assert (comparison.num_stale, surplus(comparison)) == (3, {})


def test_a_row_that_is_there_twice_is_surplus_once(store):
    store.write("part-1.parquet", to_table([row("a", text="first")]))
    store.write("part-2.parquet", to_table([row("a", text="second"), row("b")]))

    comparison = compared(store)

    assert surplus(comparison) == {"part-2.parquet": [0]}
    assert outcomes(comparison).num_rows == 2


def test_an_old_row_beside_its_replacement_is_surplus(store):
    store.write("part-1.parquet", to_table([row("a", etag="old"), row("b", error="read_failed")]))
    store.write("part-2.parquet", to_table([row("b"), row("a")]))

    comparison = compared(store)

    assert done(comparison) == [[True, False], [True, False], [False, False]]
    assert surplus(comparison) == {"part-1.parquet": [0, 1]}
    assert comparison.stale == {}


def test_rows_of_other_files_and_prompts_are_left_alone(store):
    foreign = [row("elsewhere"), row("a", Prompt(Task.QA, "Cat?")), row("a", CAPTION, etag="old")]
    store.write("part-1.parquet", to_table(foreign))

    comparison = compared(store)

    assert not comparison.done_K.any()
    assert (comparison.stale, surplus(comparison)) == ({}, {})


def windows(path, count, of=3, prompt=PROMPTS[0], **kind):
    return [row(path, prompt, segment=n, is_last=n == of - 1, **kind) for n in range(count)]


def test_windows_count_together(store):
    a, b = windows("a", 3), windows("b", 2)
    store.write("part-1.parquet", to_table([b[1], a[2], a[0]]))
    store.write("part-2.parquet", to_table([a[1], b[0], row("c", error="empty", segment=1)]))

    comparison = compared(store)

    assert done(comparison) == [[True, False], [False, False], [False, False]]
    kept = {one.part: one.table.select(["path", "segment"]).to_pylist() for one in comparison.kept}
    assert kept == {
        "part-1.parquet": [{"path": "a", "segment": 2}, {"path": "a", "segment": 0}],
        "part-2.parquet": [{"path": "a", "segment": 1}],
    }
    assert comparison.stale == {
        ("b", "qa", "Dog?"): ["part-1.parquet", "part-2.parquet"],
        ("c", "qa", "Dog?"): ["part-2.parquet"],
    }


def test_windows_before_trouble_with_the_storage_are_done_again(store):
    store.write("part-1.parquet", to_table([*windows("a", 2), row("a", segment=2, error="read_failed")]))

    comparison = compared(store)

    assert not comparison.done_K.any()
    assert comparison.num_stale == 3


def test_windows_that_are_there_twice_are_surplus_once(store):
    store.write("part-1.parquet", to_table([*windows("a", 3), *windows("a", 2)]))

    comparison = compared(store)

    assert outcomes(comparison).num_rows == 3
    assert surplus(comparison) == {"part-1.parquet": [3, 4]}


def test_windows_behind_the_last_one_are_surplus(store):
    store.write("part-1.parquet", to_table([*windows("a", 3, of=4), *windows("a", 2, of=2)]))

    comparison = compared(store)

    assert done(comparison)[0] == [False, False]  # the first of each window counts: 0 and 1 of the four


def test_windows_of_another_cut_are_out_of_date(store):
    cut = dataclasses.replace(PROVENANCE, windows="windows of 7 s every 7 s")
    store.write("part-1.parquet", to_table(windows("a", 3, provenance=cut)))

    assert compared(store).num_stale == 3


def test_files_with_different_prompts_are_told_apart(store):
    plan = PromptPlan.of([[PROMPTS[1]], [CAPTION, PROMPTS[0]], [PROMPTS[0]]])
    store.write("part-1.parquet", to_table([row("a"), row("b"), row("c"), row("b", CAPTION)]))

    comparison = compared(store, plan=plan)

    assert comparison.done_K.tolist() == [False, True, True, True]
    assert (comparison.stale, surplus(comparison)) == ({}, {})


def test_errors_of_a_code_are_computed_again_and_others_stay(store):
    store.write("part-1.parquet", to_table([row("a"), row("b", error="too_long"), row("c", error="empty")]))

    comparison = compared(store, retried=frozenset({"too_long"}))

    assert list(comparison.stale) == [("b", "qa", "Dog?")]
    assert dict(outcomes(comparison).errors) == {"empty": 1}


def test_a_large_block_is_compared_as_a_small_one(store):
    """The same answer as by a dictionary, for random rows."""
    draw = np.random.default_rng(0)
    rows = [
        row(
            "abcde"[draw.integers(5)],
            PROMPTS[draw.integers(2)],
            segment=int(draw.integers(3)),
            is_last=bool(draw.integers(2)),
            error=[None, None, "empty", "changed"][draw.integers(4)],
        )
        for _ in range(300)
    ]
    for start in range(0, 300, 20):
        store.write(f"part-{start:03d}.parquet", to_table(rows[start : start + 20]))

        comparison = compared(store)

        expected = {key: windows_of(key, rows[: start + 20]) for key in pairs()}
        assert comparison.done_K.tolist() == [found is not None for found in expected.values()]
        assert outcomes(comparison).num_rows == sum(found or 0 for found in expected.values())


def pairs():
    return [(path, prompt.instruction) for path in "abc" for prompt in PROMPTS]


def windows_of(key, rows):
    """Number of windows of a complete pair, else None."""
    last = dict[int, bool]()
    for one in rows:
        if (one["path"], one["prompt"]) == key and one.get("error_code") != "changed":
            last.setdefault(one["segment"], one["is_last_segment"])
    end = min((segment for segment, is_last in last.items() if is_last), default=None)
    return end + 1 if end is not None and all(n in last for n in range(end)) else None


def test_the_first_errors_of_each_code_are_kept_as_examples():
    counted, more = Outcomes(), Outcomes()
    counted.add(to_table([row(f"{n}", error="empty" if n else "too_long") for n in range(5)]))
    more.add(to_table([row("5", error="empty"), row("6", error="not_audio"), row("7")]))

    assert counted.examples == {
        "too_long": [("0", "0 is bad")],
        "empty": [("1", "1 is bad"), ("2", "2 is bad"), ("3", "3 is bad")],
    }
    both = counted.plus(more)
    assert (both.num_ok, dict(both.errors)) == (1, {"too_long": 1, "empty": 5, "not_audio": 1})
    assert both.examples == counted.examples | {"not_audio": [("6", "6 is bad")]}
    assert list(both.first_failures) == ["0", "1", "2", "3", "4"]


def test_every_row_in_flight_is_taken_once():
    flying = InFlight()
    flying.add("a", PROMPTS, batch=0)
    flying.add("b", PROMPTS[:1], batch=1)

    first = flying.accept(to_table([*windows("a", 2), row("z"), row("b", PROMPTS[1])]))
    assert first.rows["segment"].to_pylist() == [0, 1]
    assert first.started == [("a", "qa", "Dog?")]
    again = flying.accept(to_table([*windows("a", 3), row("a", PROMPTS[1])]))
    assert again.rows["segment"].to_pylist() == [2, 0]
    assert (again.files, dict(again.batches)) == (["a"], {0: 2})
    with pytest.raises(DataError, match=r"^out: rows of 1 files are missing, the first of b; run the job"):
        flying.check_empty("out")
    last = flying.accept(to_table([row("b", error="empty"), row("b"), row("a")]))
    assert (len(last.rows), last.files, dict(last.batches)) == (1, ["b"], {1: 1})
    flying.check_empty("out")


@pytest.mark.parametrize("how", ["its rows arrive", "the job fails"])
def test_a_file_is_in_flight_once_at_a_time(how):
    flying, waited = InFlight(), threading.Event()
    flying.add("a", PROMPTS[:1], batch=0)
    thread = threading.Thread(target=lambda: (flying.wait_for("b"), flying.wait_for("a"), waited.set()))
    thread.start()

    assert not waited.is_set()
    if how == "the job fails":
        flying.clear()
    else:
        flying.accept(to_table([row("a")]))
    assert waited.wait(timeout=60)
    thread.join()
