"""Samples to the files of their audio, by published names, in any folder layout and any audio format."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mats_ray.data.audio_files import AudioObject
from mats_ray.data.audio_listing import EXTENSIONS
from mats_ray.errors import DataError, abbreviated
from mats_ray.evaluate.benchmark import Sample


@dataclass(frozen=True, kw_only=True)
class AudioMatches:
    """Which file each sample has."""

    objects: Mapping[str, AudioObject]
    """By id of the sample; absent where there is none."""
    ambiguous: Sequence[str]
    """Ids of samples whose name fits several files: they have none."""

    @property
    def files(self) -> list[AudioObject]:
        """All files, each once."""
        return list({one.path: one for one in self.objects.values()}.values())


def match_audio(samples: Sequence[Sample], files: Iterable[AudioObject], *, where: str) -> AudioMatches:
    """Find the file of every sample.

    A name fits a file with the same name apart from an audio extension; of several such files, those whose
    folders end with the folders of the name, then the one with the very same extension.

    Args:
        samples: With the names of their audio, best first.
        files: Listed files.
        where: Place of the files, for the error.

    Raises:
        DataError: Not one sample has a file.
    """
    by_stem = defaultdict[str, list[AudioObject]](list)
    for one in files:
        by_stem[_stem(_normal(one.path))].append(one)
    objects, ambiguous = dict[str, AudioObject](), list[str]()
    for sample in samples:
        found = next((fits for name in sample.audio if (fits := _fitting(_normal(name), by_stem))), [])
        if len(found) == 1:
            objects[sample.id] = found[0]
        elif found:
            ambiguous.append(sample.id)
    if not objects:
        wanted = abbreviated(samples[0].audio, most=3)
        present = abbreviated(
            (one.path.rpartition("/")[2] for some in by_stem.values() for one in some), most=2
        )
        raise DataError(
            f"{where} has audio of none of the {len(samples)} samples: the first is published as {wanted}; "
            f"files there are called {present}"
        )
    return AudioMatches(objects=objects, ambiguous=ambiguous)


def _fitting(name: str, by_stem: Mapping[str, Sequence[AudioObject]]) -> list[AudioObject]:
    found = list(by_stem.get(_stem(name), ()))
    folders = PurePosixPath(name).parts[:-1]
    if len(found) > 1 and folders:
        found = [
            one for one in found if PurePosixPath(_normal(one.path)).parts[-len(folders) - 1 : -1] == folders
        ]
    if len(found) > 1:
        last = PurePosixPath(name).name
        found = [one for one in found if _normal(one.path).rpartition("/")[2] == last] or found
    return found


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return stem if dot and stem and f".{extension.lower()}" in EXTENSIONS else name


def _normal(path: str) -> str:
    """Compose accents: archives made on macOS store them decomposed."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)
