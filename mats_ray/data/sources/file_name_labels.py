"""Sets whose annotation is the name of the audio file: GTZAN, Beijing Opera, SESA, CREMA-D, RAVDESS.

One reader, a pattern and a table each. What is read is the folder of audio, or a text file with its names.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from mats_ray.data.annotations.cell_values import split_of_folders
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Entry, Reader, Rejected, Row, file_names

_AUDIO = re.compile(r"\.(wav|au|mp3|flac|ogg)$", re.IGNORECASE)

GENRES = {
    "blues": "blues", "classical": "classical", "country": "country", "disco": "disco", "hiphop": "hip hop",
    "jazz": "jazz", "metal": "metal", "pop": "pop", "reggae": "reggae", "rock": "rock",
}  # fmt: skip
PERCUSSION = {
    "bangu": "Clapper-drum",
    "daluo": "Large gong",
    "naobo": "Cymbals",
    "xiaoluo": "Small gong",
}
SURVEILLANCE = {one: one for one in ("casual", "gunshot", "explosion", "siren")}
CREMA_D = {
    "ANG": "angry",
    "DIS": "disgusted",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
RAVDESS = dict(
    zip(
        (f"{number:02d}" for number in range(1, 9)),
        ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgusted", "surprised"),
        strict=True,
    )
)


def reader(pattern: str, labels: Mapping[str, str]) -> Reader:
    """Return a reader; the pattern's group ``label`` is looked up in ``labels``."""
    return partial(_read, pattern=re.compile(pattern), labels=labels)


def _read(file: AnnotationFile, *, pattern: re.Pattern[str], labels: Mapping[str, str]) -> Iterator[Entry]:
    for number, path in enumerate(file_names(file.path), start=1):
        if not _AUDIO.search(path):
            yield Dropped(number, "no audio file")
            continue
        found = pattern.search(path.rpartition("/")[2])
        label = labels.get(found["label"]) if found else None
        if label is None:
            yield Rejected(number, f"no label in the file name {path!r}")
        else:
            yield Row(number, path, labels=(label,), split=split_of_folders(path))
