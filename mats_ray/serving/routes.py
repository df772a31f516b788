"""The routes. Each says what it takes and what it gives; the work is the service's."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile

from mats_ray.serving.problems import RequestError
from mats_ray.serving.readiness import Readiness
from mats_ray.serving.schemas import (
    AnswerBody,
    ErrorBody,
    HealthBody,
    ModelBody,
    ModelList,
    ReadyBody,
    Usage,
)
from mats_ray.serving.service import AudioService, Reply, Upload

_AUDIO_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body is not what its Content-Type says"},
    408: {"model": ErrorBody, "description": "No answer in time"},
    413: {"model": ErrorBody, "description": "Too many bytes, or too many seconds of audio"},
    415: {"model": ErrorBody, "description": "Not multipart/form-data, or not a known audio format"},
    422: {"model": ErrorBody, "description": "A field is missing or cannot be used"},
    429: {"model": ErrorBody, "description": "Too much to do; see Retry-After"},
    503: {"model": ErrorBody, "description": "The model cannot be reached; see Retry-After"},
}


async def one_file(request: Request, file: Annotated[UploadFile, File()]) -> Upload:
    """Read the one audio file of a form, already in memory or on disk by now."""
    if len((await request.form()).getlist("file")) > 1:
        raise RequestError("send one file, there are several", code="invalid_field", param="file")
    name = "".join(c for c in file.filename or "" if c.isprintable())[-100:]
    return Upload(data=await file.read(), name=name or "file")


OneFile = Annotated[Upload, Depends(one_file)]


def audio_routes(service: AudioService) -> APIRouter:
    """Questions about uploaded sounds, as multipart forms."""
    router = APIRouter(prefix="/v1/audio", tags=["audio"], responses=_AUDIO_ERRORS)

    @router.post("/captions")
    async def caption(request: Request, upload: OneFile) -> AnswerBody:
        """Describe a sound in one sentence."""
        return _answer_body(request, await service.caption(upload))

    @router.post("/questions")
    async def ask(request: Request, upload: OneFile, question: Annotated[str, Form()]) -> AnswerBody:
        """Answer a question about a sound."""
        return _answer_body(request, await service.ask(upload, question))

    return router


def model_routes(service: AudioService) -> APIRouter:
    """Which models there are."""
    router = APIRouter(prefix="/v1/models", tags=["models"], responses={503: {"model": ErrorBody}})

    async def model() -> ModelBody:
        card = await service.model()
        return ModelBody(id=card.id, created=card.created)

    @router.get("")
    async def list_models() -> ModelList:
        """List the one model that answers."""
        return ModelList(data=[await model()])

    @router.get("/{model_id:path}", responses={404: {"model": ErrorBody}})
    async def retrieve_model(model_id: str) -> ModelBody:
        """Describe a model by its id."""
        one = await model()
        if model_id != one.id:
            raise RequestError(f"no model {model_id!r}; there is {one.id!r}", code="model_not_found")
        return one

    return router


def status_routes(readiness: Readiness) -> APIRouter:
    """For load balancers and orchestrators."""
    router = APIRouter(tags=["status"])

    @router.get("/health")
    async def health() -> HealthBody:
        """Say that the process is alive."""
        return HealthBody()

    @router.get("/readyz", responses={503: {"model": ErrorBody}})
    async def ready() -> ReadyBody:
        """Say that weights are loaded and a warm-up answer was given."""
        return ReadyBody(model=readiness.look().id)

    return router


def _answer_body(request: Request, reply: Reply) -> AnswerBody:
    return AnswerBody(
        id=request.state.request_id,
        model=reply.model,
        text=reply.answer.text,
        finish_reason=reply.answer.finish_reason,
        usage=Usage(audio_seconds=round(reply.audio_seconds, 3), completion_tokens=reply.answer.num_tokens),
    )
