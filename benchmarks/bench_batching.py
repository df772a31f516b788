"""Continuous batching against whole batches and one at a time, without HTTP.

    python benchmarks/bench_batching.py --model out/demo/model

Sixteen clients, each with one request open. Lengths are mixed: every fourth answer is drawn
at a high temperature and rambles for up to 40 tokens, the others end by themselves after a few. Whole batches
are what ``@serve.batch`` computes: all that waits, up to sixteen, until its longest answer is done.
"""

import argparse
import queue
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import torch

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import BatchingEngine, RunningBatch, check_request
from mats_ray.infer.engine import GenerationRequest, TextDelta

CLIENTS, PLACES = 16, 16
Listener = Callable[[object], None]
Submit = Callable[[GenerationRequest, Listener], None]


def requests_of(dim: int, number: int) -> list[GenerationRequest]:
    chance = np.random.default_rng(0)
    return [
        GenerationRequest(
            embedding_C=chance.normal(size=dim).astype(np.float32),
            instruction=("Is there a dog?", "What can be heard?", "Which sound comes first?")[n % 3],
            options=AnswerOptions(temperature=2, seed=n, max_new_tokens=40)
            if n % 4 == 3
            else AnswerOptions(profile="fast"),
            stream=False,
        )
        for n in range(number)
    ]


class WholeBatches:
    """One thread; a batch starts when the last one is done."""

    def __init__(self, answerer: Answerer, places: int) -> None:
        self._answerer, self._places = answerer, places
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        self._waiting.put((request, listener))

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._places and not self._waiting.empty():
                batch.append(self._waiting.get())
            running, answers = RunningBatch(self._answerer), {}
            requests = [request for request, _ in batch]
            outcomes = running.add(requests, [check_request(self._answerer, one) for one in requests])
            while True:
                answers |= {request_id: delta.answer for request_id, delta in outcomes if delta.answer}
                if not len(running):
                    break
                outcomes = running.step()
            for request, listener in batch:
                listener(answers[request.id])


def measure(name: str, submit: Submit, requests: list[GenerationRequest]) -> tuple[float, list[str]]:
    """Keep sixteen requests open; returns the rate and the answers in order."""
    done: queue.SimpleQueue = queue.SimpleQueue()
    started_at, times, texts = {}, {}, {}

    def send(number: int) -> None:
        started_at[number] = time.perf_counter()
        submit(
            requests[number],
            lambda event: None if isinstance(event, TextDelta) else done.put((number, event)),
        )

    started, cpu = time.perf_counter(), time.process_time()
    for number in range(min(CLIENTS, len(requests))):
        send(number)
    for sent in range(CLIENTS, len(requests) + CLIENTS):
        number, event = done.get(timeout=120)
        times[number] = time.perf_counter() - started_at[number]
        texts[number] = getattr(event, "answer", event).text
        if sent < len(requests):
            send(sent)
    # of CPU time, because others may share the machine
    rate = len(requests) / (time.process_time() - cpu)
    wall = len(requests) / (time.perf_counter() - started)
    short = np.array([times[n] for n in times if n % 4 != 3]) * 1e3
    print(
        f"| {name} | {rate:.1f} per CPU second, {wall:.1f}/s | short answers "
        f"p50 {np.percentile(short, 50):.0f} ms, "
        f"p99 {np.percentile(short, 99):.0f} ms |",
        flush=True,
    )
    return rate, [texts[n] for n in range(len(requests))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--number", type=int, default=160)
    args = parser.parse_args()
    torch.set_num_threads(1)
    answerer = Answerer.from_pretrained(args.model)
    requests = requests_of(answerer.bridge.dim or 512, args.number)
    print("| | answers | |\n|---|---|---|")
    one = measure("one at a time", WholeBatches(answerer, 1).submit, requests[: args.number // 4])
    whole = measure("whole batches", WholeBatches(answerer, PLACES).submit, requests)
    engine = BatchingEngine(answerer, max_requests=PLACES)
    continuous = measure("continuous", engine.submit, requests)
    engine.close()
    print(f"| continuous / one at a time | {continuous[0] / one[0]:.2f} x | |")
    print(f"| continuous / whole batches | {continuous[0] / whole[0]:.2f} x | |")
    equal = whole[1] == continuous[1] and one[1] == continuous[1][: len(one[1])]
    print(f"| answers equal | {equal} | |")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
