"""Stream the audio below a local folder or a prefix of a bucket.

A known extension makes a file audio, or something else; of all other files the first bytes decide. Files that
are left out are counted by extension.

Files come in blocks that grow: the first is there after one page of a listing, later ones are large enough to
be compared with millions of rows. Nothing is held but the block at hand.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.data.audio_files import AudioObject, local_object, local_path, path_text
from mats_ray.data.decoders.containers import HEAD_BYTES, has_audio_signature
from mats_ray.errors import DataError, StorageError
from mats_ray.storage import StoredFile, is_remote, is_s3, list_files, locate, read_bytes, stat
from mats_ray.storage.s3_pages import SCHEMA
from mats_ray.storage.s3_shards import S3Listing, Submit

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

MAX_EXTENSIONS, FURTHER_EXTENSIONS = 1_000, "of further extensions"
"""Most extensions of other files that are counted each, and the name of the rest."""
MAX_HEADS = 10_000
"""Largest number of files of other extensions whose first bytes are read: in a bucket, each is a request."""
HEAD_READERS = 32


FIRST_BLOCK, MAX_BLOCK = 1_000, 131_072
"""Number of files of the first block, and of the last ones."""

Found = TypeVar("Found")

_EXTENSION = r"[^/.][^/]*(?P<extension>\.[^./]*)$"
"""As ``os.path.splitext`` finds it."""


class AudioListing:
    """The audio below a root; a root that is one file is listed whatever its name and content.

    Links to files are listed, links to folders are not entered.

    Args:
        root: Folder, file, or prefix of a bucket.
        prefixes: Beginnings of names below a prefix of S3, listed at the same time, and nothing else.
        resume_after: Returns the last path with a prefix that an earlier job knew (``S3Listing``).

    Attributes:
        left_out: Number of files that are no audio, by extension; those behind ``MAX_EXTENSIONS`` together.
        num_files: Number of audio files so far.
    """

    def __init__(
        self,
        root: str,
        *,
        prefixes: Sequence[str] = (),
        resume_after: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.root, self.left_out, self.num_files = root, Counter[str](), 0
        self._num_heads = 0
        self._s3 = None
        if is_s3(root):
            self._s3 = S3Listing(root, prefixes=prefixes, resume_after=resume_after)

    def run_on(self, submit: Submit) -> None:
        """Make the requests that are still to come elsewhere."""
        if self._s3 is not None:
            self._s3.submit = submit

    def blocks(self) -> Iterator[pa.Table]:
        """Yield the audio: tables of ``s3_pages.SCHEMA``.

        Raises:
            DataError: Nothing is there, no audio is there, or the storage cannot be reached.
        """
        num_listed = 0
        for table in grown(self._tables()):
            if not num_listed and len(table) == 1 and self._is_root(table["path"][0].as_py()):
                self.num_files = 1
                yield table
                return
            num_listed += len(table)
            audio = self._audio(table)
            self.num_files += len(audio)
            if len(audio):
                yield audio.sort_by("path")
        if not num_listed:
            raise DataError(f"{'nothing at' if is_remote(self.root) else 'no audio below'} {self.root}")
        if not self.num_files:
            skipped = format_left_out(self.left_out)
            raise DataError(f"no audio below {self.root}: {num_listed} files ({skipped})")

    def _tables(self) -> Iterator[pa.Table]:
        if not is_remote(self.root):
            yield from _to_tables(_walk(self.root), lambda path: local_object(Path(path)))
        elif self._s3 is None:
            yield from _to_tables(list_files(self.root), _object)
        else:
            num_listed = 0
            for table in self._s3.tables():
                num_listed += len(table)
                yield table
            # a bucket of its own has no name that could be an object's
            if not num_listed and "/" in locate(self.root)[1] and (one := stat(self.root)):
                yield from _to_tables([one], _object)

    def _audio(self, table: pa.Table) -> pa.Table:
        """Select the audio, and count the rest."""
        found = pc.extract_regex(table["path"], _EXTENSION)
        extension_N = pc.fill_null(pc.utf8_lower(pc.struct_field(found, "extension")), "")
        is_audio_N = pc.is_in(extension_N, pa.array(sorted(EXTENSIONS))).to_numpy(zero_copy_only=False)
        is_other_N = pc.is_in(extension_N, pa.array(sorted(OTHER_EXTENSIONS)))
        unknown = np.flatnonzero(~is_audio_N & ~is_other_N.to_numpy(zero_copy_only=False))
        unknown = unknown[: MAX_HEADS - self._num_heads]
        self._num_heads += len(unknown)
        keep_N = is_audio_N.copy()
        if len(unknown):
            keep_N[unknown] = _have_audio_signature(table.take(pa.array(unknown)))
        if keep_N.all():
            return table
        left_out = pc.value_counts(extension_N.filter(pa.array(~keep_N)))
        for one in left_out.to_pylist():
            extension = one["values"]
            known = extension in self.left_out or len(self.left_out) < MAX_EXTENSIONS
            self.left_out[extension if known else FURTHER_EXTENSIONS] += one["counts"]
        return table.filter(pa.array(keep_N))

    def _is_root(self, path: str) -> bool:
        return path == self.root or (not is_remote(self.root) and path == path_text(locate(self.root)[1]))


def list_audio(root: str, *, left_out: Counter[str] | None = None) -> list[AudioObject]:
    """List audio, sorted by path, in memory: ``AudioListing``.

    Args:
        root: Folder, file, or prefix of a bucket.
        left_out: Counts the other files here, by extension.

    Raises:
        DataError: Nothing is there, no audio is there, or the storage cannot be reached.
    """
    listing = AudioListing(root)
    found = [one for block in listing.blocks() for one in audio_objects(block)]
    if left_out is not None:
        left_out.update(listing.left_out)
    return sorted(found, key=lambda one: one.path)


def audio_objects(table: pa.Table) -> Iterator[AudioObject]:
    """Yield the files of a block."""
    columns = (table[name].to_pylist() for name in ("path", "size", "etag"))
    for path, size, etag in zip(*columns, strict=True):
        yield AudioObject(path=path, size=size, etag=etag)


def to_block(objects: Iterable[AudioObject]) -> pa.Table:
    """Make a block of files."""
    rows = [{"path": one.path, "size": one.size, "etag": one.etag} for one in objects]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def grown(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables to blocks of ``FIRST_BLOCK`` rows or more, then twice as many, up to ``MAX_BLOCK``."""
    size, num_rows, waiting = FIRST_BLOCK, 0, list[pa.Table]()
    for table in tables:
        waiting.append(table)
        num_rows += len(table)
        if num_rows >= size:
            yield pa.concat_tables(waiting)
            size, num_rows, waiting = min(2 * size, MAX_BLOCK), 0, []
    if num_rows:
        yield pa.concat_tables(waiting)


def format_left_out(left_out: Counter[str]) -> str:
    """Format counts by extension: ``3 .txt, 1 without extension``; empty where there are none."""
    often = sorted(left_out.items(), key=lambda one: (-one[1], one[0]))[:8]
    shown = [f"{count} {extension or 'without extension'}" for extension, count in often]
    rest = len(left_out) - len(shown)
    return ", ".join([*shown, *([f"{rest} other extensions"] if rest else [])])


def _to_tables(found: Iterable[Found], make: Callable[[Found], AudioObject]) -> Iterator[pa.Table]:
    objects = map(make, found)
    while some := list(itertools.islice(objects, FIRST_BLOCK)):
        yield to_block(some)


def _object(file: StoredFile) -> AudioObject:
    return AudioObject(path=file.path, size=file.size, etag=file.etag)


def _have_audio_signature(table: pa.Table) -> list[bool]:
    """Return which files begin like audio, or cannot be read: their rows have the error."""
    with ThreadPoolExecutor(HEAD_READERS) as pool:
        return list(pool.map(_has_audio_signature, audio_objects(table)))


def _has_audio_signature(one: AudioObject) -> bool:
    path = one.path if is_remote(one.path) else local_path(one.path)
    try:
        head = read_bytes(path, first=HEAD_BYTES) if one.size else b""
    except StorageError:
        return True
    return has_audio_signature(head)


def _walk(root: str) -> Iterator[str]:
    """Yield the paths of the files below a folder, which may hold millions, or that of one file."""
    top = locate(root)[1]
    if not os.path.lexists(top):
        raise DataError(f"no file or folder {root}")
    if not Path(top).is_dir():
        yield top
        return
    folders = [top]
    while folders:
        folder, found = folders.pop(), list[str]()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        yield entry.path
                    elif not entry.is_symlink():
                        found.append(entry.path)
        except OSError as error:
            raise DataError(f"{error.filename} cannot be listed: {error.strerror}") from error
        folders += sorted(found, reverse=True)
