"""Files in local folders and below s3:// (gs://, ...) prefixes: opened, listed, written in one step, retried.

Whatever fails is a ``StorageError`` that names path and cause; it imports neither Ray nor torch.
"""

from mats_ray.storage.access import Environment, is_remote, is_s3, locate, s3_options
from mats_ray.storage.listing import StoredFile, exists, list_files, local_etag, name_of, stat
from mats_ray.storage.lock import lock_folder
from mats_ray.storage.parquet import UNFINISHED, check_finished, parquet_files, reading_parquet
from mats_ray.storage.reading import download, fetch_into, open_input, read_bytes
from mats_ray.storage.retries import ATTEMPTS, ATTEMPTS_REFUSED, ChangedError, retry
from mats_ray.storage.writing import (
    clear_pending,
    make_folder,
    open_output,
    remove,
    remove_folder,
    upload,
    write_bytes,
    write_file,
)

__all__ = [
    "ATTEMPTS",
    "ATTEMPTS_REFUSED",
    "UNFINISHED",
    "ChangedError",
    "Environment",
    "StoredFile",
    "check_finished",
    "clear_pending",
    "download",
    "exists",
    "fetch_into",
    "is_remote",
    "is_s3",
    "list_files",
    "local_etag",
    "locate",
    "lock_folder",
    "make_folder",
    "name_of",
    "open_input",
    "open_output",
    "parquet_files",
    "read_bytes",
    "reading_parquet",
    "remove",
    "remove_folder",
    "retry",
    "s3_options",
    "stat",
    "upload",
    "write_bytes",
    "write_file",
]
