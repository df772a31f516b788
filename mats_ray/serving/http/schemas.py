"""Response bodies of the routes, OpenAI's shapes where OpenAI has one."""

from typing import Literal

from pydantic import BaseModel

from mats_ray.serving.types import AnswerResponse


class Usage(BaseModel):
    """What a request cost."""

    audio_seconds: float
    prompt_tokens: int
    completion_tokens: int


class WindowBody(BaseModel):
    """The answer about one window of a sound."""

    start: float
    """Seconds."""
    end: float
    text: str


class AnswerBody(BaseModel):
    """Answer to one caption request or question."""

    id: str
    """Id of the request, as in the X-Request-Id header."""
    object: Literal["audio.answer"] = "audio.answer"
    model: str
    text: str
    finish_reason: str
    """"stop" (the model ended its answer) or "length" (cut at its longest)."""
    windows: list[WindowBody]
    """One, the whole, unless windows were requested."""
    usage: Usage


class LabelScore(BaseModel):
    """One label."""

    label: str
    score: float
    """Share among the labels given: their scores add up to 1."""
    similarity: float
    """Cosine between the sound and the label, whatever the other labels are."""


class ClassificationBody(BaseModel):
    """How well labels fit a sound, the best first."""

    id: str
    object: Literal["audio.classification"] = "audio.classification"
    model: str
    labels: list[LabelScore]
    audio_seconds: float


class EmbeddingItem(BaseModel):
    """Embedding of a sound or of one window of it."""

    object: Literal["embedding"] = "embedding"
    index: int
    start: float
    """Seconds."""
    end: float
    embedding: list[float] | str
    """Numbers, or base64 of little-endian float32."""


class EmbeddingList(BaseModel):
    """CLAP embeddings, of length 1."""

    object: Literal["list"] = "list"
    id: str
    model: str
    data: list[EmbeddingItem]
    audio_seconds: float


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


def window_bodies(response: AnswerResponse) -> list[WindowBody]:
    """Encode the windows of a response."""
    return [
        WindowBody(
            start=round(window.start_seconds, 3), end=round(window.end_seconds, 3), text=result.answer.text
        )
        for window, result in response.windows
    ]
