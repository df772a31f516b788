"""The wire contract: what every route sends. OpenAI's shapes where OpenAI has one."""

from typing import Literal

from pydantic import BaseModel

from mats_ray.serving.problems import Problem


class Usage(BaseModel):
    """What a request took."""

    audio_seconds: float
    completion_tokens: int


class AnswerBody(BaseModel):
    """Answer to one caption request or question."""

    id: str
    """Of the request, as in the X-Request-Id header."""
    object: Literal["audio.answer"] = "audio.answer"
    model: str
    text: str
    finish_reason: str
    """"stop" (the model ended its answer) or "length" (cut at its longest)."""
    usage: Usage


class ModelBody(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When its directory was written, Unix seconds."""
    owned_by: Literal["mats_ray"] = "mats_ray"


class ModelList(BaseModel):
    """All models; a server has one."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


class HealthBody(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class ReadyBody(BaseModel):
    """Weights are loaded and an answer has been given."""

    status: Literal["ready"] = "ready"
    model: str


class ErrorDetail(BaseModel):
    """One error."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every reply that is not a success."""

    error: ErrorDetail

    @classmethod
    def of(cls, problem: Problem) -> "ErrorBody":
        """Put a problem into its wire form."""
        return cls(
            error=ErrorDetail(
                message=problem.message, type=problem.type, param=problem.param, code=problem.code
            )
        )
