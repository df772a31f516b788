"""``POST /v1/chat/completions``, the route of OpenAI's clients."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from mats_ray.config.base import shown
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.audio_routes import record_usage
from mats_ray.serving.http.audio_url import AudioURLs
from mats_ray.serving.http.chat_request import ChatRequest, read_request
from mats_ray.serving.http.chat_response import ChatCompletion, completion, server_sent_events
from mats_ray.serving.http.errors import ERROR_RESPONSES
from mats_ray.serving.http.validation import CheckedRoute
from mats_ray.serving.service import AudioService
from mats_ray.serving.types import AnswerDelta, AnswerRequest, AnswerResponse

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


def chat_routes(service: AudioService, audio_urls: AudioURLs) -> APIRouter:
    """Make the route for one question about one sound, in OpenAI's format."""
    router = APIRouter(tags=["chat"], responses=ERROR_RESPONSES, route_class=CheckedRoute)
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
        answer_request = await read_request(body, audio_urls.fetch)
        head = {"id": f"chatcmpl-{request.state.request_id}", "created": int(time.time())}
        if not body.stream:
            response = await service.answer(answer_request)
            check_model(wanted, response.model.id)
            record_usage(request, response)
            whole = completion(response, id_=head["id"], created=head["created"])
            return JSONResponse(whole.model_dump())
        events = _stream(service, answer_request, request)
        first = await anext(events)  # before the status is sent: it depends on whether there is an answer
        check_model(wanted, first.model.id)
        waited = time.perf_counter() - request.state.started
        service.metrics.record("mats_time_to_first_token_seconds", waited)
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        chunks = server_sent_events(first, events, head=head, include_usage=include_usage)
        return StreamingResponse(chunks, media_type="text/event-stream", headers=_NO_BUFFERING)

    return router


def check_model(wanted: str | None, found: str) -> None:
    """Check that the model found is the one wanted; during a roll-out it may be another by now.

    Raises:
        RequestError: It is another.
    """
    if wanted not in {None, found}:
        raise RequestError(
            f"no model {shown(wanted)}; there is {found!r}", code="model_not_found", param="model"
        )


async def _stream(
    service: AudioService, answer_request: AnswerRequest, request: Request
) -> AsyncGenerator[AnswerDelta | AnswerResponse, None]:
    async with aclosing(service.stream(answer_request)) as events:
        async for event in events:
            if isinstance(event, AnswerResponse):
                record_usage(request, event)
            yield event
