"""The one table of sources: reader, task, licence, published files.

Licences are those of the annotations as their authors state them, "unknown" where we could not find one; no
legal advice. ``--license-allow`` compares these strings.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from mats_ray.data.annotations.reader import Reader
from mats_ray.data.sources import (
    audiocaps,
    audioset,
    clotho,
    clotho_aqa,
    dcase2017,
    esc50,
    file_name_labels,
    fsd50k,
    macs,
    musiccaps,
    musicqa,
    nsynth,
    openaqa,
    song_describer,
    tut,
    urbansound8k,
    vggsound,
    vocalsound,
    wavcaps,
)
from mats_ray.tasks import Task


class LabelKind(StrEnum):
    """Kind of the labels of a source."""

    SOUND = "sound"
    SCENE = "scene"
    VOCAL = "vocal"
    EMOTION = "emotion"
    GENRE = "genre"
    INSTRUMENT = "instrument"
    MUSIC = "music"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One set of annotations."""

    name: str
    read: Reader
    task: Task
    license: str
    files: tuple[tuple[str, str], ...] = ()
    """(pattern of a file name, split) as published. Empty: names of audio files are the data."""
    kind: LabelKind | None = None
    """Kind of its labels; ``None``: its records have texts."""
    splits: tuple[str, ...] = ("train",)
    """Splits to train on by default."""
    copies: int = 1
    """Number of rows per clip, each with another sentence, as AudioTIA's row counts imply."""
    several_captions: bool = False
    """Clips have several captions, and ids tell which: those of one clip are equal up to the last ``/``."""

    def split_of(self, file_name: str) -> str | None:
        """Return the split of a published file; ``None``: the name is not published."""
        return next((split for pattern, split in self.files if re.fullmatch(pattern, file_name)), None)


_AUDIOCAPS_FILES = ((r"train\.csv", "train"), (r"val\.csv", "val"), (r"test\.csv", "test"))
_AQA_FILES = tuple((rf"clotho_aqa_{split}\.csv", split) for split in ("train", "val", "test"))
_CLEAN_FILES = tuple((rf"clotho_aqa_{split}_clean\.csv", split) for split in ("train", "val", "test"))
_CLOTHO_FILES = (
    (r"clotho_captions_development\.csv", "train"),
    (r"clotho_captions_validation\.csv", "val"),
    (r"clotho_captions_evaluation\.csv", "test"),
)
_MUSICQA_FILES = (("(Pretrain|Finetune)MusicQA.json", "train"), ("EvalMusicQA.json", "test"))


def _captions(
    name: str,
    read: Reader,
    license_: str,
    *files: tuple[str, str],
    music: bool = False,
    several: bool = False,
) -> Source:
    task = Task.MUSIC_CAPTION if music else Task.CAPTION
    return Source(name=name, read=read, task=task, license=license_, files=files, several_captions=several)


def _labels(
    name: str,
    read: Reader,
    kind: LabelKind,
    license_: str,
    *files: tuple[str, str],
    copies: int = 1,
    splits: tuple[str, ...] = ("train",),
) -> Source:
    task = Task.CLASSIFICATION
    return Source(
        name=name,
        read=read,
        task=task,
        license=license_,
        files=files,
        kind=kind,
        copies=copies,
        splits=splits,
    )


def _questions(
    name: str, read: Reader, license_: str, *files: tuple[str, str], splits: tuple[str, ...] = ("train",)
) -> Source:
    return Source(name=name, read=read, task=Task.QA, license=license_, files=files, splits=splits)


_ALL = (
    _captions("clotho", clotho.read, "Tampere University, non-commercial", *_CLOTHO_FILES, several=True),
    _captions("audiocaps", audiocaps.read, "MIT", *_AUDIOCAPS_FILES, several=True),
    _captions("audiocaps2", audiocaps.read, "MIT", *_AUDIOCAPS_FILES, several=True),
    _captions("audiocaps_fixed", audiocaps.read, "MIT", (r"train_v2\.csv", "train")),
    _captions("musiccaps", musiccaps.read, "CC BY-SA 4.0", (r"musiccaps-public\.csv", "train"), music=True),
    _captions(
        "wavcaps_audioset", wavcaps.reader("AudioSet"), "CC BY 4.0, academic use", ("as_final.json", "train")
    ),
    _captions(
        "wavcaps_freesound",
        wavcaps.reader("FreeSound"),
        "CC BY 4.0, academic use",
        ("fsd_final.json", "train"),
    ),
    _captions("wavcaps_bbc", wavcaps.reader(None), "CC BY 4.0, academic use", ("bbc_final.json", "train")),
    _captions(
        "wavcaps_soundbible", wavcaps.reader(None), "CC BY 4.0, academic use", ("sb_final.json", "train")
    ),
    _captions("macs", macs.read, "non-commercial", (r"MACS\.yaml", "train"), several=True),
    _captions(
        "song_describer",
        song_describer.read,
        "CC BY-SA 4.0",
        ("song_describer.csv", "train"),
        music=True,
        several=True,
    ),
    _captions(
        "magnatagatune", musicqa.read_captions, "unknown", ("FinetuneMusicQA.json", "train"), music=True
    ),
    _labels(
        "audioset",
        audioset.read_weak,
        LabelKind.SOUND,
        "CC BY 4.0",
        (r"(un)?balanced_train_segments\.csv", "train"),
        (r"eval_segments\.csv", "test"),
    ),
    _labels(
        "audioset_strong",
        audioset.read_strong,
        LabelKind.SOUND,
        "CC BY 4.0",
        (r"audioset_train_strong\.tsv", "train"),
        (r"audioset_eval_strong\.tsv", "test"),
    ),
    _labels(
        "fsd50k",
        fsd50k.read,
        LabelKind.SOUND,
        "CC BY 4.0",
        (r"dev\.csv", "train"),
        (r"eval\.csv", "test"),
        splits=("train", "val"),
    ),
    _labels(
        "vggsound",
        vggsound.read,
        LabelKind.SOUND,
        "CC BY 4.0",
        (r"vggsound\.csv", "train"),
    ),
    _labels("esc50", esc50.read, LabelKind.SOUND, "CC BY-NC 3.0", (r"esc50\.csv", "train"), copies=11),
    _labels(
        "urbansound8k",
        urbansound8k.read,
        LabelKind.SOUND,
        "CC BY-NC 3.0",
        (r"UrbanSound8K\.csv", "train"),
        copies=2,
    ),
    _labels(
        "tut2017",
        tut.read,
        LabelKind.SCENE,
        "non-commercial",
        (r"meta\.txt", "train"),
        (r"evaluate\.txt", "test"),
        copies=3,
    ),
    _labels(
        "dcase2017_task4",
        dcase2017.read,
        LabelKind.SOUND,
        "CC BY 4.0",
        (r"training_set\.csv", "train"),
        (r"testing_set\.csv", "val"),
        (r"evaluation_set\.csv", "test"),
    ),
    _labels(
        "vocalsound",
        vocalsound.read,
        LabelKind.VOCAL,
        "CC BY-SA 4.0",
        (r"tr\.json", "train"),
        (r"val\.json", "val"),
        (r"te\.json", "test"),
    ),
    _labels(
        "gtzan",
        file_name_labels.reader(r"^(?P<label>[a-z]+)\.\d+\.", file_name_labels.GENRES),
        LabelKind.GENRE,
        "unknown",
        copies=20,
    ),
    _labels(
        "beijing_opera",
        file_name_labels.reader(r"__ajaysm__(?P<label>[a-z]+)-?\d*", file_name_labels.PERCUSSION),
        LabelKind.INSTRUMENT,
        "CC BY-NC 3.0",
        copies=50,
    ),
    _labels(
        "sesa",
        file_name_labels.reader(r"^(?P<label>[a-z]+)_", file_name_labels.SURVEILLANCE),
        LabelKind.SOUND,
        "CC BY 4.0",
        copies=12,
    ),
    _labels(
        "crema_d",
        file_name_labels.reader(r"^\d{4}_[A-Z]{3}_(?P<label>[A-Z]{3})_", file_name_labels.CREMA_D),
        LabelKind.EMOTION,
        "ODbL 1.0",
    ),
    _labels(
        "ravdess",
        file_name_labels.reader(r"^\d\d-\d\d-(?P<label>\d\d)-(\d\d-){3}\d\d\.", file_name_labels.RAVDESS),
        LabelKind.EMOTION,
        "CC BY-NC-SA 4.0",
        copies=6,
    ),
    _labels("nsynth", nsynth.read, LabelKind.INSTRUMENT, "CC BY 4.0", (r"examples\.json", "train")),
    _labels(
        "musiccaps_aspects",
        musiccaps.read_aspects,
        LabelKind.MUSIC,
        "CC BY-SA 4.0",
        (r"musiccaps-public\.csv", "train"),
    ),
    _questions("clotho_aqa", clotho_aqa.read_raw, "MIT", *_AQA_FILES, splits=("train", "val")),
    _questions("clotho_aqa_clean", clotho_aqa.read_clean, "MIT", *_CLEAN_FILES, splits=("train", "val")),
    _questions("openaqa", openaqa.read, "unknown", (r"(open|all).*\.json", "train")),
    _questions("musicqa", musicqa.read, "unknown", *_MUSICQA_FILES),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


def clip_of(row_id: str, source: str) -> str | None:
    """Return what the ids of one clip's captions share; None: the source has one caption a clip, or says not.

    Ids are ``source/split/key``, and the keys of such a source ``clip/number``.
    """
    known = SOURCES.get(source)
    if known is None or not known.several_captions:
        return None
    clip = re.sub(r"#\d+$", "", row_id).rpartition("/")[0]
    return clip if clip.count("/") >= 2 else None
