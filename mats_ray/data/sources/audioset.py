"""AudioSet, weak and strong: labels are machine ids, their names are in a file beside."""

from collections.abc import Iterator

from mats_ray.data.sources.labels import names_by_id
from mats_ray.data.sources.rows import AnnotationFile, Entry, Rejected, Row
from mats_ray.data.sources.tables import table_records

_WEAK = ("ytid", "start", "end", "mids")
_STRONG = ("segment_id", "start_time_seconds", "end_time_seconds", "label")


def read_weak(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``*_segments.csv``: three comment lines, a space after each comma."""
    names = names_by_id(file)
    for record in table_records(file, names=_WEAK, space_after_comma=True, comment="#"):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        yield labelled(number, f"{cells['ytid']}_{cells['start']}", cells["mids"].split(","), names)


def read_strong(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``audioset_*_strong.tsv``: one line per event, the lines of a segment together.

    Segment ids are held in memory, some 100,000, to tell if one comes back later.
    """
    names, seen = names_by_id(file), set[str]()
    segment, first, mids = "", 0, list[str]()
    for record in table_records(file, needed=_STRONG, delimiter="\t", quoted=False):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        if cells["segment_id"] in seen and cells["segment_id"] != segment:
            yield Rejected(number, "a segment whose other events stand elsewhere")
            continue
        if cells["segment_id"] != segment:
            if segment:
                yield labelled(first, segment, mids, names)
            segment, first, mids = cells["segment_id"], number, []
            seen.add(segment)
        mids.append(cells["label"])
    if segment:
        yield labelled(first, segment, mids, names)


def labelled(number: int, key: str, mids: list[str], names: dict[str, str]) -> Entry:
    """Make a row of machine ids, each once, in their order."""
    unknown = [mid for mid in mids if mid not in names]
    if unknown:
        return Rejected(number, f"unknown label {unknown[0]!r}" if unknown[0] else "no labels")
    return Row(number, key, labels=tuple(dict.fromkeys(names[mid] for mid in mids)))
