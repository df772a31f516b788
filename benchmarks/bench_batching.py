"""Continuous batching against whole batches and one at a time, without HTTP.

    python benchmarks/bench_batching.py --model out/demo/model

Sixteen askers that ask again as soon as they are answered. Lengths are mixed: every fourth answer is drawn
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
from mats_ray.infer.conversation import Conversation, Question
from mats_ray.infer.engine import AnswerEngine
from mats_ray.infer.pipeline import Answerer

ASKERS, PLACES = 16, 16
Ask = Callable[[Question, Callable[[object], None]], None]


def questions(dim: int, number: int) -> list[Question]:
    chance = np.random.default_rng(0)
    return [
        Question(
            embedding_C=chance.normal(size=dim).astype(np.float32),
            instruction=("Is there a dog?", "What can be heard?", "Which sound comes first?")[n % 3],
            options=AnswerOptions(temperature=2, seed=n, max_new_tokens=40)
            if n % 4 == 3
            else AnswerOptions(profile="fast"),
            in_pieces=False,
        )
        for n in range(number)
    ]


class WholeBatches:
    """One thread; a batch begins when the last one is done."""

    def __init__(self, answerer: Answerer, places: int) -> None:
        self._answerer, self._places = answerer, places
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, question: Question, listener: Callable[[object], None]) -> None:
        self._waiting.put((question, listener))

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._places and not self._waiting.empty():
                batch.append(self._waiting.get())
            conversation, answers = Conversation(self._answerer), {}
            pieces = conversation.begin([question for question, _ in batch])
            while True:
                answers |= {question: piece.answer for question, piece in pieces if piece.answer}
                if not len(conversation):
                    break
                pieces = conversation.go_on()
            for question, listener in batch:
                listener(answers[question])


def measure(name: str, ask: Ask, asked: list[Question]) -> tuple[float, list[str]]:
    """Keep sixteen questions under way; returns the rate and the answers in order."""
    done: queue.SimpleQueue = queue.SimpleQueue()
    began, times, texts = {}, {}, {}

    def send(number: int) -> None:
        began[number] = time.perf_counter()
        ask(asked[number], lambda said: None if isinstance(said, str) else done.put((number, said)))

    started, cpu = time.perf_counter(), time.process_time()
    for number in range(min(ASKERS, len(asked))):
        send(number)
    for sent in range(ASKERS, len(asked) + ASKERS):
        number, said = done.get(timeout=120)
        times[number] = time.perf_counter() - began[number]
        texts[number] = getattr(said, "answer", said).text
        if sent < len(asked):
            send(sent)
    # of CPU time, because others may share the machine
    rate = len(asked) / (time.process_time() - cpu)
    wall = len(asked) / (time.perf_counter() - started)
    short = np.array([times[n] for n in times if n % 4 != 3]) * 1e3
    print(
        f"| {name} | {rate:.1f} per CPU second, {wall:.1f}/s | short answers "
        f"p50 {np.percentile(short, 50):.0f} ms, "
        f"p99 {np.percentile(short, 99):.0f} ms |",
        flush=True,
    )
    return rate, [texts[n] for n in range(len(asked))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--number", type=int, default=160)
    args = parser.parse_args()
    torch.set_num_threads(1)
    answerer = Answerer.from_pretrained(args.model)
    asked = questions(answerer.memory.dim if answerer.memory else 512, args.number)
    print("| | answers | |\n|---|---|---|")
    one = measure("one at a time", WholeBatches(answerer, 1).ask, asked[: args.number // 4])
    whole = measure("whole batches", WholeBatches(answerer, PLACES).ask, asked)
    engine = AnswerEngine(answerer, max_answers=PLACES)
    continuous = measure("continuous", engine.ask, asked)
    engine.close()
    print(f"| continuous / one at a time | {continuous[0] / one[0]:.2f} x | |")
    print(f"| continuous / whole batches | {continuous[0] / whole[0]:.2f} x | |")
    equal = whole[1] == continuous[1] and one[1] == continuous[1][: len(one[1])]
    print(f"| answers equal | {equal} | |")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
