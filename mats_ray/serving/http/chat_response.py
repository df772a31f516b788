"""What ``POST /v1/chat/completions`` sends: OpenAI's shapes, whole or as server-sent events."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

from pydantic import BaseModel

from mats_ray.serving.http.errors import ErrorBody, problem_of
from mats_ray.serving.http.schemas import WindowBody, window_bodies
from mats_ray.serving.types import Reply


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
    """What was said about which part; one, the whole, unless windows were asked for."""


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    mats: ChatExtras


def completion(reply: Reply, *, id_: str, created: int) -> ChatCompletion:
    """Put a reply into its wire form."""
    message = ChatMessage(content=reply.answer.text)
    return ChatCompletion(
        id=id_,
        created=created,
        model=reply.model,
        choices=[Choice(message=message, finish_reason=_reason(reply))],
        usage=_usage(reply),
        mats=_extras(reply),
    )


async def events(
    first: str | Reply,
    rest: AsyncIterator[str | Reply],
    *,
    head: dict[str, Any],
    include_usage: bool,
) -> AsyncIterator[bytes]:
    """Encode pieces as they come; an error in between is an event of its own, and the last.

    Args:
        first: What the stream began with: whether there is one decides the status, so it was waited for.
        rest: What follows; the last item is the reply.
        head: ``id``, ``created`` and ``model`` of every chunk.
        include_usage: Send the tokens in a chunk of their own before the end.
    """
    head = {**head, "object": "chat.completion.chunk"}
    if include_usage:
        head["usage"] = None
    yield _chunk(head, {"role": "assistant", "content": ""})
    async with aclosing(rest):  # pyright: ignore[reportArgumentType]  an async generator
        try:
            item: str | Reply = first
            while isinstance(item, str):
                yield _chunk(head, {"content": item})
                item = await anext(rest)
        except Exception as error:  # noqa: BLE001  the status is sent: this is the only way to say it
            yield _event(ErrorBody.of(problem_of(error)).model_dump())
            return
    yield _chunk(head, {}, finish_reason=_reason(item), mats=_extras(item).model_dump())
    if include_usage:
        yield _event({**head, "choices": [], "usage": _usage(item).model_dump()})
    yield b"data: [DONE]\n\n"


def _chunk(
    head: dict[str, Any], delta: dict[str, str], *, finish_reason: str | None = None, **more: Any
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return _event({**head, "choices": [choice], **more})


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def _reason(reply: Reply) -> Literal["stop", "length"]:
    return "length" if reply.answer.finish_reason == "length" else "stop"


def _usage(reply: Reply) -> ChatUsage:
    prompt, completed = reply.prompt_tokens, reply.answer.num_tokens
    return ChatUsage(prompt_tokens=prompt, completion_tokens=completed, total_tokens=prompt + completed)


def _extras(reply: Reply) -> ChatExtras:
    return ChatExtras(audio_seconds=round(reply.audio_seconds, 3), windows=window_bodies(reply))
