"""From an upload and a question to an answer. Knows neither Ray nor HTTP.

The model stands behind two small protocols, so that it can live in other processes, or be a fake.
"""

import io
import time
import wave
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import ServeConfig
from mats_ray.infer.classification import Match, match
from mats_ray.serving.budgets import Budget, Share
from mats_ray.serving.concurrency import all_of, running
from mats_ray.serving.consistency import Agreement, check_one_space, check_one_voice
from mats_ray.serving.errors import RequestError
from mats_ray.serving.labels import check_labels
from mats_ray.serving.metrics import Metrics
from mats_ray.serving.types import Answerer, Ask, Decoder, Embedded, Encoder, ModelCard, Reply, Told, Upload
from mats_ray.serving.windows import Window, cut_windows, join_answers
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import AudioClip

WINDOWS_AT_ONCE = 8
"""Windows of one request under way at a time: a request of sixty leaves room in the batches for others."""


class AudioService:
    """Answers one request at a time; batching is the business of the encoder and the answerer.

    What requests bring is counted as the work it is: seconds of audio until they are embedded, windows until
    they are answered. A request for which there is no room at the moment is refused before its work begins.

    Args:
        encoder: The first half of the model.
        answerer: The second half.
        decoder: Reads uploads.
        limits: What requests may ask for, one by one and together.
    """

    def __init__(
        self,
        encoder: Encoder,
        answerer: Answerer,
        *,
        decoder: Decoder,
        limits: ServeConfig | None = None,
    ) -> None:
        self.encoder, self.answerer, self.decoder = encoder, answerer, decoder
        self.metrics = Metrics()
        """Where answers are counted; whoever shows them puts another here."""
        self._limits = limits = limits or ServeConfig()
        self._seconds = Budget(limits.max_seconds_in_flight, "seconds of audio")
        self._windows = Budget(limits.max_windows_in_flight, "windows")
        self._agreement = Agreement(limits.retry_seconds)
        self._card: ModelCard | None = None

    @property
    def card(self) -> ModelCard | None:
        """Which model answered last."""
        return self._card

    async def reply(self, ask: Ask) -> Reply:
        """Answer a request.

        Raises:
            AudioError: The upload cannot be used.
            RequestError: The question cannot be used, or the model cannot be reached or has too much to do.
        """
        instruction = self._instruction(ask)
        clip, windows = await self.hear(ask.upload, ask.window)
        with self._work(windows) as work:
            told = await self._agreement.reach(
                lambda: self._tell_all(windows, instruction, ask.options, work)
            )
        return await self._replied(ask, clip, list(zip(windows, told, strict=True)))

    async def stream(self, ask: Ask) -> AsyncIterator[ModelCard | str | Reply]:
        """Answer in pieces that add up to the answer; the first item says who speaks, the last is the reply.

        Windows are answered at once and told in their order, each whole.

        Raises:
            AudioError, RequestError: As for ``reply``.
        """
        instruction = self._instruction(ask)
        clip, windows = await self.hear(ask.upload, ask.window)
        told: list[Told] = []
        with self._work(windows) as work:
            if ask.window is not None:
                pieces = self._stream_windows(windows, instruction, ask.options, work)
            else:
                pieces = self._stream_whole(windows[0], instruction, ask.options, work)
            async with aclosing(pieces):  # pyright: ignore[reportArgumentType]  async generators
                async for piece in pieces:
                    if isinstance(piece, Told):
                        told.append(piece)
                    elif piece:
                        yield piece
        for one in told if ask.window is None else ():
            self._record(one)
        yield await self._replied(ask, clip, list(zip(windows, told, strict=True)))

    async def _stream_whole(
        self, window: Window, instruction: str, options: AnswerOptions, work: "_Work"
    ) -> AsyncIterator[ModelCard | str | Told]:
        async def begin() -> tuple[ModelCard | str | Told, AsyncIterator[ModelCard | str | Told]]:
            pieces = self.answerer.stream(await self._encode(window, work), instruction, options)
            return await anext(pieces), pieces

        first, pieces = await self._agreement.reach(begin)
        async with aclosing(pieces):  # pyright: ignore[reportArgumentType]  an async generator
            yield first
            async for piece in pieces:
                yield piece

    async def _stream_windows(
        self, windows: Sequence[Window], instruction: str, options: AnswerOptions, work: "_Work"
    ) -> AsyncIterator[ModelCard | str | Told]:
        calls = [
            lambda window=window: self._agreement.reach(
                lambda: self._tell(window, instruction, options, work)
            )
            for window in windows
        ]
        async with running(calls, at_once=WINDOWS_AT_ONCE) as telling:
            for number, (window, task) in enumerate(zip(windows, telling, strict=True)):
                told = await task
                check_one_voice([told, telling[0].result()])
                if not number and told.by is not None:
                    yield told.by
                yield ("\n" if number else "") + f"{window.times} {told.answer.text}"
                yield told

    async def _tell_all(
        self, windows: Sequence[Window], instruction: str, options: AnswerOptions, work: "_Work"
    ) -> list[Told]:
        calls = [lambda window=window: self._tell(window, instruction, options, work) for window in windows]
        told = await all_of(calls, at_once=WINDOWS_AT_ONCE)
        check_one_voice(told)
        return told

    async def _tell(self, window: Window, instruction: str, options: AnswerOptions, work: "_Work") -> Told:
        started = time.perf_counter()
        embedded = await self._encode(window, work)
        told = await self.answerer.answer(embedded, instruction, options)
        work.windows.give_back(1)
        self._record(told, seconds=time.perf_counter() - started)
        return told

    async def _encode(self, window: Window, work: "_Work") -> Embedded:
        embedded = await self.encoder.encode(window.clip)
        work.seconds.give_back(window.clip.seconds)
        return embedded

    @contextmanager
    def _work(self, windows: Sequence[Window]) -> Iterator["_Work"]:
        """Hold room for a request's work until it is done; where nothing else is in flight, there is enough.

        Raises:
            RequestError: There is none at the moment.
        """
        total = sum(window.clip.seconds for window in windows)
        with self._seconds.share() as seconds, self._windows.share() as held:
            seconds.take(min(total, self._seconds.total))
            held.take(min(len(windows), self._windows.total))
            yield _Work(seconds, held)

    def _record(self, told: Told, *, seconds: float | None = None) -> None:
        """Count one answer."""
        record, tokens = self.metrics.record, told.answer.num_tokens
        record("mats_queue_seconds", told.waited_seconds)
        record("mats_batch_size", told.batch_size)
        record("mats_prompt_tokens_total", told.prompt_tokens)
        record("mats_completion_tokens_total", tokens)
        if seconds is not None:
            record("mats_time_per_token_seconds", (seconds - told.waited_seconds) / max(1, tokens))

    async def _replied(self, ask: Ask, clip: AudioClip, windows: Sequence[tuple[Window, Told]]) -> Reply:
        told = [one for _, one in windows]
        self._card = card = told[0].by or await self.model()
        answer = told[0].answer
        if ask.window is not None:
            answer = join_answers([(window, one.answer) for window, one in windows])
        return Reply(
            answer=answer,
            model=card.id,
            audio_seconds=clip.seconds,
            prompt_tokens=sum(one.prompt_tokens for one in told),
            windows=tuple(windows),
        )

    def _instruction(self, ask: Ask) -> str:
        """Return the instruction of a request.

        Raises:
            RequestError: The question is empty or too long, or the answer would be.
        """
        wanted = ask.options.max_new_tokens or 0
        if wanted > self._limits.max_answer_tokens:
            raise RequestError(
                f"max_tokens={wanted} is more than the {self._limits.max_answer_tokens} this server gives",
                code="invalid_field",
                param="max_tokens",
            )
        if ask.question is None:
            return instruction_for(Task.CAPTION)
        if not ask.question.strip():
            raise RequestError("the question is empty", code="missing_field", param="question")
        if len(ask.question) > self._limits.max_question_characters:
            raise RequestError(
                f"the question has {len(ask.question)} characters, at most "
                f"{self._limits.max_question_characters} are allowed",
                code="invalid_field",
                param="question",
            )
        return instruction_for(Task.QA, ask.question)

    async def hear(self, upload: Upload, window: float | None) -> tuple[AudioClip, list[Window]]:
        """Decode an upload and cut it; the whole is one window.

        Raises:
            AudioError: It cannot be used.
            RequestError: There are too many windows.
        """
        started = time.perf_counter()
        clip = await self.decoder.decode(upload.data, name=upload.name)
        self.metrics.record("mats_decode_seconds", time.perf_counter() - started)
        self.metrics.record("mats_audio_seconds_total", clip.seconds)
        return clip, cut_windows(clip, window, max_windows=self._limits.max_windows)

    async def embed(self, upload: Upload, window: float | None = None) -> list[tuple[Window, np.ndarray]]:
        """Embed a sound, or each window of it: (C,) float32 each.

        Raises:
            AudioError, RequestError: As for ``reply``.
        """
        _, windows = await self.hear(upload, window)

        async def encode(work: _Work) -> list[Embedded]:
            calls = [lambda window=window: self._encode(window, work) for window in windows]
            embedded = await all_of(calls, at_once=WINDOWS_AT_ONCE)
            check_one_space(embedded)
            return embedded

        with self._work(windows) as work:
            embedded = await self._agreement.reach(lambda: encode(work))
        return [(window, one.vectors) for window, one in zip(windows, embedded, strict=True)]

    async def classify(self, upload: Upload, labels: Sequence[str]) -> tuple[AudioClip, list[Match]]:
        """Say how well each label fits a sound, the best first.

        Raises:
            AudioError, RequestError: As for ``reply``; or the labels cannot be used.
        """
        check_labels(
            labels, max_labels=self._limits.max_labels, max_characters=self._limits.max_question_characters
        )
        clip, windows = await self.hear(upload, None)

        async def encode(work: _Work) -> list[Embedded]:
            calls = [lambda: self._encode(windows[0], work), lambda: self.encoder.encode_labels(labels)]
            both = await all_of(calls, at_once=len(calls))
            check_one_space(both)
            return both

        with self._work(windows) as work:
            sound, words = await self._agreement.reach(lambda: encode(work))
        return clip, match(sound.vectors, words.vectors, labels)

    async def model(self, wanted: str | None = None) -> ModelCard:
        """Say which model answers; one that is wanted and not known may have rolled out just now."""
        if self._card is None or wanted not in {None, self._card.id}:
            self._card = await self.answerer.describe()
        return self._card

    async def current_model(self) -> ModelCard:
        """Ask which model answers now: after a roll-out it is not the one that answered last."""
        self._card = await self.answerer.describe()
        return self._card

    async def warm_up(self) -> ModelCard:
        """Answer one request end to end, about a sound of our own."""
        clip = await self.decoder.decode(_WARM_UP_FILE, name=WARM_UP_CLIP.name)
        options = AnswerOptions(profile="fast", max_new_tokens=1)

        async def answer() -> Told:
            embedded = await self.encoder.encode(clip)
            return await self.answerer.answer(embedded, instruction_for(Task.CAPTION), options)

        self._card = (await self._agreement.reach(answer)).by or self._card
        return await self.model()

    def close(self) -> None:
        """Stop decoding."""
        self.decoder.close()


@dataclass(frozen=True, slots=True)
class _Work:
    """What is left to do of a request."""

    seconds: Share
    windows: Share


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


_WARM_UP_FILE = _as_wav(WARM_UP_CLIP)
