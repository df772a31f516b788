"""The FastAPI app around a service. Runs under Ray Serve, under uvicorn, and in a test without either."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from mats_ray.config.base import shown
from mats_ray.config.serve import ServeConfig
from mats_ray.errors import AudioError, ConfigError, EngineError
from mats_ray.serving.budgets import Budget
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.access_log import AccessLog
from mats_ray.serving.http.audio_routes import answer_routes, encoder_routes
from mats_ray.serving.http.audio_url import AudioURLs
from mats_ray.serving.http.authentication import Authentication, KeyRing, RateLimit
from mats_ray.serving.http.chat_routes import CHAT, chat_routes
from mats_ray.serving.http.errors import MAX_MESSAGE, Problem, problem_of, problem_response, validation_error
from mats_ray.serving.http.middleware import (
    BodyLimit,
    ConcurrencyLimit,
    PrefixRedirect,
    RequestId,
    Timeout,
    UnexpectedErrors,
    route_of,
)
from mats_ray.serving.http.page_routes import page_routes
from mats_ray.serving.http.status_routes import Readiness, model_routes, status_routes
from mats_ray.serving.http.tracing import RequestSpans
from mats_ray.serving.metrics import Metrics, PrometheusSink, Sink
from mats_ray.serving.service import AudioService
from mats_ray.serving.tracing import Tracing
from mats_ray.version import __version__

_CODES = {
    400: "malformed_body",
    404: "route_not_found",
    405: "method_not_allowed",
    422: "invalid_field",
}


def make_app(
    service: AudioService,
    config: ServeConfig,
    *,
    keys: KeyRing | None = None,
    sinks: Sequence[Sink] = (),
    echo_request_id: bool = True,
) -> FastAPI:
    """Put HTTP in front of a service.

    Args:
        service: Answers; it records its metrics and spans with the app's.
        config: Its limits.
        keys: The keys that are accepted; by default those of the configuration.
        sinks: Destinations of metrics beside ``GET /metrics``.
        echo_request_id: Send X-Request-Id back; Ray Serve's proxy already does.

    Raises:
        ConfigError: The configured keys cannot be read, or the exporter of spans cannot be made.
    """
    readiness, prometheus = Readiness(service), PrometheusSink()
    service.metrics, service.tracing = Metrics([prometheus, *sinks]), Tracing(config.tracing)
    keys = keys or KeyRing(file=config.api_keys_file, variable=config.api_keys_variable)
    keys.report_to(service.metrics)
    app = FastAPI(
        title="mats_ray",
        summary="Questions and captions about sounds",
        version=__version__,
        redirect_slashes=False,
        docs_url=None,  # the usual ones load their scripts from elsewhere; ours is part of the page
        redoc_url=None,
        lifespan=_lifespan(service, readiness),
        middleware=_middleware(service, config, keys, echo_request_id=echo_request_id),
    )
    _add_error_handlers(app)
    _include_routes(app, service, readiness, prometheus, config)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    for error in (RequestError, AudioError, ConfigError, EngineError):
        app.add_exception_handler(error, _known_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)


def _include_routes(
    app: FastAPI, service: AudioService, readiness: Readiness, prometheus: PrometheusSink, config: ServeConfig
) -> None:
    audio_urls = AudioURLs(
        config.remote_hosts,
        max_bytes=config.max_upload_bytes,
        timeout_seconds=config.decode_timeout_seconds,
    )
    app.include_router(chat_routes(service, audio_urls))
    app.include_router(answer_routes(service))
    app.include_router(encoder_routes(service))
    app.include_router(model_routes(service))
    app.include_router(status_routes(readiness, prometheus))
    if config.page:
        app.include_router(page_routes())


def _middleware(
    service: AudioService, config: ServeConfig, keys: KeyRing, *, echo_request_id: bool
) -> list[Middleware]:
    """List the layers that a request passes on its way in, the outermost first."""
    memory = Budget(config.max_bytes_in_flight, "bytes of memory")
    return [
        *([] if config.tracing is None else [Middleware(RequestSpans, tracing=service.tracing)]),
        Middleware(RequestId, echo=echo_request_id),
        Middleware(AccessLog, metrics=service.metrics),
        Middleware(UnexpectedErrors),
        *([Middleware(PrefixRedirect)] if config.page else []),
        Middleware(Authentication, keys=keys, rate=RateLimit(config.requests_per_minute)),
        Middleware(ConcurrencyLimit, limit=config.max_requests_in_flight),
        Middleware(
            Timeout, seconds=config.request_timeout_seconds, stream_seconds=config.stream_timeout_seconds
        ),
        Middleware(BodyLimit, max_bytes=config.max_upload_bytes, memory=memory),
    ]


def _lifespan(service: AudioService, readiness: Readiness):  # noqa: ANN202  (FastAPI's own Lifespan type)
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        readiness.start()
        yield
        readiness.stop()
        service.close()

    return lifespan


async def _known_error(request: Request, error: Exception) -> JSONResponse:
    return _respond(request, problem_of(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Respond to errors of the router and the form parser: 404, 405, 400."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "malformed_body")
    message = str(error.detail)[:MAX_MESSAGE]
    if code == "route_not_found":
        routes = sorted(request.app.openapi()["paths"])
        message = f"no route {shown(request.url.path)}; there are {', '.join(routes)}"
    elif code == "method_not_allowed":
        message = f"{shown(request.url.path)} does not take {shown(request.method)}"
    problem = Problem(status=error.status_code, code=code, message=message)
    return _respond(request, problem, dict(error.headers or {}))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Respond to errors of validation; a body of another kind shows as missing fields."""
    assert isinstance(error, RequestValidationError)
    return _respond(request, problem_of(_refusal(request, error)))


def _refusal(request: Request, error: RequestValidationError) -> RequestError:
    wanted, code = ("multipart/form-data", "not_multipart")
    if route_of(request.scope) == CHAT:
        wanted, code = ("application/json", "not_json")
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith(wanted):
        return RequestError(
            f"this route takes {wanted}, got {shown(content_type) if content_type else 'no Content-Type'}",
            code=code,
        )
    faults = [{**fault, "loc": fault["loc"][1:]} for fault in error.errors()]
    if faults[0]["type"] == "json_invalid":
        return RequestError("the body is not JSON", code="malformed_body")
    return validation_error(faults, error.body)


def _respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    request.state.facts["error"] = problem.code
    return problem_response(problem, headers)
