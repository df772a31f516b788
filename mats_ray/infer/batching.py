"""Our engine: the language model on a thread of this process, requests joining and leaving its batch.

Requests wait in a queue until a place in the batch is free, never for the batch to end. A failure that comes
from one request (its prompt, its text, its listener) ends that one alone. If a step produces nothing but
failures, the model itself is tried; where that fails, too, or an error belongs to no request, the engine
stops for good: every open request gets an error, later ones are refused.

Shapes: N new requests, C CLAP dim.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby

import numpy as np
import torch

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.errors import EngineError, ModelError, free_frames
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.detokenizer import IncrementalDetokenizer
from mats_ray.infer.engine import (
    EngineLoad,
    Generation,
    GenerationEngine,
    GenerationEvent,
    GenerationRequest,
    Listener,
    TextDelta,
)
from mats_ray.models.generation.batch import ContinuousBatch
from mats_ray.models.generation.search import Penalties, SearchSettings, TokenSequence
from mats_ray.models.splice import pad_left

_log = logging.getLogger(__name__)

_IDLE_SECONDS = 5.0
"""Seconds that an idle engine keeps its thread; without one it is freed with its last reference."""

Outcome = TextDelta | Exception
"""Result of a step for a request: more text, or the error that ended it."""


@dataclass(frozen=True, slots=True)
class _Running:
    sequence: TokenSequence
    detokenizer: IncrementalDetokenizer

    def outcome(self) -> Outcome | None:
        """Return the result of the last step."""
        if self.sequence.error is not None:
            return self.sequence.error
        try:
            if self.sequence.is_finished:
                return self.detokenizer.finish(self.sequence.ids, ended=self.sequence.ended)
            return self.detokenizer.push(self.sequence.ids) if self.sequence.stream else None
        except Exception as error:  # noqa: BLE001  ids that cannot be detokenized fail their answer only
            return error


class RunningBatch:
    """The requests that are being answered; a failure that comes from one of them ends that one alone.

    Answers equal ``Answerer.answer``'s, token for token in float32, in any batch.

    Example::

        batch, request = RunningBatch(answerer), GenerationRequest(embedding_C=..., instruction="A dog?")
        batch.add([request], [check_request(answerer, request)])
        while batch.request_ids:
            for request_id, outcome in batch.step(): ...
    """

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._batch = ContinuousBatch(answerer.model.llm, eos_id=answerer.prompts.eos_id)
        self._running: dict[str, _Running] = {}

    @property
    def request_ids(self) -> Sequence[str]:
        """Ids of the requests whose answers are not complete."""
        return list(self._running)

    def __len__(self) -> int:
        """Number of requests in the batch; safe to call from another thread."""
        return len(self._running)

    @torch.inference_mode()
    def add(
        self, requests: Sequence[GenerationRequest], after_ids: Sequence[Sequence[int]]
    ) -> list[tuple[str, Outcome]]:
        """Read new prompts together; returns the outcomes of this pass.

        Args:
            requests: The requests.
            after_ids: Ids of each prompt's second half, as ``check_request`` returns them.

        Raises:
            ConfigError: Santa is requested from a model without a memory. After this or any other exception
                none of the requests has joined, and the caller may try fewer of them.
        """
        answerer, new = self._answerer, dict[str, _Running]()
        for request in requests:
            generation = request.options.over(answerer.generation)
            needs_text = request.stream or bool(request.options.stop)
            sequence = TokenSequence(_search_settings(request.options, generation), stream=needs_text)
            detokenizer = IncrementalDetokenizer(answerer.prompts.decode, stop=request.options.stop)
            new[request.id] = _Running(sequence, detokenizer)
        self._start(self._moved(requests), after_ids, [one.sequence for one in new.values()])
        self._running |= new
        return list(self._outcomes())

    def _start(
        self, clap_NC: torch.Tensor, after_ids: Sequence[Sequence[int]], sequences: Sequence[TokenSequence]
    ) -> None:
        """Read prompts together; a model whose cache is not supported answers one after the other, whole."""
        model = self._answerer.model
        if model.can_step:
            self._batch.add(pad_left(model.prompt(clap_NC, after_ids)), sequences)
            return
        for row, sequence in enumerate(sequences):
            settings = sequence.settings
            if settings.temperature:
                raise ModelError("a language model with recurrent layers does not sample; use temperature 0")
            (found,) = model.answer(
                clap_NC[row : row + 1],
                after_ids[row : row + 1],
                max_new_tokens=settings.max_new_tokens,
                num_beams=settings.num_beams,
                **asdict(settings.penalties),
            )
            sequence.ids, sequence.ended, sequence.is_finished = found.ids, found.ended, True

    @torch.inference_mode()
    def step(self) -> list[tuple[str, Outcome]]:
        """Compute one more token of every answer; returns new text and failures."""
        self._batch.step()
        return list(self._outcomes())

    def remove(self, request_id: str) -> None:
        """Drop a request; its rows leave with the next step."""
        self._batch.drop(self._running.pop(request_id).sequence)

    def _outcomes(self) -> Iterator[tuple[str, Outcome]]:
        for request_id, one in list(self._running.items()):
            outcome = one.outcome()
            if isinstance(outcome, Exception) or (outcome is not None and outcome.answer is not None):
                self.remove(request_id)
            if outcome is not None:
                yield request_id, outcome

    def _moved(self, requests: Sequence[GenerationRequest]) -> torch.Tensor:
        """Return embeddings (N, C) after Santa, computed together where the settings are equal."""
        groups = groupby(requests, key=lambda request: request.options.santa)
        return torch.cat(
            [
                self._answerer.move(np.stack([one.embedding_C for one in group]), santa=santa)
                for santa, group in groups
            ]
        )


def _search_settings(options: AnswerOptions, generation: GenerationConfig) -> SearchSettings:
    profile = PROFILES[generation.profile]
    return SearchSettings(
        max_new_tokens=generation.max_new_tokens,
        num_beams=profile.num_beams,
        penalties=Penalties(
            repetition_penalty=profile.repetition_penalty, no_repeat_ngram_size=profile.no_repeat_ngram_size
        ),
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )


def check_request(answerer: Answerer, request: GenerationRequest) -> list[int]:
    """Check that a request can be answered; returns the ids of its prompt's second half.

    Raises:
        AnswerError: See ``Answerer.check``.
    """
    generation = request.options.over(answerer.generation)
    return answerer.check(request.embedding_C, request.instruction, generation)


def check_model(answerer: Answerer) -> None:
    """Compute one token for an arbitrary prompt; raises the model's exceptions."""
    options = AnswerOptions(profile="fast", max_new_tokens=1, santa=False)
    embedding_C = np.ones(answerer.model.connector.clap_dim, np.float32)
    request = GenerationRequest(embedding_C=embedding_C, instruction="", options=options)
    for _, outcome in RunningBatch(answerer).add([request], [check_request(answerer, request)]):
        if isinstance(outcome, Exception):
            raise outcome


@dataclass(slots=True)
class _Entry:
    request: GenerationRequest
    after_ids: list[int]
    listener: Listener
    submitted: float
    queue_seconds: float = 0.0
    is_running: bool = False


class BatchingEngine(GenerationEngine):
    """Continuous batching behind a queue, see ``GenerationEngine``.

    Args:
        answerer: The model.
        max_requests: Number of requests in the batch at once; a beam search counts as one.
        steps_between_joins: Reading prompts is a pass of its own, during which running answers wait: requests
            that arrive within this number of steps are read together.
    """

    def __init__(self, answerer: Answerer, *, max_requests: int, steps_between_joins: int = 4) -> None:
        self._answerer, self._max_requests = answerer, max_requests
        self._steps_between_joins, self._steps_since_join = steps_between_joins, 0
        self._batch = RunningBatch(answerer)
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._entries: dict[str, _Entry] = {}
        self._closed = False
        self._stop_reason = "the answering engine has stopped"
        self._thread: threading.Thread | None = None

    def load(self) -> EngineLoad:
        """Return the numbers of open requests."""
        return EngineLoad(running=len(self._batch), waiting=len(self._waiting))

    def submit(self, request: GenerationRequest, on_event: Listener) -> None:
        """Queue a request.

        Raises:
            AnswerError: It cannot be answered, see ``Answerer.check``.
            EngineError: The engine has stopped.
            ValueError: A request with its id is open.
        """
        after_ids = check_request(self._answerer, request)
        with self._changed:
            self._check_open()
            if request.id in self._entries:
                raise ValueError(f"request {request.id} is already open")
            self._entries[request.id] = _Entry(request, after_ids, on_event, time.monotonic())
            self._waiting.append(request.id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="generation-engine", daemon=True)
                self._thread.start()
            self._changed.notify()

    def submit_many(self, requests: Sequence[tuple[GenerationRequest, Listener]]) -> None:
        """Queue requests that are read together, see ``GenerationEngine.submit_many``."""
        with self._changed:
            super().submit_many(requests)

    def cancel(self, request_id: str) -> None:
        """Give up a request; without effect on one that is complete or unknown."""
        with self._changed:
            self._entries.pop(request_id, None)
            self._changed.notify()

    def check_health(self) -> None:
        """Return if the engine can generate.

        Raises:
            EngineError: It has stopped.
        """
        with self._changed:
            self._check_open()

    def close(self) -> None:
        """End the thread; open requests end with an ``EngineError``."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(self._stop_reason)

    def _run(self) -> None:
        """Work until idle or closed; however the thread ends, every open request gets an event."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  the thread has no caller to raise to
            _log.critical("the engine has stopped", exc_info=error)
            self._stop_reason += f": {type(error).__name__}"
            self._closed = True
        if self._closed:
            self._stop()

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            entries, self._entries = self._entries, {}
            self._waiting.clear()
        for entry in entries.values():
            with suppress(BaseException):  # it may be a listener that has ended the thread
                entry.listener(EngineError(self._stop_reason, in_flight=entry.is_running))

    def _work(self) -> None:
        while (admitted := self._admit()) is not None:
            if admitted:
                self._deliver(self._add(admitted))
            self._deliver(self._batch.step())

    def _admit(self) -> list[_Entry] | None:
        """Wait for work; returns the requests that may join the batch, None when there is no more to do."""
        with self._changed:
            while not (self._closed or self._waiting or len(self._batch)):
                if not self._changed.wait(_IDLE_SECONDS):
                    self._thread = None  # the next request starts another
                    return None
            if self._closed:
                return None
            for request_id in self._batch.request_ids:
                if request_id not in self._entries:
                    self._batch.remove(request_id)
            self._steps_since_join += 1
            if len(self._batch) and self._steps_since_join < self._steps_between_joins:
                return []
            return self._next()

    def _next(self) -> list[_Entry]:
        """Dequeue requests that are not cancelled while the batch has places."""
        admitted: list[_Entry] = []
        places = self._max_requests - len(self._batch)
        while self._waiting and len(admitted) < places:
            entry = self._entries.get(self._waiting.popleft())
            if entry is not None:
                entry.queue_seconds, entry.is_running = time.monotonic() - entry.submitted, True
                admitted.append(entry)
        if admitted:
            self._steps_since_join = 0
        return admitted

    def _add(self, entries: Sequence[_Entry]) -> list[tuple[str, Outcome]]:
        """Add requests together; if that fails, in halves, so that only those at fault fail."""
        try:
            return self._batch.add([one.request for one in entries], [one.after_ids for one in entries])
        except Exception as error:  # noqa: BLE001  it may come from one of them
            if len(entries) == 1:
                return [(entries[0].request.id, free_frames(error))]
        middle = len(entries) // 2
        return self._add(entries[:middle]) + self._add(entries[middle:])

    def _deliver(self, outcomes: Sequence[tuple[str, Outcome]]) -> None:
        """Call the listeners; if there are only errors, find out whether the model is the cause."""
        completed = sum(
            not isinstance(outcome, Exception) and outcome.answer is not None for _, outcome in outcomes
        )
        batch_size = len(self._batch) + completed
        for request_id, outcome in outcomes:
            entry = self._entries.get(request_id)
            if entry is None:  # cancelled
                continue
            events = self._events(entry, outcome, batch_size)
            is_last = bool(events) and not isinstance(events[-1], TextDelta)
            if not all(_deliver_to(entry.listener, event) for event in events) or is_last:
                self.cancel(request_id)
        if outcomes and all(isinstance(outcome, Exception) for _, outcome in outcomes):
            check_model(self._answerer)

    def _events(self, entry: _Entry, outcome: Outcome, batch_size: int) -> list[GenerationEvent]:
        if isinstance(outcome, Exception):
            return [outcome]
        is_delta = entry.request.stream and outcome.text
        events: list[GenerationEvent] = [TextDelta(text=outcome.text)] if is_delta else []
        if outcome.answer is not None:
            events.append(
                Generation(
                    answer=outcome.answer,
                    prompt_tokens=self._answerer.count_prompt(entry.after_ids),
                    queue_seconds=entry.queue_seconds,
                    batch_size=batch_size,
                )
            )
        return events


def _deliver_to(listener: Listener, event: GenerationEvent) -> bool:
    """Call a listener; one that raises ends its own answer, no other."""
    try:
        listener(event)
    except Exception:  # noqa: BLE001  listeners may raise anything
        _log.exception("a listener failed; its answer is given up")
        return False
    return True
