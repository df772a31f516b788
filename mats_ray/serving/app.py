"""The FastAPI app around a service. Runs under Ray Serve, under uvicorn, and in a test without either."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

import mats_ray
from mats_ray.config.infer import ServeConfig
from mats_ray.errors import AudioError
from mats_ray.serving.guards import Admission, BodyLimit, Deadline, LastResort, RequestId, problem_response
from mats_ray.serving.problems import Problem, RequestError, problem_of
from mats_ray.serving.readiness import Readiness
from mats_ray.serving.routes import audio_routes, model_routes, status_routes
from mats_ray.serving.service import AudioService

_CODES = {400: "malformed_body", 404: "route_not_found", 405: "method_not_allowed"}


def make_app(service: AudioService, config: ServeConfig, *, echo_request_id: bool = True) -> FastAPI:
    """Put HTTP in front of a service.

    Args:
        service: Answers.
        config: Its limits.
        echo_request_id: Send X-Request-Id back; Ray Serve's proxy already does.

    Example::

        uvicorn.run(make_app(service, ServeConfig()))
    """
    readiness = Readiness(service)
    app = FastAPI(
        title="mats_ray",
        summary="Questions and captions about sounds",
        version=mats_ray.__version__,
        redirect_slashes=False,
        lifespan=_lifespan(service, readiness),
        middleware=[  # the first is the outermost
            Middleware(RequestId, echo=echo_request_id),
            Middleware(LastResort),
            Middleware(Admission, limit=config.max_requests_in_flight),
            Middleware(Deadline, seconds=config.request_timeout_seconds),
            Middleware(BodyLimit, max_bytes=config.max_upload_bytes),
        ],
    )
    for error in (RequestError, AudioError):
        app.add_exception_handler(error, _known_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    for router in (audio_routes(service), model_routes(service), status_routes(readiness)):
        app.include_router(router)
    return app


def _lifespan(service: AudioService, readiness: Readiness):  # noqa: ANN202  (FastAPI's own Lifespan type)
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        readiness.start()
        yield
        readiness.stop()
        service.close()

    return lifespan


async def _known_error(_request: Request, error: Exception) -> JSONResponse:
    return problem_response(problem_of(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """What the router and the form parser refuse: 404, 405, 400."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "malformed_body")
    message = str(error.detail)
    if code == "route_not_found":
        routes = sorted(request.app.openapi()["paths"])
        message = f"no route {request.url.path}; there are {', '.join(routes)}"
    elif code == "method_not_allowed":
        message = f"{request.url.path} does not take {request.method}"
    problem = Problem(status=error.status_code, code=code, message=message)
    return problem_response(problem, dict(error.headers or {}))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """What the parameters' types refuse; a body of another kind shows as missing fields."""
    assert isinstance(error, RequestValidationError)
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        said = f"this route takes multipart/form-data, got {content_type or 'no Content-Type'!r}"
        return problem_response(problem_of(RequestError(said, code="not_multipart")))
    first = error.errors()[0]
    field = str(first["loc"][-1])
    if first["type"] == "missing":
        refused = RequestError(f"the field {field!r} is missing or empty", code="missing_field", param=field)
    else:
        said = f"the field {field!r} cannot be used: {first['msg'].removeprefix('Value error, ')}"
        refused = RequestError(said, code="invalid_field", param=field)
    return problem_response(problem_of(refused))
