"""Find the audio below a local folder or an s3:// prefix."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fsspec.spec import AbstractFileSystem

from mats_ray.data.objects import is_remote, open_storage, persistently
from mats_ray.errors import DataError

EXTENSIONS = frozenset(
    {
        ".wav",
        ".wave",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
    }
    | {".w64", ".rf64", ".m4a", ".m4b", ".aac", ".wma", ".amr", ".3gp", ".mp4", ".mov", ".webm", ".mka"}
)
"""What counts as audio in a folder, in any case. Formats among them that cannot be decoded are listed too:
a row that says so is better than a file left out without a word."""

_REMOTE_IDENTITIES = ("ETag", "etag", "md5Hash", "crc32c")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioObject:
    """One file or object."""

    path: str
    """Absolute path or URI."""
    size: int
    """Bytes; 0 where it cannot be looked at."""
    etag: str
    """Changes when the content does: the store's own, or made of size and modification time."""


def list_audio(root: str) -> list[AudioObject]:
    """List audio by extension, recursively, sorted by path; a path to one file is taken whatever its name.

    Links to files are listed, links to folders are not entered.

    Raises:
        DataError: Nothing is there, no audio is there, or the storage cannot be reached.
    """
    audio, others, num_others = list[AudioObject](), list[AudioObject](), 0
    for one in _remote(root) if is_remote(root) else _local(root):
        if _is_audio(one.path):
            audio.append(one)
        else:
            others, num_others = [one], num_others + 1
    if not audio and num_others == 1 and _same_file(others[0].path, root):
        return others
    if not audio:
        known = " ".join(sorted(EXTENSIONS))
        raise DataError(f"no audio below {root}: {num_others} files, none ends in one of {known}")
    return sorted(audio, key=lambda one: one.path)


def look_at(path: str) -> AudioObject:
    """Look at one file or object by its path; one that is not there, or cannot be looked at, has no etag."""
    if not is_remote(path):
        return _local_object(Path(path))
    files, key = open_storage(path)
    try:
        info = cast("dict[str, Any]", persistently(lambda: files.info(key)))
    except Exception:  # noqa: BLE001  (every kind of store has its own; reading it will say what is wrong)
        return AudioObject(path=path, size=0, etag="")
    return AudioObject(path=path, size=int(info.get("size") or 0), etag=_remote_etag(info))


def local_etag(path: Path) -> str:
    """Identify a local file's content without reading it: a hash of size and modification time."""
    status = path.stat()
    return hashlib.sha256(f"{status.st_size}-{status.st_mtime_ns}".encode()).hexdigest()[:16]


def _local(root: str) -> Iterator[AudioObject]:
    top = Path(os.path.abspath(root))  # noqa: PTH100  (resolve() would follow links and rename files)
    if top.is_dir():
        for folder, _, names in os.walk(top, onerror=_refuse):
            yield from (_local_object(Path(folder) / name) for name in names)
    elif top.exists():
        yield _local_object(top)
    else:
        raise DataError(f"no file or folder {root}")


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _local_object(path: Path) -> AudioObject:
    name = str(path).encode("utf-8", "backslashreplace").decode()  # a name that is not text becomes one
    try:
        return AudioObject(path=name, size=path.stat().st_size, etag=local_etag(path))
    except OSError:  # a broken link: its row will say so
        return AudioObject(path=name, size=0, etag="")


def _remote(root: str) -> Iterator[AudioObject]:
    files, prefix = open_storage(root)
    found = _pages(files, prefix) if "s3" in files.protocol else _found(files, prefix)
    num_found = 0
    try:
        for key, info in found:
            num_found += 1
            if info.get("type") != "directory" and not key.endswith("/"):
                path = str(files.unstrip_protocol(key))
                yield AudioObject(path=path, size=int(info.get("size") or 0), etag=_remote_etag(info))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"{root} cannot be listed: {type(error).__name__}: {error}") from error
    if not num_found:
        raise DataError(f"nothing at {root}")


def _found(files: AbstractFileSystem, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield keys and what the store says of them, all from one answer."""
    found = cast("dict[str, dict[str, Any]]", persistently(lambda: files.find(prefix, detail=True)))
    yield from found.items()


def _pages(files: AbstractFileSystem, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the same from S3 page by page, each tried again by itself: millions of keys are not held twice.

    s3fs keeps a dictionary of a kilobyte per object until it has all of them.
    """
    bucket, _, folder = prefix.partition("/")
    where = {"Bucket": bucket, "Prefix": f"{folder.rstrip('/')}/" if folder else ""}
    more: str | None = None
    num_found = 0
    while True:
        page = persistently(lambda more=more: _page(files, where, more))
        for one in page.get("Contents", []):
            num_found += 1
            yield f"{bucket}/{one['Key']}", {"size": one["Size"], "ETag": one["ETag"]}
        more = page.get("NextContinuationToken")
        if not more:
            break
    if folder and not num_found:  # an object, not a folder
        yield prefix, cast("dict[str, Any]", persistently(lambda: files.info(prefix)))


def _page(files: Any, where: dict[str, str], more: str | None) -> dict[str, Any]:
    return files.call_s3("list_objects_v2", **where, **({"ContinuationToken": more} if more else {}))


def _remote_etag(info: dict[str, Any]) -> str:
    said = next((info[name] for name in _REMOTE_IDENTITIES if info.get(name)), None)
    return (
        str(said).strip('"') if said else f"{info.get('size')}-{info.get('LastModified', info.get('mtime'))}"
    )


def _is_audio(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in EXTENSIONS  # noqa: PTH122  (also URIs)


def _same_file(path: str, root: str) -> bool:
    return path == root or (not is_remote(root) and path == os.path.abspath(root))  # noqa: PTH100
