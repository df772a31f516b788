"""The service: upload and question -> decode -> windows -> encode -> answer -> response. No Ray, no HTTP.

The two halves of the model stand behind protocols: they may live in other processes, or be fakes.
"""

import asyncio
import io
import time
import wave
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import ServeConfig
from mats_ray.infer.classification import Match, match
from mats_ray.serving.budgets import Budget, Share
from mats_ray.serving.concurrency import gather, running
from mats_ray.serving.consistency import RolloutRetry, check_one_model, check_one_space
from mats_ray.serving.limits import check_labels, check_request
from mats_ray.serving.metrics import Metrics
from mats_ray.serving.tracing import Tracing
from mats_ray.serving.types import (
    AnswerDelta,
    AnswererClient,
    AnswerEvents,
    AnswerRequest,
    AnswerResponse,
    AnswerResult,
    AudioDecoder,
    ClipWindow,
    Embedding,
    EncoderClient,
    ModelCard,
    Upload,
)
from mats_ray.serving.windows import cut_windows, join_answers
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import AudioClip

MAX_CONCURRENT_WINDOWS = 8
"""Windows of one request in flight: a request of sixty leaves room in the batches for others."""

_SLOW_ENCODE_SECONDS = 1.0
"""The answerer is called after so long without a result of any request, in case it was scaled to zero."""


class AudioService:
    """Answers requests; batching is left to the encoder and the answerer.

    Work is counted as seconds of audio until they are embedded, and as windows until they are answered. A
    request for which there is no room at the moment is refused before its work starts.

    Args:
        encoder: First half of the model.
        answerer: Second half.
        decoder: Decodes uploads.
        limits: Limits of single requests, and of all requests in flight.

    Attributes:
        metrics: Records measurements; the app replaces it.
        tracing: Opens a span around each stage; the app replaces it.
    """

    def __init__(
        self,
        encoder: EncoderClient,
        answerer: AnswererClient,
        *,
        decoder: AudioDecoder,
        limits: ServeConfig | None = None,
    ) -> None:
        self.encoder, self.answerer, self.decoder = encoder, answerer, decoder
        self.metrics, self.tracing = Metrics(), Tracing()
        self._limits = limits = limits or ServeConfig()
        self._seconds = Budget(limits.max_seconds_in_flight, "seconds of audio")
        self._windows = Budget(limits.max_windows_in_flight, "windows")
        self._rollout = RolloutRetry(limits.retry_seconds)
        self._card: ModelCard | None = None
        self._last_result = 0.0

    @property
    def card(self) -> ModelCard | None:
        """The model that answered last."""
        return self._card

    async def answer(self, request: AnswerRequest) -> AnswerResponse:
        """Answer a request.

        Raises:
            AudioError: The upload cannot be used.
            RequestError: The question cannot be used, or the model cannot be reached or is overloaded.
        """
        check_request(request, self._limits)
        clip, windows = await self._read(request.upload, request.window_seconds)
        with self._reserve(windows) as work:
            async with self._starting_answerer():
                results = await self._rollout.run(lambda: self._answer_windows(request, windows, work))
        return self._response(request, clip, list(zip(windows, results, strict=True)))

    async def stream(self, request: AnswerRequest) -> AsyncGenerator[AnswerDelta | AnswerResponse, None]:
        """Yield the answer in deltas, then the response.

        Windows are answered concurrently; each is a delta, in their order.

        Raises:
            AudioError, RequestError: As for ``answer``.
        """
        check_request(request, self._limits)
        clip, windows = await self._read(request.upload, request.window_seconds)
        results: list[AnswerResult] = []
        with self._reserve(windows) as work:
            if request.window_seconds is None:
                events = self._stream_clip(request, windows[0], work)
            else:
                events = self._stream_windows(request, windows, work)
            async with self._starting_answerer(), aclosing(events):
                async for event in events:
                    if isinstance(event, AnswerResult):
                        results.append(event)
                    else:
                        yield event
        yield self._response(request, clip, list(zip(windows, results, strict=True)))

    async def _stream_clip(self, request: AnswerRequest, window: ClipWindow, work: "_Work") -> AnswerEvents:
        async def start() -> tuple[AnswerDelta | AnswerResult, AnswerEvents]:
            events = self._stream_answer(request, await self._encode_window(window, work))
            return await anext(events), events

        first, events = await self._rollout.run(start)
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    async def _stream_windows(
        self, request: AnswerRequest, windows: Sequence[ClipWindow], work: "_Work"
    ) -> AnswerEvents:
        calls = [
            lambda window=window: self._rollout.run(lambda: self._answer_window(request, window, work))
            for window in windows
        ]
        async with running(calls, limit=MAX_CONCURRENT_WINDOWS) as tasks:
            for number, (window, task) in enumerate(zip(windows, tasks, strict=True)):
                result = await task
                check_one_model([result, tasks[0].result()])
                text = f"{window.times} {result.answer.text}"
                yield AnswerDelta(f"\n{text}" if number else text, result.model)
                yield result

    async def _answer_windows(
        self, request: AnswerRequest, windows: Sequence[ClipWindow], work: "_Work"
    ) -> list[AnswerResult]:
        calls = [lambda window=window: self._answer_window(request, window, work) for window in windows]
        results = await gather(calls, limit=MAX_CONCURRENT_WINDOWS)
        check_one_model(results)
        return results

    async def _answer_window(self, request: AnswerRequest, window: ClipWindow, work: "_Work") -> AnswerResult:
        started = time.perf_counter()
        result = await self._answer(request, await self._encode_window(window, work))
        work.windows.release(1)
        self._record(result, seconds=time.perf_counter() - started)
        return result

    async def _answer(self, request: AnswerRequest, embedding: Embedding) -> AnswerResult:
        with self.tracing.stage("answer", {}) as span:
            result = await self.answerer.answer(embedding, _instruction(request), request.options)
            span.set(_attributes(result))
            return result

    async def _stream_answer(self, request: AnswerRequest, embedding: Embedding) -> AnswerEvents:
        is_first = True
        with self.tracing.stage("answer", {"mats.stream": True}) as span:
            events = self.answerer.stream(embedding, _instruction(request), request.options)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, AnswerResult):
                        span.set(_attributes(event))
                        self._record(event)
                    elif is_first:
                        is_first = False
                        span.add_event("first piece")
                    yield event

    async def _encode_window(self, window: ClipWindow, work: "_Work") -> Embedding:
        embedding = await self._encode(window.clip)
        work.seconds.release(window.clip.seconds)
        return embedding

    async def _encode(self, clip: AudioClip) -> Embedding:
        with self.tracing.stage("encode", {"mats.audio_seconds": clip.seconds}):
            return await self.encoder.encode(clip)

    async def _encode_labels(self, labels: Sequence[str]) -> Embedding:
        with self.tracing.stage("encode_labels", {"mats.labels": len(labels)}):
            return await self.encoder.encode_labels(labels)

    async def _decode(self, upload: Upload) -> AudioClip:
        with self.tracing.stage("decode", {"mats.bytes": len(upload.data)}) as span:
            clip = await self.decoder.decode(upload.data, name=upload.name)
            span.set({"mats.audio_seconds": clip.seconds, "mats.sample_rate": clip.sample_rate})
            return clip

    async def _read(self, upload: Upload, window_seconds: float | None) -> tuple[AudioClip, list[ClipWindow]]:
        """Decode an upload and cut it into windows."""
        started = time.perf_counter()
        clip = await self._decode(upload)
        self.metrics.record("mats_decode_seconds", time.perf_counter() - started)
        self.metrics.record("mats_audio_seconds_total", clip.seconds)
        return clip, cut_windows(clip, window_seconds, max_windows=self._limits.max_windows)

    @asynccontextmanager
    async def _starting_answerer(self) -> AsyncIterator[None]:
        """Call the answerer while the encoder is slow to respond and no results come.

        Both may be scaled to zero; without a call the answerer would start only after the encoder has.
        """

        async def call() -> None:
            await asyncio.sleep(_SLOW_ENCODE_SECONDS)
            if time.monotonic() - self._last_result > _SLOW_ENCODE_SECONDS:
                with suppress(Exception):  # the request itself meets the same error
                    await self.answerer.describe()

        task = asyncio.create_task(call())
        try:
            yield
        finally:
            task.cancel()

    @contextmanager
    def _reserve(self, windows: Sequence[ClipWindow]) -> Iterator["_Work"]:
        """Hold a request's share of the budgets until it is done; one request alone always gets it.

        Raises:
            RequestError: There is no room at the moment.
        """
        total = sum(window.clip.seconds for window in windows)
        with self._seconds.share() as seconds, self._windows.share() as held:
            seconds.acquire(min(total, self._seconds.total))
            held.acquire(min(len(windows), self._windows.total))
            yield _Work(seconds, held)

    def _record(self, result: AnswerResult, *, seconds: float | None = None) -> None:
        """Record the metrics of one result; seconds: for encoding and answering, None for a stream."""
        record, tokens = self.metrics.record, result.answer.num_tokens
        self._last_result = time.monotonic()
        record("mats_queue_seconds", result.queue_seconds)
        record("mats_batch_size", result.batch_size)
        record("mats_prompt_tokens_total", result.prompt_tokens)
        record("mats_completion_tokens_total", tokens)
        if seconds is not None:
            record("mats_time_per_token_seconds", (seconds - result.queue_seconds) / max(1, tokens))

    def _response(
        self, request: AnswerRequest, clip: AudioClip, windows: Sequence[tuple[ClipWindow, AnswerResult]]
    ) -> AnswerResponse:
        _, first = windows[0]
        self._card = first.model
        answer = first.answer
        if request.window_seconds is not None:
            answer = join_answers([(window, result.answer) for window, result in windows])
        return AnswerResponse(
            answer=answer,
            model=first.model,
            audio_seconds=clip.seconds,
            prompt_tokens=sum(result.prompt_tokens for _, result in windows),
            windows=tuple(windows),
        )

    async def embed(
        self, upload: Upload, window_seconds: float | None = None
    ) -> list[tuple[ClipWindow, np.ndarray]]:
        """Embed a clip, or each window of it: (C,) float32 each.

        Raises:
            AudioError, RequestError: As for ``answer``.
        """
        _, windows = await self._read(upload, window_seconds)

        async def encode(work: _Work) -> list[Embedding]:
            calls = [lambda window=window: self._encode_window(window, work) for window in windows]
            embeddings = await gather(calls, limit=MAX_CONCURRENT_WINDOWS)
            check_one_space(embeddings)
            return embeddings

        with self._reserve(windows) as work:
            embeddings = await self._rollout.run(lambda: encode(work))
        return [(window, one.vectors) for window, one in zip(windows, embeddings, strict=True)]

    async def classify(self, upload: Upload, labels: Sequence[str]) -> tuple[AudioClip, list[Match]]:
        """Compare a clip with labels; the best match comes first.

        Raises:
            AudioError, RequestError: As for ``answer``; or the labels cannot be used.
        """
        check_labels(labels, self._limits)
        clip, windows = await self._read(upload, None)

        async def encode(work: _Work) -> list[Embedding]:
            calls = [lambda: self._encode_window(windows[0], work), lambda: self._encode_labels(labels)]
            both = await gather(calls, limit=len(calls))
            check_one_space(both)
            return both

        with self._reserve(windows) as work:
            of_clip, of_labels = await self._rollout.run(lambda: encode(work))
        return clip, match(of_clip.vectors, of_labels.vectors, labels)

    async def model(self, wanted: str | None = None) -> ModelCard:
        """Return the model that answered last, or the current one if that is not the one wanted."""
        if self._card is None or wanted not in {None, self._card.id}:
            return await self.current_model()
        return self._card

    async def current_model(self) -> ModelCard:
        """Return the model that answers now: after a roll-out it is not the one that answered last."""
        self._card = await self.answerer.describe()
        return self._card

    async def warm_up(self) -> ModelCard:
        """Answer one request end to end, about a clip of our own."""
        request = AnswerRequest(
            upload=_WARM_UP_UPLOAD, options=AnswerOptions(profile="fast", max_new_tokens=1)
        )
        clip = await self._decode(request.upload)

        async def attempt() -> AnswerResult:
            return await self._answer(request, await self._encode(clip))

        self._card = (await self._rollout.run(attempt)).model
        return self._card

    def close(self) -> None:
        """Stop decoding, and send the spans that are left."""
        self.decoder.close()
        self.tracing.close()


@dataclass(frozen=True, slots=True)
class _Work:
    """A request's share of the budgets, given back as its work is done."""

    seconds: Share
    windows: Share


def _instruction(request: AnswerRequest) -> str:
    if request.question is None:
        return instruction_for(Task.CAPTION)
    return instruction_for(Task.QA, request.question)


def _attributes(result: AnswerResult) -> dict[str, Any]:
    """Describe a result in its span."""
    return {
        "mats.completion_tokens": result.answer.num_tokens,
        "mats.prompt_tokens": result.prompt_tokens,
        "mats.finish_reason": result.answer.finish_reason,
        "mats.queue_seconds": result.queue_seconds,
        "mats.batch_size": result.batch_size,
        "mats.model": result.model.id,
    }


WARM_UP_CLIP = AudioClip(
    samples=(0.1 * np.sin(2 * np.pi * 220 / 16_000 * np.arange(8_000))).astype(np.float32),
    sample_rate=16_000,
    name="warm-up",
)


def _as_wav(clip: AudioClip) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(clip.sample_rate)
        wav.writeframes((clip.samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


_WARM_UP_UPLOAD = Upload(data=_as_wav(WARM_UP_CLIP), name=WARM_UP_CLIP.name)
