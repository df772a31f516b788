"""Whether the whole way from a sound to an answer has worked once."""

import asyncio
import logging

from mats_ray.serving.parts import ModelCard
from mats_ray.serving.problems import RequestError
from mats_ray.serving.service import AudioService

logger = logging.getLogger(__name__)


class Readiness:
    """Sends the warm-up request, and another one if somebody looks after the last has failed."""

    def __init__(self, service: AudioService) -> None:
        self._service = service
        self._attempt: asyncio.Task[ModelCard] | None = None

    def start(self) -> None:
        """Send the warm-up request, unless one is under way or has been answered."""
        if self._attempt is None or _failed(self._attempt):
            self._attempt = asyncio.create_task(self._service.warm_up())

    def look(self) -> ModelCard:
        """Return the model that answered last.

        Raises:
            RequestError: None has yet.
        """
        self.start()
        if self._attempt is None or not self._attempt.done():
            raise RequestError("the model has not answered its first request yet", code="not_ready")
        return self._service.card or self._attempt.result()

    def stop(self) -> None:
        """Give up an attempt under way."""
        if self._attempt is not None:
            self._attempt.cancel()


def _failed(attempt: "asyncio.Task[ModelCard]") -> bool:
    if not attempt.done():
        return False
    if attempt.cancelled():
        return True
    if (error := attempt.exception()) is None:
        return False
    logger.error("the warm-up request failed, trying again", exc_info=error)
    return True
