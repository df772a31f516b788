"""Find the audio below a local folder or an s3:// prefix.

A known extension makes a file audio, or something else; of all other files the first bytes decide. Files
that are left out are counted by extension.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mats_ray.data.decoders.containers import HEAD_BYTES, has_audio_signature
from mats_ray.errors import DataError, StorageError
from mats_ray.storage import is_remote, list_files, local_etag, locate, read_bytes, stat

EXTENSIONS = frozenset(
    {
        *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".ogx", ".opus", ".spx"),
        *(".mp1", ".mp2", ".mp3", ".mpga", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
        *(".m4a", ".m4b", ".m4p", ".m4r", ".m4v", ".mp4", ".mov", ".3gp", ".3gpp", ".3g2", ".qt"),
        *(".mka", ".mkv", ".mk3d", ".webm", ".weba", ".aac", ".adts", ".amr", ".awb", ".wma", ".wmv", ".asf"),
        *(".ac3", ".eac3", ".dts", ".ape", ".wv", ".tta", ".mpc", ".dsf", ".dff", ".shn", ".gsm", ".voc"),
        *(".avi", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".ogv", ".ogm", ".ra", ".rm", ".sph"),
    }
)
"""Extensions of audio, in any case. Formats among them that cannot be decoded are listed, too: a row with the
error is better than a file that is left out."""

OTHER_EXTENSIONS = frozenset(
    {
        *(".txt", ".md", ".rst", ".html", ".htm", ".xml", ".json", ".jsonl", ".yaml", ".yml", ".toml"),
        *(".csv", ".tsv", ".parquet", ".arrow", ".npy", ".npz", ".h5", ".pdf", ".doc", ".docx", ".xlsx"),
        *(".jpg", ".jpeg", ".png", ".gif", ".webp", ".svg", ".bmp", ".tif", ".tiff", ".ico", ".heic"),
        *(".srt", ".vtt", ".lrc", ".cue", ".log", ".m3u", ".m3u8", ".pls", ".mid", ".midi", ".textgrid"),
        *(".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".tar", ".7z", ".rar", ".py", ".sh", ".js", ".css"),
        *(".md5", ".sha1", ".sha256", ".bak", ".lock", ".tmp", ".part", ".db", ".sqlite", ".pt", ".pth"),
    }
)
"""Extensions that are left out, and counted, without reading the first bytes."""

MAX_HEADS = 10_000
"""Largest number of files of other extensions whose first bytes are read: in a bucket, each is a request."""
HEAD_READERS = 32

_ESCAPED = re.compile(r"\\x(5c|[89a-f][0-9a-f])")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioObject:
    """One file or object."""

    path: str
    """Absolute path or URI."""
    size: int
    """Size in bytes; 0 where it is not known."""
    etag: str
    """Changes when the content does: the store's own, or made of size and modification time."""


def list_audio(root: str, *, left_out: Counter[str] | None = None) -> list[AudioObject]:
    """List audio, recursively, sorted by path; a path to one file is listed whatever its name and content.

    Links to files are listed, links to folders are not entered.

    Args:
        root: Folder, file, or prefix of a bucket.
        left_out: Counts the other files here, by extension.

    Raises:
        DataError: Nothing is there, no audio is there, or the storage cannot be reached.
    """
    left_out = Counter[str]() if left_out is None else left_out
    audio, unknown = list[AudioObject](), list[AudioObject]()
    num_files, other = 0, None
    for one in _remote(root) if is_remote(root) else _local(root):
        num_files, other = num_files + 1, one
        extension = _extension(one.path)
        if extension in EXTENSIONS:
            audio.append(one)
        elif extension in OTHER_EXTENSIONS or len(unknown) >= MAX_HEADS:
            left_out[extension] += 1
        else:
            unknown.append(one)
    if num_files == 1 and other is not None and _same_file(other.path, root):
        left_out.clear()
        return [other]
    audio += _by_content(unknown, left_out)
    if not audio:
        raise DataError(f"no audio below {root}: {num_files} files ({format_left_out(left_out) or 'none'})")
    return sorted(audio, key=lambda one: one.path)


def format_left_out(left_out: Counter[str]) -> str:
    """Format counts by extension: ``3 .txt, 1 without extension``; empty where there are none."""
    often = sorted(left_out.items(), key=lambda one: (-one[1], one[0]))[:8]
    shown = [f"{count} {extension or 'without extension'}" for extension, count in often]
    rest = len(left_out) - len(shown)
    return ", ".join([*shown, *([f"{rest} other extensions"] if rest else [])])


def _by_content(unknown: list[AudioObject], left_out: Counter[str]) -> Iterable[AudioObject]:
    """Yield those whose first bytes are those of audio, and unreadable ones: their rows have the error."""
    with ThreadPoolExecutor(HEAD_READERS) as pool:
        found = pool.map(_has_audio_signature, unknown)
        for one, is_audio in zip(unknown, found, strict=True):
            if is_audio:
                yield one
            else:
                left_out[_extension(one.path)] += 1


def _has_audio_signature(one: AudioObject) -> bool:
    path = one.path if is_remote(one.path) else local_path(one.path)
    try:
        head = read_bytes(path, first=HEAD_BYTES) if one.size else b""
    except StorageError:
        return True
    return has_audio_signature(head)


def stat_audio(path: str) -> AudioObject:
    """Return one file or object with its size and etag; without an etag if it cannot be reached."""
    if not is_remote(path):
        return _local_object(Path(local_path(path)))
    try:
        found = stat(path)
    except StorageError:  # the error comes when it is read
        found = None
    return AudioObject(path=path, size=found.size if found else 0, etag=found.etag if found else "")


def _local(root: str) -> Iterator[AudioObject]:
    top = Path(locate(root)[1])
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
    name = path_text(str(path))
    try:
        status = path.stat()
        return AudioObject(path=name, size=status.st_size, etag=local_etag(status))
    except OSError:  # a broken link: its row has the error
        return AudioObject(path=name, size=0, etag="")


def _remote(root: str) -> Iterator[AudioObject]:
    num_found = 0
    for one in list_files(root):
        num_found += 1
        yield AudioObject(path=one.path, size=one.size, etag=one.etag)
    if not num_found:
        raise DataError(f"nothing at {root}")


def path_text(path: str) -> str:
    """Write a local path as text ``local_path`` finds again: a byte that is not UTF-8 becomes its escape."""
    literal = _ESCAPED.sub(lambda found: f"\\x5c{found[0][1:]}", path)
    return literal.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def local_path(text: str) -> str:
    """Return the local path that ``path_text`` made a text of; any other path stays as it is."""
    if _ESCAPED.search(text):
        raw = _ESCAPED.sub(lambda found: os.fsdecode(bytes([int(found[1], 16)])), text)
        if os.path.lexists(raw):
            return raw
    return text


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  (also URIs)


def _same_file(path: str, root: str) -> bool:
    return path == root or (not is_remote(root) and path == path_text(locate(root)[1]))
