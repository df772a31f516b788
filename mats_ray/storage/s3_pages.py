"""Pages of an S3 listing as Arrow tables: ListObjectsV2, its answers parsed by expat in one go.

botocore builds a dictionary of a kilobyte per object, field by field in Python; a listing of millions of
objects spends nearly all its time there.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import fsspec.asyn
import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.storage.access import locate
from mats_ray.storage.retries import retry, storage_errors

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("etag", pa.string())])
"""Objects: URI, size in bytes, and the store's ETag without quotes."""
PAGE_KEYS = 1_000
"""Largest number of keys that S3 puts on a page."""

_own_parser = ContextVar("own_parser", default=False)
"""Whether the request under way is one of ours: s3fs's own listings keep botocore's parser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a listing."""

    objects: pa.Table
    """``SCHEMA``, in the order of the store."""
    prefixes: tuple[str, ...]
    """URIs of the folders at this level, each with its slash; empty for a listing without delimiter."""
    token: str | None
    """Where the next page begins; None: this is the last one."""


def read_page(
    prefix: str, *, token: str | None = None, start_after: str = "", delimiter: bool = False
) -> Page:
    """Request one page of the objects whose URI begins with a prefix, retried while the store fails.

    Args:
        prefix: URI; any beginning of a key, not only a folder.
        token: Of the page before.
        start_after: URI after which the listing starts.
        delimiter: List one level only, and the folders at it.

    Raises:
        StorageError: It cannot be listed.
    """
    files = cast("Any", locate(prefix)[0])
    scheme, _, rest = prefix.partition("://")
    bucket, _, key = rest.partition("/")
    request = {"Bucket": bucket, "Prefix": key, "EncodingType": "url"}
    request |= {"Delimiter": "/"} if delimiter else {}
    request |= {"ContinuationToken": token} if token else {}
    request |= {"StartAfter": start_after.partition("://")[2].partition("/")[2]} if start_after else {}
    with storage_errors(prefix, "listed"):
        answer = retry(lambda: cast("dict[str, Any]", fsspec.asyn.sync(files.loop, _request, files, request)))
    return _page(answer["ParsedPage"], f"{scheme}://{bucket}")


def read_pages(prefix: str, *, token: str | None = None, start_after: str = "", num_pages: int = 1) -> Page:
    """Request consecutive pages, as one; arguments and errors are those of ``read_page``."""
    pages = [read_page(prefix, token=token, start_after=start_after)]
    while len(pages) < num_pages and pages[-1].token:
        pages.append(read_page(prefix, token=pages[-1].token))
    return Page(
        objects=pa.concat_tables([page.objects for page in pages]), prefixes=(), token=pages[-1].token
    )


async def _request(files: Any, request: dict[str, str]) -> dict[str, Any]:
    await files.set_session()
    client = await files.get_s3(request["Bucket"])
    # "*.*" comes before "s3.*", where botocore's own handler parses the whole answer to see whether it is an
    # error
    client.meta.events.register("before-parse.*.*", _parse, unique_id="mats_ray-listing")
    _own_parser.set(True)
    return await files._call_s3("list_objects_v2", **request)


def _parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Parse the body of an answer, and leave botocore an empty one; errors are botocore's."""
    if not _own_parser.get() or response_dict["status_code"] >= 300:
        return
    root = ElementTree.fromstring(response_dict["body"])  # noqa: S314  (expat limits entities by itself)
    if root.tag.endswith("Error"):  # S3 answers with one and status 200
        return
    customized_response_dict["ParsedPage"] = root
    response_dict["body"] = b"<ListBucketResult/>"


def _page(root: ElementTree.Element, bucket: str) -> Page:
    namespace, bracket, _ = root.tag.rpartition("}")
    space = namespace + bracket
    is_encoded = root.findtext(f"{space}EncodingType") == "url"

    def uri(key: str) -> str:
        return f"{bucket}/{unquote_plus(key)}" if is_encoded else f"{bucket}/{key}"

    keys, sizes, etags = _columns(root, [f"{space}Key", f"{space}Size", f"{space}ETag"], f"{space}Contents")
    columns = [
        pa.array([uri(key) for key in keys], pa.string()),
        pa.array([int(size or 0) for size in sizes], pa.int64()),
        pc.utf8_trim(pa.array(etags, pa.string()), '"'),
    ]
    prefixes = [one.findtext(f"{space}Prefix") or "" for one in root.findall(f"{space}CommonPrefixes")]
    return Page(
        objects=pa.Table.from_arrays(columns, schema=SCHEMA),
        prefixes=tuple(uri(one) for one in prefixes),
        token=root.findtext(f"{space}NextContinuationToken") or None,
    )


def _columns(root: ElementTree.Element, names: Sequence[str], each: str) -> list[list[str]]:
    """Return the texts of some fields of each object; a store may leave one out."""
    objects = root.findall(each)
    columns = [[one.text or "" for one in root.iter(name)] for name in names]
    if all(len(column) == len(objects) for column in columns):
        return columns
    return [[one.findtext(name) or "" for one in objects] for name in names]
