"""``POST /v1/chat/completions``: what OpenAI's clients speak."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from mats_ray.config.base import shown
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.audio_routes import note
from mats_ray.serving.http.audio_url import RemoteFiles
from mats_ray.serving.http.chat_request import ChatRequest, read_message
from mats_ray.serving.http.chat_response import ChatCompletion, completion, events
from mats_ray.serving.http.errors import AUDIO_ERRORS
from mats_ray.serving.http.validation import CheckedRoute
from mats_ray.serving.service import AudioService
from mats_ray.serving.types import Ask, Reply, Upload

CHAT = "/v1/chat/completions"
_ALIAS = "mats"
_NO_BUFFERING = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_EXAMPLE = {
    "model": "mats",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "input_audio", "input_audio": {"data": "UklGRi...", "format": "wav"}},
                {"type": "text", "text": "Is there a dog?"},
            ],
        }
    ],
}


def chat_routes(service: AudioService, remote: RemoteFiles) -> APIRouter:
    """One question about one sound, in OpenAI's words."""
    router = APIRouter(tags=["chat"], responses=AUDIO_ERRORS, route_class=CheckedRoute)
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "model": ChatCompletion,
            "description": "The answer; with stream: true, chunks of it as server-sent events",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    }

    @router.post(CHAT, response_model=None, responses=responses)
    async def complete(request: Request, body: Annotated[ChatRequest, Body(examples=[_EXAMPLE])]) -> Response:
        """Answer a question about a sound, at once or piece by piece."""
        wanted = None if body.model == _ALIAS else body.model
        if wanted is not None:
            check_model(wanted, (await service.model(wanted)).id)
        ask = await _ask_of(body, remote)
        head = {"id": f"chatcmpl-{request.state.request_id}", "created": int(time.time())}
        if not body.stream:
            reply = await service.reply(ask)
            check_model(wanted, reply.model)
            note(request, reply)
            whole = completion(reply, id_=head["id"], created=head["created"])
            return JSONResponse(whole.model_dump())
        pieces = _noted(service.stream(ask), request)
        head["model"] = (await anext(pieces)).id
        check_model(wanted, head["model"])
        first = await anext(pieces)
        waited = time.perf_counter() - request.state.started
        service.metrics.record("mats_time_to_first_token_seconds", waited)
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        said = events(first, pieces, head=head, include_usage=include_usage)
        return StreamingResponse(said, media_type="text/event-stream", headers=_NO_BUFFERING)

    return router


def check_model(wanted: str | None, found: str) -> None:
    """Refuse an answer of another model than the one that was named; in a roll-out that may come late.

    Raises:
        RequestError: It is another.
    """
    if wanted not in {None, found}:
        raise RequestError(
            f"no model {shown(wanted)}; there is {found!r}", code="model_not_found", param="model"
        )


async def _ask_of(body: ChatRequest, remote: RemoteFiles) -> Ask:
    asked = read_message(body)
    data = asked.audio if isinstance(asked.audio, bytes) else await remote.fetch(asked.audio)
    upload = Upload(data=data, name=asked.name)
    return Ask(upload=upload, question=asked.question, options=body.options(), window=body.mats.window)


async def _noted(pieces: AsyncIterator[Any], request: Request) -> AsyncIterator[Any]:
    """Leave what the last item says in the request's facts."""
    async for piece in pieces:
        if isinstance(piece, Reply):
            note(request, piece)
        yield piece
