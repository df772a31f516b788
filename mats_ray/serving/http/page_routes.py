"""The page at / and the documentation at /docs: files of this package, nothing from any other host."""

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from mats_ray.serving.errors import RequestError

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ogg": "audio/ogg",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def page_routes() -> APIRouter:
    """Make the routes of the page and the documentation, which need no key."""
    router = APIRouter(include_in_schema=False)
    parts = _read_all()

    @router.get("/")
    async def index() -> Response:
        return parts["index.html"]

    @router.get("/docs")
    async def docs() -> Response:
        return parts["docs.html"]

    @router.get("/page/{name:path}")
    async def part(name: str) -> Response:
        if name not in parts:
            raise RequestError(f"the page has no part {name!r}", code="not_found")
        return parts[name]

    return router


def _read_all() -> dict[str, Response]:
    """Read every file once; so no name in a request reaches the file system."""
    folder = files("mats_ray.serving.http") / "page"
    found = {entry.name: entry for entry in folder.iterdir() if entry.is_file()}
    found |= {f"examples/{entry.name}": entry for entry in (folder / "examples").iterdir()}
    return {
        name: Response(entry.read_bytes(), media_type=_TYPES["." + name.rpartition(".")[2]], headers=_HEADERS)
        for name, entry in found.items()
        if "." + name.rpartition(".")[2] in _TYPES
    }
