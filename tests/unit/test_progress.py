import io
from contextlib import suppress

import pytest

from mats_ray import progress
from mats_ray.progress import Progress, format_seconds


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until a test moves it: ``now.seconds += 10``."""

    class Now:
        seconds = 1_000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Now.seconds)
    return Now


def test_a_line_has_count_rate_and_remaining_time(now):
    bar = Progress("train", total=600, unit="step", stream=io.StringIO())
    now.seconds += 10
    bar.update(120, note="loss 0.81")

    assert bar.line() == "train 120/600 steps  12 steps/s  0:10  0:40 left  loss 0.81"


def test_work_of_unknown_size_has_no_remaining_time(now):
    bar = Progress("embed", total=None, unit="text", stream=io.StringIO())
    now.seconds += 2
    bar.advance(64)

    assert bar.line() == "embed 64 texts  32 texts/s  0:02"


def test_without_finished_units_there_is_no_remaining_time(now):
    bar = Progress("train", total=600, unit="step", stream=io.StringIO())
    now.seconds += 2

    assert "left" not in bar.line()


def test_work_of_an_earlier_run_does_not_count_towards_the_rate(now):
    bar = Progress("train", total=600, unit="step", stream=io.StringIO())
    bar.start_at(500)
    now.seconds += 10
    bar.advance(10)

    assert bar.line() == "train 510/600 steps  1 steps/s  0:10  1:30 left"


def test_a_note_stays_until_the_next_one(now):
    bar = Progress("train", total=3, unit="step", stream=io.StringIO())
    bar.advance(note="loss 0.81")
    bar.advance()

    assert bar.line().endswith("loss 0.81")


def test_a_log_gets_whole_lines_and_few_of_them(now):
    log = io.StringIO()
    with Progress("train", total=100, unit="step", stream=log) as bar:
        for _ in range(100):
            now.seconds += 0.1
            bar.advance()

    lines = log.getvalue().splitlines(keepends=True)
    assert all(line.endswith("\n") and "\r" not in line for line in lines)
    assert len(lines) == 10 / progress.LOG_INTERVAL_SECONDS + 1
    assert lines[-1].startswith("train 100/100 steps")


def test_a_terminal_line_is_redrawn_in_place_and_ended_once(now):
    terminal = Terminal()
    with Progress("train", total=4, unit="step", stream=terminal) as bar:
        for _ in range(4):
            now.seconds += progress.TERMINAL_INTERVAL_SECONDS
            bar.advance()

    text = terminal.getvalue()
    assert text.count("\r") >= 4
    assert text.count("\n") == 1
    assert text.endswith("\n")


def test_work_at_the_same_time_shares_a_terminals_line(now):
    terminal = Terminal()
    with Progress("one", total=2, unit="step", stream=terminal) as one:
        with Progress("other", total=2, unit="step", stream=terminal):
            now.seconds += 1
            one.advance()
        now.seconds += 1
        one.advance()

    both, ended, alone, last = terminal.getvalue().split("\r\x1b[2K")[1:]
    assert (both.count("one 1/2"), both.count(" | other 0/2")) == (1, 1)
    assert ended.startswith("other 0/2")
    assert ended.endswith("\n")
    assert alone.startswith("one 2/2")
    assert "other" not in alone + last


def test_failed_work_leaves_its_last_count(now):
    log = io.StringIO()

    with suppress(RuntimeError), Progress("train", total=9, unit="step", stream=log) as bar:
        bar.advance(7)
        raise RuntimeError

    assert "train 7/9" in log.getvalue()


def test_progress_goes_to_stderr(capsys):
    with Progress("train", total=1, unit="step") as bar:
        bar.advance()

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "train 1/1 steps" in captured.err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3_599, "59:59"), (3_725, "1:02:05")]
)
def test_a_clock_reads_minutes_or_hours(seconds, text):
    assert format_seconds(seconds) == text


def test_elapsed_seconds_are_counted_from_the_start(now):
    bar = Progress("prepare", total=None, unit="row", stream=io.StringIO())
    now.seconds += 7

    assert bar.elapsed == 7
