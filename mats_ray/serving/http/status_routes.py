"""Routes about the service itself: its models, whether it is alive and ready, its metrics."""

import asyncio
import logging

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST as PROMETHEUS_TEXT
from starlette.responses import PlainTextResponse, Response

from mats_ray.config.base import shown
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.errors import ERROR_RESPONSES, ErrorBody
from mats_ray.serving.http.schemas import HealthBody, ModelBody, ModelList, ReadyBody
from mats_ray.serving.metrics import PrometheusSink
from mats_ray.serving.service import AudioService
from mats_ray.serving.types import ModelCard

logger = logging.getLogger(__name__)


class Readiness:
    """Sends the warm-up request, and another one at a check after the last has failed."""

    def __init__(self, service: AudioService) -> None:
        self._service = service
        self._attempt: asyncio.Task[ModelCard] | None = None

    def start(self) -> None:
        """Send the warm-up request, unless one is in progress or has been answered."""
        if self._attempt is None or _failed(self._attempt):
            self._attempt = asyncio.create_task(self._service.warm_up())

    def check(self) -> ModelCard:
        """Return the model that answered last.

        Raises:
            RequestError: None has yet.
        """
        self.start()
        if self._attempt is None or not self._attempt.done():
            raise RequestError("the model has not answered its first request yet", code="not_ready")
        return self._service.card or self._attempt.result()

    def stop(self) -> None:
        """Cancel an attempt in progress."""
        if self._attempt is not None:
            self._attempt.cancel()


def model_routes(service: AudioService) -> APIRouter:
    """Make the routes that list the models."""
    router = APIRouter(
        prefix="/v1/models", tags=["models"], responses={n: ERROR_RESPONSES[n] for n in (401, 408, 503)}
    )

    async def model() -> ModelBody:
        card = await service.current_model()
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
            raise RequestError(f"no model {shown(model_id)}; there is {one.id!r}", code="model_not_found")
        return one

    return router


def status_routes(readiness: Readiness, prometheus: PrometheusSink) -> APIRouter:
    """Make the routes for load balancers, orchestrators and monitors."""
    router = APIRouter(tags=["status"])

    @router.get("/health")
    async def health() -> HealthBody:
        """Say that the process is alive."""
        return HealthBody()

    @router.get("/readyz", responses={503: {"model": ErrorBody}})
    async def ready() -> ReadyBody:
        """Say that weights are loaded and a warm-up answer was given."""
        return ReadyBody(model=readiness.check().id)

    @router.get("/metrics", response_class=PlainTextResponse, responses={401: {"model": ErrorBody}})
    async def metrics() -> Response:
        """Show what this ingress replica counted, in Prometheus' text format."""
        return Response(prometheus.text(), media_type=PROMETHEUS_TEXT)

    return router


def _failed(attempt: "asyncio.Task[ModelCard]") -> bool:
    if not attempt.done():
        return False
    if attempt.cancelled():
        return True
    if (error := attempt.exception()) is None:
        return False
    logger.error("the warm-up request failed, trying again", exc_info=error)
    return True
