"""The error of a request that cannot be answered; the protocol it came by gives it its form."""

from mats_ray.errors import MATSError


class RequestError(MATSError):
    """A request that cannot be answered, for a reason its sender may know.

    Attributes:
        code: A key of ``http.errors.STATUS``, which names its HTTP status.
        param: The form field at fault.
        retry_after: Seconds until a retry makes sense; None: as usual for its status.
    """

    def __init__(
        self, message: str, *, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between processes: the default would drop the attributes."""
        return (_rebuild_request_error, (str(self), self.code, self.param, self.retry_after))


def _rebuild_request_error(message: str, code: str, param: str | None, wait: int | None) -> RequestError:
    return RequestError(message, code=code, param=param, retry_after=wait)
