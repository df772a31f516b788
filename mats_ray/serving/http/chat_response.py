"""Responses of ``POST /v1/chat/completions``: OpenAI's shapes, whole or as server-sent events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

from pydantic import BaseModel

from mats_ray.serving.http.errors import ErrorBody, problem_of
from mats_ray.serving.http.schemas import WindowBody, window_bodies
from mats_ray.serving.types import AnswerDelta, AnswerResponse


class ChatUsage(BaseModel):
    """Tokens; the audio prefix counts among the prompt's."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The only one."""

    index: Literal[0] = 0
    message: ChatMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatExtras(BaseModel):
    """What OpenAI's interface has no name for."""

    audio_seconds: float
    windows: list[WindowBody]
    """The answer about each window; one, the whole, unless windows were requested."""


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    mats: ChatExtras


def completion(response: AnswerResponse, *, id_: str, created: int) -> ChatCompletion:
    """Encode a whole response."""
    message = ChatMessage(content=response.answer.text)
    return ChatCompletion(
        id=id_,
        created=created,
        model=response.model.id,
        choices=[Choice(message=message, finish_reason=_reason(response))],
        usage=_usage(response),
        mats=_extras(response),
    )


async def server_sent_events(
    first: AnswerDelta | AnswerResponse,
    rest: AsyncGenerator[AnswerDelta | AnswerResponse, None],
    *,
    head: dict[str, Any],
    include_usage: bool,
) -> AsyncIterator[bytes]:
    """Encode a streamed answer; an error in between is an event of its own, and the last.

    Args:
        first: First event of the stream.
        rest: Further events; the last of the stream is the response.
        head: ``id`` and ``created`` of every chunk.
        include_usage: Send the tokens in a chunk of their own before the end.
    """
    head = {**head, "model": first.model.id, "object": "chat.completion.chunk"}
    if include_usage:
        head["usage"] = None
    yield _chunk(head, {"role": "assistant", "content": ""})
    async with aclosing(rest):
        try:
            event = first
            while isinstance(event, AnswerDelta):
                yield _chunk(head, {"content": event.text})
                event = await anext(rest)
        except Exception as error:  # noqa: BLE001  the status is sent, so the error becomes an event
            yield _event(ErrorBody.of(problem_of(error)).model_dump())
            return
    yield _chunk(head, {}, finish_reason=_reason(event), mats=_extras(event).model_dump())
    if include_usage:
        yield _event({**head, "choices": [], "usage": _usage(event).model_dump()})
    yield b"data: [DONE]\n\n"


def _chunk(
    head: dict[str, Any], delta: dict[str, str], *, finish_reason: str | None = None, **more: Any
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return _event({**head, "choices": [choice], **more})


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def _reason(response: AnswerResponse) -> Literal["stop", "length"]:
    return "length" if response.answer.finish_reason == "length" else "stop"


def _usage(response: AnswerResponse) -> ChatUsage:
    prompt, completed = response.prompt_tokens, response.answer.num_tokens
    return ChatUsage(prompt_tokens=prompt, completion_tokens=completed, total_tokens=prompt + completed)


def _extras(response: AnswerResponse) -> ChatExtras:
    return ChatExtras(audio_seconds=round(response.audio_seconds, 3), windows=window_bodies(response))
