"""From an upload and a question to an answer. Knows neither Ray nor HTTP.

The model stands behind two small protocols, so that it can live in other processes, or be a fake.
"""

import asyncio
import io
import time
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.labels import Match, match
from mats_ray.serving.agreement import Agreement, check_one_space, check_one_voice
from mats_ray.serving.labels import check_labels
from mats_ray.serving.metrics import Metrics
from mats_ray.serving.parts import Answerer, Ask, Decoder, Embedded, Encoder, ModelCard, Reply, Told, Upload
from mats_ray.serving.problems import RequestError
from mats_ray.serving.windows import Window, cut_windows, join_answers
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import AudioClip


class AudioService:
    """Answers one request at a time; batching is the business of the encoder and the answerer.

    Args:
        encoder: The first half of the model.
        answerer: The second half.
        decoder: Reads uploads.
        max_question_characters: Longer questions are refused.
        max_answer_tokens: Nobody may ask for more.
        max_windows: Of one sound.
        max_labels: Of one classification.
        retry_seconds: How long a request that meets two models in a roll-out is repeated.
    """

    def __init__(
        self,
        encoder: Encoder,
        answerer: Answerer,
        *,
        decoder: Decoder,
        max_question_characters: int = 1000,
        max_answer_tokens: int = 512,
        max_windows: int = 60,
        max_labels: int = 100,
        retry_seconds: float = 0.0,
    ) -> None:
        self.encoder, self.answerer, self.decoder = encoder, answerer, decoder
        self.metrics = Metrics()
        """Where answers are counted; whoever shows them puts another here."""
        self._max_labels = max_labels
        self._max_question_characters = max_question_characters
        self._max_answer_tokens = max_answer_tokens
        self._max_windows = max_windows
        self._agreement = Agreement(retry_seconds)
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
        told = await self._agreement.reach(lambda: self._tell_all(windows, instruction, ask.options))
        return await self._replied(ask, clip, list(zip(windows, told, strict=True)))

    async def stream(self, ask: Ask) -> AsyncIterator[ModelCard | str | Reply]:
        """Answer in pieces that add up to the answer; the first item says who speaks, the last is the reply.

        Windows are answered at once and told in their order, each whole.

        Raises:
            AudioError, RequestError: As for ``reply``.
        """
        instruction = self._instruction(ask)
        clip, windows = await self.hear(ask.upload, ask.window)
        if ask.window is not None:
            pieces = self._stream_windows(windows, instruction, ask.options)
        else:
            pieces = self._stream_whole(clip, instruction, ask.options)
        told: list[Told] = []
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
        self, clip: AudioClip, instruction: str, options: AnswerOptions
    ) -> AsyncIterator[ModelCard | str | Told]:
        async def begin() -> tuple[ModelCard | str | Told, AsyncIterator[ModelCard | str | Told]]:
            pieces = self.answerer.stream(await self.encoder.encode(clip), instruction, options)
            return await anext(pieces), pieces

        first, pieces = await self._agreement.reach(begin)
        async with aclosing(pieces):  # pyright: ignore[reportArgumentType]  an async generator
            yield first
            async for piece in pieces:
                yield piece

    async def _stream_windows(
        self, windows: Sequence[Window], instruction: str, options: AnswerOptions
    ) -> AsyncIterator[ModelCard | str | Told]:
        telling = [
            asyncio.create_task(
                self._agreement.reach(lambda window=window: self._tell(window, instruction, options))
            )
            for window in windows
        ]
        try:
            for number, (window, task) in enumerate(zip(windows, telling, strict=True)):
                told = await task
                check_one_voice([told, await telling[0]])
                if not number and told.by is not None:
                    yield told.by
                yield ("\n" if number else "") + f"{window.times} {told.answer.text}"
                yield told
        finally:
            for task in telling:
                task.cancel()

    async def _tell_all(
        self, windows: Sequence[Window], instruction: str, options: AnswerOptions
    ) -> list[Told]:
        told = await asyncio.gather(*(self._tell(window, instruction, options) for window in windows))
        check_one_voice(told)
        return told

    async def _tell(self, window: Window, instruction: str, options: AnswerOptions) -> Told:
        started = time.perf_counter()
        embedded = await self.encoder.encode(window.clip)
        told = await self.answerer.answer(embedded, instruction, options)
        self._record(told, seconds=time.perf_counter() - started)
        return told

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
        if wanted > self._max_answer_tokens:
            raise RequestError(
                f"max_tokens={wanted} is more than the {self._max_answer_tokens} this server gives",
                code="invalid_field",
                param="max_tokens",
            )
        if ask.question is None:
            return instruction_for(Task.CAPTION)
        if not ask.question.strip():
            raise RequestError("the question is empty", code="missing_field", param="question")
        if len(ask.question) > self._max_question_characters:
            raise RequestError(
                f"the question has {len(ask.question)} characters, at most "
                f"{self._max_question_characters} are allowed",
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
        return clip, cut_windows(clip, window, max_windows=self._max_windows)

    async def embed(self, upload: Upload, window: float | None = None) -> list[tuple[Window, np.ndarray]]:
        """Embed a sound, or each window of it: (C,) float32 each.

        Raises:
            AudioError, RequestError: As for ``reply``.
        """
        _, windows = await self.hear(upload, window)

        async def encode() -> list[Embedded]:
            embedded = await asyncio.gather(*(self.encoder.encode(window.clip) for window in windows))
            check_one_space(embedded)
            return embedded

        embedded = await self._agreement.reach(encode)
        return [(window, one.vectors) for window, one in zip(windows, embedded, strict=True)]

    async def classify(self, upload: Upload, labels: Sequence[str]) -> tuple[AudioClip, list[Match]]:
        """Say how well each label fits a sound, the best first.

        Raises:
            AudioError, RequestError: As for ``reply``; or the labels cannot be used.
        """
        check_labels(labels, max_labels=self._max_labels, max_characters=self._max_question_characters)
        clip, _ = await self.hear(upload, None)

        async def encode() -> tuple[Embedded, Embedded]:
            both = await asyncio.gather(self.encoder.encode(clip), self.encoder.encode_labels(labels))
            check_one_space(both)
            return both

        sound, words = await self._agreement.reach(encode)
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
