"""A judge sees every answer twice, its replies are kept, and what is no score is counted."""

import json
from pathlib import Path

import pytest

from mats_ray.errors import ConfigError, DataError
from mats_ray.evaluate.benchmark import Sample
from mats_ray.evaluate.embedders import EndpointError
from mats_ray.evaluate.judge import (
    Verdict,
    export_requests,
    read_verdicts,
    request_verdicts,
    scores_of,
)
from mats_ray.evaluate.log import EvaluationLog, Row
from tests.openai_server import chat, openai_server


def row(name, answer, status="ok"):
    sample = Sample(
        id=name,
        audio=(f"{name}.wav",),
        references=("A dog barks.",),
        question="What is heard?",
        categories={"meta_info": "a dog, twice"},
    )
    return Row(sample=sample, prompt="", status=status, answer=answer)


ROWS = [row("1", "A dog."), row("2", "", "empty"), row("3", "A {cat}.")]


@pytest.fixture
def log(tmp_path):
    return EvaluationLog(str(tmp_path))


def lines(log, name):
    return [json.loads(line) for line in Path(log.path(name)).read_text("utf-8").splitlines()]


def test_each_answer_that_is_not_empty_is_exported_in_both_orders(log):
    export_requests(log, ROWS)

    requests = lines(log, "judge_requests.jsonl")
    assert [(one["id"], one["order"]) for one in requests] == [
        ("1", "reference_first"),
        ("1", "answer_first"),
        ("3", "reference_first"),
        ("3", "answer_first"),
    ]
    first, second = (one["messages"][0]["content"] for one in requests[2:])
    assert first.index("A dog barks.") < first.index("A {cat}.")
    assert second.index("A {cat}.") < second.index("A dog barks.")
    assert "What is heard?" in first
    assert "a dog, twice" in first


@pytest.mark.parametrize(
    ("reply", "order", "score"),
    [
        ("8 5", "reference_first", 5),
        ("8 5", "answer_first", 8),
        ("\n 10 1 \nAssistant 1 is better.", "reference_first", 1),
        ("8 5\r\n", "reference_first", 5),
        ("Assistant 1 gets 8 and assistant 2 gets 5.", "reference_first", None),
        ("8\n5", "reference_first", None),
        ("0 5", "reference_first", None),
        ("11 5", "reference_first", None),
        ("8 5 3", "reference_first", None),
        ("", "reference_first", None),
    ],
)
def test_a_score_is_read_from_a_line_of_two_numbers_alone(reply, order, score):
    assert Verdict(id="1", order=order, reply=reply).score == score


def test_the_score_of_an_answer_is_the_mean_of_both_orders_and_prose_is_left_out():
    verdicts = [
        Verdict(id="1", order="reference_first", reply="9 6"),
        Verdict(id="1", order="answer_first", reply="7 9"),
        Verdict(id="2", order="reference_first", reply="I cannot say."),
        Verdict(id="3", order="reference_first", reply="9 2"),
        Verdict(id="3", order="answer_first", reply="well"),
    ]

    assert scores_of(verdicts) == {"1": 6.5, "3": 2.0}


def test_an_endpoint_judges_what_has_no_reply_yet(log):
    with openai_server(lambda body: chat("9 4")) as server:
        request_verdicts(log, ROWS, f"judge@{server.url}")
        num_first = len(server.requests)
        request_verdicts(log, [*ROWS, row("4", "Rain.")], f"judge@{server.url}")

    assert (num_first, len(server.requests)) == (4, 6)
    assert server.requests[0]["model"] == "judge"
    assert len(read_verdicts(log.path("verdicts.jsonl"))) == 6
    assert scores_of(read_verdicts(log.path("verdicts.jsonl"))) == {"1": 6.5, "3": 6.5, "4": 6.5}


def test_an_endpoint_that_refuses_is_one_clear_error(log):
    with (
        openai_server(lambda body: 401) as server,
        pytest.raises(EndpointError, match=r"judge judge@http.*401"),
    ):
        request_verdicts(log, ROWS, f"judge@{server.url}")


def test_a_judge_needs_a_model_and_an_address(log):
    with pytest.raises(ConfigError, match="judge 'gpt' is not MODEL@URL"):
        request_verdicts(log, ROWS, "gpt")


@pytest.mark.parametrize(
    "line", ['{"id": "1"}', "prose", "[1]", '{"id": "1", "reply": "9 9", "order": "sideways"}']
)
def test_a_line_that_is_no_verdict_is_refused_with_its_number(tmp_path, line):
    path = tmp_path / "verdicts.jsonl"
    path.write_text(f'{{"id": "0", "reply": "9 9"}}\n\n{line}\n')

    with pytest.raises(DataError, match=r"verdicts\.jsonl, line 3: "):
        read_verdicts(str(path))
