"""Clotho v2.1: five captions per clip. Its metadata file, ISO-8859-1, has each clip's own licence."""

import re
from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row

_CC = re.compile(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)")
_CC0 = re.compile(r"creativecommons\.org/publicdomain/zero/(\d\.\d)")
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``clotho_captions_*.csv``; an empty caption costs that caption."""
    licenses = clip_licenses(file)
    for record in table_records(file, needed=("file_name", *CAPTIONS)):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        name = cells["file_name"]
        for place, column in enumerate(CAPTIONS, start=1):
            if cells[column]:
                yield Row(number, f"{name}/{place}", text=cells[column], license=licenses.get(name, ""))
            else:
                yield Rejected(number, f"empty {column}")


def clip_licenses(file: AnnotationFile) -> dict[str, str]:
    """Map clip to licence from the companions ``metadata``: some thousand clips, held in memory."""
    found: dict[str, str] = {}
    for path in file.companions.get("metadata", ()):
        metadata = file.companion(path)
        delimiter = ";" if _is_test_metadata(metadata) else ","
        records = table_records(
            metadata, needed=("file_name", "license"), delimiter=delimiter, encoding="latin-1"
        )
        for record in records:
            if not isinstance(record, Rejected):
                found[record[1]["file_name"]] = license_name(record[1]["license"])
    return found


def license_name(url: str) -> str:
    """Shorten a Creative Commons address to what people write: ``CC BY-NC 3.0``; others stay as they are."""
    if found := _CC0.search(url):
        return f"CC0 {found[1]}"
    found = _CC.search(url)
    return f"CC {found[1].upper()} {found[2]}" if found else url


def _is_test_metadata(file: AnnotationFile) -> bool:
    """The metadata of Clotho's test clips has semicolons between its columns."""
    header = next(file.lines(), "")
    return header.count(";") > header.count(",")
