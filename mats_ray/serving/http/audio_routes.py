"""Routes for multipart forms: captions, questions, classifications, embeddings."""

import base64
from collections import Counter
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Form, Request, UploadFile
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from mats_ray.config.base import Within
from mats_ray.config.generation import Profile
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.chat_request import answer_options
from mats_ray.serving.http.errors import ERROR_RESPONSES
from mats_ray.serving.http.schemas import (
    AnswerBody,
    ClassificationBody,
    EmbeddingItem,
    EmbeddingList,
    LabelScore,
    Usage,
    window_bodies,
)
from mats_ray.serving.http.validation import CheckedRoute, RequestModel
from mats_ray.serving.service import AudioService
from mats_ray.serving.types import AnswerRequest, AnswerResponse, ClipWindow, Upload
from mats_ray.tasks import several_clips

_MULTIPART = Form(media_type="multipart/form-data")


class SoundForm(RequestModel):
    """A sound."""

    file: UploadFile
    """One audio file."""

    @field_validator("file", mode="before")
    @classmethod
    def a_file_is_no_text(cls, value: Any) -> Any:
        """Explain a field sent without a file name."""
        if isinstance(value, str):
            raise PydanticCustomError("file", "a file is sent with its file name, as multipart clients do")
        return value


class WindowForm(SoundForm):
    """A sound, and how to cut it."""

    window: Annotated[float, Within(1, 3600, strict=False)] | None = None
    """Seconds: answer about every window of the sound, with its times."""


class CaptionForm(WindowForm):
    """Form of ``/v1/audio/captions``."""

    profile: Profile | None = None
    """"paper" is a beam search over 4, "fast" is greedy; the model's own unless given."""


class QuestionForm(CaptionForm):
    """Form of ``/v1/audio/questions``."""

    question: str


class LabelForm(SoundForm):
    """Form of ``/v1/audio/classifications``."""

    labels: Annotated[list[str], Field(min_length=1)]
    """One for each label, or one with commas between them."""


class EmbeddingForm(WindowForm):
    """Form of ``/v1/audio/embeddings``."""

    encoding_format: Literal["float", "base64"] = "float"


async def read_upload(request: Request, form: SoundForm) -> Upload:
    """Return the audio file of a form, which has been parsed before.

    Raises:
        RequestError: A field that is no list was sent twice, or several files.
    """
    for name, count in Counter(name for name, _ in (await request.form()).multi_items()).items():
        if count > 1 and name == "file":
            raise RequestError(several_clips(count), code="clip_count", param=name)
        if count > 1 and name != "labels":
            raise RequestError(f"send one {name}, there are {count}", code="invalid_field", param=name)
    name = "".join(c for c in form.file.filename or "" if c.isprintable())[-100:]
    return Upload(data=await form.file.read(), name=name or "file")


def answer_routes(service: AudioService) -> APIRouter:
    """Make the routes that generate answers."""
    router = _form_router()

    async def answer(request: Request, form: CaptionForm, question: str | None = None) -> AnswerBody:
        answer_request = AnswerRequest(
            upload=await read_upload(request, form),
            question=question,
            options=answer_options(profile=form.profile),
            window_seconds=form.window,
        )
        return _answer_body(request, await service.answer(answer_request))

    @router.post("/captions")
    async def caption(request: Request, form: Annotated[CaptionForm, _MULTIPART]) -> AnswerBody:
        """Describe a sound in one sentence."""
        return await answer(request, form)

    @router.post("/questions")
    async def ask(request: Request, form: Annotated[QuestionForm, _MULTIPART]) -> AnswerBody:
        """Answer a question about a sound."""
        return await answer(request, form, form.question)

    return router


def encoder_routes(service: AudioService) -> APIRouter:
    """Make the routes that need CLAP only."""
    router = _form_router()

    @router.post("/classifications")
    async def classify(request: Request, form: Annotated[LabelForm, _MULTIPART]) -> ClassificationBody:
        """Say how well labels fit a sound; repeat the field for each label, or put commas between them."""
        upload = await read_upload(request, form)
        split = form.labels[0].split(",") if len(form.labels) == 1 else form.labels
        clip, matches = await service.classify(upload, [label.strip() for label in split])
        request.state.facts["audio_seconds"] = round(clip.seconds, 3)
        scores = [LabelScore(label=m.label, score=m.score, similarity=m.similarity) for m in matches]
        return ClassificationBody(
            id=request.state.request_id,
            model=(await service.current_model()).id,
            labels=scores,
            audio_seconds=round(clip.seconds, 3),
        )

    @router.post("/embeddings")
    async def embed(request: Request, form: Annotated[EmbeddingForm, _MULTIPART]) -> EmbeddingList:
        """Embed a sound, or every window of it, in CLAP's space."""
        embedded = await service.embed(await read_upload(request, form), form.window)
        items = [
            _item(n, window, vector_C, form.encoding_format) for n, (window, vector_C) in enumerate(embedded)
        ]
        seconds = request.state.facts["audio_seconds"] = items[-1].end
        model = (await service.current_model()).id
        return EmbeddingList(id=request.state.request_id, model=model, data=items, audio_seconds=seconds)

    return router


def _form_router() -> APIRouter:
    return APIRouter(prefix="/v1/audio", tags=["audio"], responses=ERROR_RESPONSES, route_class=CheckedRoute)


def record_usage(request: Request, response: AnswerResponse) -> None:
    """Write the cost of a response into the request's line of the access log."""
    request.state.facts |= {
        "audio_seconds": round(response.audio_seconds, 3),
        "prompt_tokens": response.prompt_tokens,
        "completion_tokens": response.answer.num_tokens,
    }


def _answer_body(request: Request, response: AnswerResponse) -> AnswerBody:
    record_usage(request, response)
    return AnswerBody(
        id=request.state.request_id,
        model=response.model.id,
        text=response.answer.text,
        finish_reason=response.answer.finish_reason,
        windows=window_bodies(response),
        usage=Usage(
            audio_seconds=round(response.audio_seconds, 3),
            prompt_tokens=response.prompt_tokens,
            completion_tokens=response.answer.num_tokens,
        ),
    )


def _item(index: int, window: ClipWindow, vector_C: np.ndarray, encoding: str) -> EmbeddingItem:
    numbers = [float(value) for value in vector_C]
    packed = base64.b64encode(vector_C.astype("<f4").tobytes()).decode()
    return EmbeddingItem(
        index=index,
        start=round(window.start_seconds, 3),
        end=round(window.end_seconds, 3),
        embedding=numbers if encoding == "float" else packed,
    )
