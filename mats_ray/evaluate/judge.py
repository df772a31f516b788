"""Requests to a judge and its verdicts, as in AIR-Bench chat: a reference and an answer get a score each.

Every answer is judged twice, with the reference first and last, because judges prefer a place; its score is
the mean of both. Requests are exported, and replies can be imported, so that any judge can be used elsewhere.

    OUT/<benchmark>/judge_requests.jsonl   id, order, messages
    OUT/<benchmark>/verdicts.jsonl         id, order, reply
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from mats_ray.errors import ConfigError, DataError
from mats_ray.evaluate.embedders import EndpointError, open_client
from mats_ray.evaluate.extra import require
from mats_ray.evaluate.log import EvaluationLog, Row
from mats_ray.progress import Progress
from mats_ray.storage import exists, read_bytes, write_bytes

REQUESTS, VERDICTS = "judge_requests.jsonl", "verdicts.jsonl"
Order = Literal["reference_first", "answer_first"]
ORDERS: tuple[Order, Order] = ("reference_first", "answer_first")
NUM_PARALLEL = 8
SAVED_EVERY = 64
"""Number of replies after which they are written: a killed run requests the others only."""
MAX_REPLY_TOKENS = 1_024

PROMPT = """\
Two assistants answered a question about a recording. You cannot hear it; this describes it:
{audio}

Question: {question}

Answer of assistant 1:
{first}

Answer of assistant 2:
{second}

Rate how helpful, relevant, accurate and complete each answer is, from 1 (worst) to 10 (best). Reply with one
line that holds nothing but the two scores, that of assistant 1 first, with a space between them."""

_TWO_SCORES = re.compile(r"^[ \t]*(10|[1-9])[ \t]+(10|[1-9])[ \t]*\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One reply of the judge."""

    id: str
    order: Order
    reply: str

    @property
    def score(self) -> float | None:
        """Score of the answer, 1 to 10; None: no line of the reply holds two scores alone."""
        found = _TWO_SCORES.search(self.reply)
        return None if found is None else float(found[2 if self.order == "reference_first" else 1])


def export_requests(log: EvaluationLog, rows: Sequence[Row]) -> None:
    """Write the requests of all answers as JSON Lines."""
    lines = (json.dumps(request, ensure_ascii=False) for request in _requests(rows))
    write_bytes(log.path(REQUESTS), "".join(f"{line}\n" for line in lines).encode())


def request_verdicts(log: EvaluationLog, rows: Sequence[Row], judge: str) -> None:
    """Send the requests without a reply to an endpoint, and write the replies as they come.

    Args:
        log: Of the benchmark.
        rows: Its rows.
        judge: ``MODEL@URL``.

    Raises:
        ConfigError: ``judge`` is not of this form.
        EndpointError: The endpoint refuses or cannot be reached; replies so far are written.
    """
    model, at, url = judge.partition("@")
    if not at or not model or "://" not in url:
        raise ConfigError(f"judge {judge!r} is not MODEL@URL, for example gpt-4o@https://api.openai.com/v1")
    found = read_verdicts(log.path(VERDICTS)) if exists(log.path(VERDICTS)) else []
    done = {(one.id, one.order) for one in found}
    requests = [one for one in _requests(rows) if (one["id"], one["order"]) not in done]
    client = open_client(url)

    def verdict_of(request: dict[str, Any]) -> Verdict:
        try:
            reply = client.chat.completions.create(
                model=model, messages=request["messages"], temperature=0, max_tokens=MAX_REPLY_TOKENS
            )
        except require("openai").OpenAIError as error:
            raise EndpointError(f"judge {judge}: {error}") from error
        text = reply.choices[0].message.content or ""
        return Verdict(id=request["id"], order=request["order"], reply=text)

    with (
        Progress("judge", total=len(found) + len(requests), unit="reply") as progress,
        ThreadPoolExecutor(NUM_PARALLEL) as pool,
    ):
        progress.start_at(len(found))
        pending = iter(requests)
        while some := list(islice(pending, SAVED_EVERY)):
            found += pool.map(verdict_of, some)
            write_verdicts(log, found)
            progress.update(len(found))


def read_verdicts(path: str) -> list[Verdict]:
    """Read replies of a judge.

    Raises:
        DataError: The file cannot be read, or a line is no verdict.
    """
    verdicts = list[Verdict]()
    for number, line in enumerate(read_bytes(path).decode("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            tree = json.loads(line)
            verdict = Verdict(
                id=str(tree["id"]), order=tree.get("order", ORDERS[0]), reply=str(tree["reply"])
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}, line {number}: no JSON object with id, order and reply") from error
        if verdict.order not in ORDERS:
            raise DataError(f"{path}, line {number}: order {verdict.order!r} is none of {', '.join(ORDERS)}")
        verdicts.append(verdict)
    return verdicts


def write_verdicts(log: EvaluationLog, verdicts: Sequence[Verdict]) -> None:
    """Write all replies."""
    trees = ({"id": one.id, "order": one.order, "reply": one.reply} for one in verdicts)
    lines = (f"{json.dumps(tree, ensure_ascii=False)}\n" for tree in trees)
    write_bytes(log.path(VERDICTS), "".join(lines).encode())


def scores_of(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Average the scores of each sample over its replies; a sample without a readable one is absent."""
    scores = defaultdict[str, list[float]](list)
    for one in {(one.id, one.order): one for one in verdicts}.values():
        if (score := one.score) is not None:
            scores[one.id].append(score)
    return {name: sum(some) / len(some) for name, some in scores.items()}


def _requests(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield two requests for every answer that is not empty."""
    for row in rows:
        if row.status != "ok" or not row.sample.references:
            continue
        reference = row.sample.references[0]
        for order in ORDERS:
            first, second = (reference, row.answer) if order == ORDERS[0] else (row.answer, reference)
            audio = row.sample.categories.get("meta_info", "")
            text = PROMPT.format(audio=audio, question=row.sample.question, first=first, second=second)
            yield {"id": row.sample.id, "order": order, "messages": [{"role": "user", "content": text}]}
