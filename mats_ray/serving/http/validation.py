"""Checks of every body before a route gets it: known fields, Unicode, finite numbers, bounded depth."""

import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from mats_ray.text import is_valid_unicode

MAX_DEPTH = 16
_UNICODE = "is not valid Unicode"


class RequestModel(BaseModel):
    """Base of request bodies: a field that has no effect is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def fields_are_known(cls, tree: Any) -> Any:
        """Refuse an unknown field by name, with those that there are."""
        unknown = [name for name in tree if name not in cls.model_fields] if isinstance(tree, dict) else []
        if unknown:
            allowed = ", ".join(cls.model_fields)
            what = {"field": unknown[0], "allowed": allowed}
            raise PydanticCustomError("unknown_field", "there is no such field; allowed: {allowed}", what)
        return tree


class CheckedRequest(Request):
    """A request whose body is checked where it is parsed."""

    async def json(self) -> Any:
        """Parse a JSON body; fields that are ``null`` are left out.

        Raises:
            HTTPException: 422 for a value that cannot be used.
        """
        return without_nulls(await super().json())

    async def form(self, **limits: Any) -> FormData:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse a form of UTF-8.

        Raises:
            HTTPException: 400 for what is no form, 422 for a field that is not UTF-8.
        """
        content_type = self.headers.get("content-type", "")
        if not content_type.lower().startswith("multipart/"):
            return await super().form(**limits)
        if self._fields is None:
            # Starlette silently decodes other bytes than UTF-8 as Latin-1; Latin-1 throughout loses nothing
            headers = self.headers.mutablecopy()
            headers["content-type"] = f"{content_type}; charset=latin-1"
            form = await Request({**self.scope, "headers": headers.raw}, self.receive).form(**limits)
            self._fields = FormData([_field(name, value) for name, value in form.multi_items()])
        return self._fields

    _fields: FormData | None = None


class CheckedRoute(APIRoute):
    """A route that gets its body from a ``CheckedRequest``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI's ``APIRoute``."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            return await handle(CheckedRequest(request.scope, request.receive))

        return checked


def without_nulls(value: Any, where: str = "", depth: int = 0) -> Any:
    """Return a JSON value without the fields that are null.

    Args:
        value: As returned by ``json.loads``.
        where: Its path, ``messages[0].content``.
        depth: Number of containers around it.

    Raises:
        HTTPException: Text is not Unicode, a number not finite, or containers are nested too deep.
    """
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise HTTPException(422, f"{where or 'the body'} = {value} is not a finite number")
    if isinstance(value, dict | list) and depth == MAX_DEPTH:
        raise HTTPException(422, f"{where} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [without_nulls(item, f"{where}[{n}]", depth + 1) for n, item in enumerate(value)]
    if isinstance(value, dict):
        for name in value:
            _text(name, f"a field's name in {where or 'the body'}")
        return {
            name: without_nulls(item, f"{where}.{name[:60]}".removeprefix("."), depth + 1)
            for name, item in value.items()
            if item is not None
        }
    return value


def _text(text: str, where: str) -> str:
    if not is_valid_unicode(text):
        raise HTTPException(422, f"{where or 'the body'} {_UNICODE}: it holds half of a surrogate pair")
    return text


def _field(name: str, value: UploadFile | str) -> tuple[str, UploadFile | str]:
    name = _utf8(name, "a field's name")
    if isinstance(value, str):
        return name, _utf8(value, f"the field {name[:60]!r}")
    value.filename = (value.filename or "").encode("latin-1", "replace").decode("utf-8", "replace")
    return name, value


def _utf8(text: str, what: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise HTTPException(422, f"{what} {_UNICODE}: a form is read as UTF-8") from None
