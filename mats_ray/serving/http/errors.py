"""Errors as clients see them: HTTP status, type, code and message, and the responses that carry them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mats_ray.config.base import shown
from mats_ray.errors import AnswerError, AudioError, ConfigError, EngineError
from mats_ray.serving.errors import RequestError

STATUS = {
    "malformed_body": 400,
    "unauthorized": 401,
    "route_not_found": 404,
    "model_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "timeout": 408,
    "too_large": 413,
    "too_long": 413,
    "not_multipart": 415,
    "not_json": 415,
    "not_audio": 415,
    "unsupported": 415,
    "missing_field": 422,
    "invalid_field": 422,
    "clip_count": 422,
    "decode_failed": 422,
    "truncated": 422,
    "damaged": 422,
    "empty": 422,
    "not_finite": 422,
    "overloaded": 429,
    "rate_limited": 429,
    "answer_failed": 500,
    "internal": 500,
    "replica_died": 500,
    "not_ready": 503,
    "rolling_out": 503,
    "unavailable": 503,
}
"""HTTP status by error code; the codes of ``AudioError`` and ``AnswerError`` are among them."""

_TYPES = {401: "authentication_error", 404: "not_found_error", 408: "timeout_error", 429: "rate_limit_error"}
_RETRY_AFTER_SECONDS = {429: 1, 503: 2}
OWN_SENTENCE = "own_sentence"
"""Type of a validation error whose message is complete by itself."""
MAX_MESSAGE = 1000
"""Longest message, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error as a client sees it."""

    status: int
    code: str
    message: str
    param: str | None = None
    """The form field at fault."""
    wait_seconds: int | None = None
    """Seconds until a retry makes sense, where the error knows; else by its status."""

    @property
    def type(self) -> str:
        """Kind of the error, OpenAI's names."""
        if self.status >= 500:
            return "server_error"
        return _TYPES.get(self.status, "invalid_request_error")

    @property
    def retry_after(self) -> int | None:
        """Seconds until a retry makes sense."""
        return self.wait_seconds or _RETRY_AFTER_SECONDS.get(self.status)


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
        """Encode a problem."""
        return cls(
            error=ErrorDetail(
                message=problem.message, type=problem.type, param=problem.param, code=problem.code
            )
        )


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body is not what its Content-Type says"},
    401: {"model": ErrorBody, "description": "No valid key"},
    404: {"model": ErrorBody, "description": "No such model"},
    408: {"model": ErrorBody, "description": "No answer in time"},
    413: {"model": ErrorBody, "description": "Too many bytes, or too many seconds of audio"},
    415: {"model": ErrorBody, "description": "Another Content-Type than this route's, or no audio format"},
    422: {"model": ErrorBody, "description": "A field is missing or cannot be used"},
    429: {
        "model": ErrorBody,
        "description": "Too much to do, or this key's rate is used up; see Retry-After",
    },
    503: {"model": ErrorBody, "description": "The model cannot be reached; see Retry-After"},
}
"""Descriptions of a route's errors in OpenAPI, by status."""


def validation_error(faults: Sequence[Mapping[str, Any]], body: Any) -> RequestError:
    """Translate the errors that pydantic found: the first one's field, its value, what is allowed.

    Args:
        faults: ``ValidationError.errors()``, their locations below the body.
        body: What was validated.
    """
    fault = faults[0]
    context = fault.get("ctx") or {}
    place = [*fault["loc"], *([context["field"]] if "field" in context else [])]
    path, value = _locate(place, body)
    param = str(place[0])[:60] if place else None
    if fault["type"] == "missing":
        return RequestError(f"the field {path!r} is missing or empty", code="missing_field", param=param)
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == OWN_SENTENCE:
        return RequestError(reason, code="invalid_field", param=param)
    what = f"{path} = {shown(value)}" if path else f"the body, {shown(value)},"
    return RequestError(
        f"{what} cannot be used: {reason[:1].lower()}{reason[1:]}", code="invalid_field", param=param
    )


def _locate(place: Sequence[int | str], body: Any) -> tuple[str, Any]:
    """Return a location as a path, without the names of a union's members, and the value there."""
    path, value = "", body
    for number, step in enumerate(place, start=1):
        if isinstance(step, int) and isinstance(value, list | tuple) and step < len(value):
            path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, Mapping) and (step in value or number == len(place)):
            path, value = f"{path}.{str(step)[:60]}", value.get(step)
    return path.removeprefix("."), value


def problem_of(error: Exception) -> Problem:
    """Translate an error; an unexpected one's text stays in the log."""
    if isinstance(error, RequestError):
        return Problem(
            status=STATUS[error.code],
            code=error.code,
            message=_bounded(error),
            param=error.param,
            wait_seconds=error.retry_after,
        )
    if isinstance(error, EngineError):  # of this process; its replica is about to be replaced
        code = "replica_died" if error.in_flight else "unavailable"
        return Problem(status=STATUS[code], code=code, message="the model has stopped; it is being replaced")
    if isinstance(error, ConfigError):  # options that this model does not have
        return Problem(status=422, code="invalid_field", message=_bounded(error))
    if isinstance(error, AnswerError):
        code = "invalid_field" if error.code == "prompt_too_long" else error.code
        return Problem(status=STATUS[code], code=code, message=_bounded(error))
    if isinstance(error, AudioError):
        status = STATUS.get(error.code, 422)
        return Problem(status=status, code=error.code, message=_bounded(error), param="file")
    return Problem(status=500, code="internal", message="the server failed to answer; its log says why")


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the response to an error."""
    headers = dict(headers or {})
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(ErrorBody.of(problem).model_dump(), problem.status, headers)


async def refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request with an error, and note it for the access log."""
    scope.setdefault("state", {}).setdefault("facts", {})["error"] = error.code
    await problem_response(problem_of(error))(scope, receive, send)


def _bounded(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."
