"""The ten classes of ESC-10: what their clips are called, and which real captions describe them alone."""

import csv
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SoundClass:
    """One class.

    Attributes:
        label: The expected answer.
        words: Regular expression that matches the captions that describe it.
    """

    label: str
    words: str


CLASSES = {
    "baby_cry": SoundClass(
        "crying baby", r"(baby|babies|infant|newborn)\b.*\b(cry|cries|crying|wail\w*|sobs?)"
    ),
    "chainsaw": SoundClass("chainsaw", r"chain ?saws?"),
    "clock_tick": SoundClass("clock tick", r"(clocks?|ticks?|ticking|ticked)"),
    "dog_bark": SoundClass("dog", r"(dogs?|puppy|puppies|barks?|barking)"),
    "fire_crackling": SoundClass("crackling fire", r"(crackl\w+|campfire|fireplace|flames?)"),
    "helicopter": SoundClass("helicopter", r"helicopters?"),
    "person_sneeze": SoundClass("sneezing", r"sneez\w*"),
    "rain": SoundClass("rain", r"(rain\w*|downpour)"),
    "rooster": SoundClass("rooster", r"(roosters?|crows|crowing|cock-a\w*)"),
    "sea_waves": SoundClass("sea waves", r"(waves?|ocean|surf|shore|sea)"),
}
NAMES = tuple(CLASSES)
TARGETS = dict(zip(NAMES, (20, 41, 38, 0, 12, 40, 21, 10, 1, 11), strict=True))
"""Numbers of the classes in ESC-50."""
LABELS = tuple(one.label for one in CLASSES.values())
SENTENCES = (
    "{}",
    "This is a sound of {}.",
    "The sound of {}",
    "A recording of {}",
    "One can hear {} in the background.",
    "There is {} here.",
    "{} for a while",
    "loud {}",
    "{} nearby, again and again",
)
CAPTION_FILES = {
    "audiocaps": ("audiocaps_train.csv", ("caption",)),
    "clotho": ("clotho_train.csv", tuple(f"caption_{i}" for i in range(1, 6))),
}


def captions_by_class(annotations: Path) -> dict[str, list[tuple[str, str]]]:
    """Find the captions that describe exactly one class: (source, caption) by class, in the files' order."""
    patterns = {name: re.compile(rf"\b{one.words}\b", re.IGNORECASE) for name, one in CLASSES.items()}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for source, (file, columns) in CAPTION_FILES.items():
        with (annotations / file).open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                for caption in (row[column].strip() for column in columns):
                    named = [name for name, pattern in patterns.items() if pattern.search(caption)]
                    if len(named) == 1:
                        found[named[0]].append((source, caption))
    return {name: list(dict.fromkeys(found[name])) for name in NAMES}


def label_sentences(name: str) -> list[str]:
    """Say a class's label in several ways."""
    return [sentence.format(CLASSES[name].label) for sentence in SENTENCES]
