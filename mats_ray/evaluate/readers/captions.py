"""Captions by clip: AudioCaps, Clotho and MusicCaps."""

from collections.abc import Iterator

from mats_ray.data.annotations.cell_values import boolean
from mats_ray.data.annotations.csv_records import Record, table_records
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected
from mats_ray.data.sources import clotho
from mats_ray.evaluate.benchmark import Entry, Sample
from mats_ray.evaluate.readers.youtube import only_clip_names
from mats_ray.evaluate.samples import OTHER_SPLIT

_CLIP_SECONDS = 10
_MUSICCAPS_COLUMNS = ("ytid", "start_s", "end_s", "caption", "is_audioset_eval")


def read_audiocaps(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``test.csv``: a row per caption, the five of a clip apart; 975 clips, held in memory."""
    clips = dict[str, tuple[int, list[str]]]()
    for record in table_records(file, needed=("youtube_id", "start_time", "caption")):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        if not cells["youtube_id"] or not cells["start_time"].isdecimal():
            yield Rejected(number, "no youtube_id, or no start_time in seconds")
        elif not cells["caption"]:
            yield Rejected(number, "empty caption")
        else:
            clip = clips.setdefault(cells["youtube_id"], (int(cells["start_time"]), []))
            clip[1].append(cells["caption"])
    for video, (start, captions) in clips.items():
        names = only_clip_names(video, start, start + _CLIP_SECONDS)
        yield Sample(id=video, audio=names, references=tuple(captions))


def read_clotho(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``clotho_captions_evaluation.csv``: five captions in a row; an empty one costs that caption."""
    for record in table_records(file, needed=("file_name", *clotho.CAPTIONS)):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        captions = tuple(cells[column] for column in clotho.CAPTIONS if cells[column])
        for column in ("file_name", *clotho.CAPTIONS):
            if not cells[column]:
                yield Rejected(number, f"empty {column}")
        if captions and (name := cells["file_name"]):
            yield Sample(id=name, audio=(name,), references=captions)


def read_musiccaps(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``musiccaps-public.csv``: one caption per clip; AudioSet's evaluation clips are the test split."""
    for record in table_records(file, needed=_MUSICCAPS_COLUMNS):
        yield record if isinstance(record, Rejected) else _musiccaps_clip(record)


def _musiccaps_clip(record: Record) -> Entry:
    number, cells = record
    is_test = boolean(cells["is_audioset_eval"])
    if is_test is None:
        return Rejected(number, f"is_audioset_eval is neither true nor false: {cells['is_audioset_eval']!r}")
    if not is_test:
        return Dropped(number, OTHER_SPLIT)
    if not cells["caption"]:
        return Rejected(number, "empty caption")
    video, start, end = cells["ytid"], cells["start_s"], cells["end_s"]
    if not video or not (start.isdecimal() and end.isdecimal()):
        return Rejected(number, "no ytid, or no start_s and end_s in seconds")
    names = only_clip_names(video, int(start), int(end))
    return Sample(id=video, audio=names, references=(cells["caption"],))
