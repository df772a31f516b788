"""The words of the toy world: names, phrases and recognised words of each sound."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Words and phrases for one sound."""

    noun: str
    """Its canonical name in answers and questions."""
    clauses: tuple[str, ...]
    """Finite clauses; the first one is canonical."""
    nominals: tuple[str, ...]
    """Noun phrases that can follow "the sound of"."""
    known_words: tuple[str, ...]
    """Words or stems that name this sound and no other; common endings are understood."""


VOCABULARY: Mapping[str, Words] = {
    "alarm": Words(
        "an alarm",
        ("an alarm beeps", "an alarm is beeping", "an alarm goes off"),
        ("an alarm beeping", "the beeping of an alarm", "an alarm"),
        ("alarm", "beep", "alarm clock"),
    ),
    "baby": Words(
        "a baby",
        ("a baby cries", "a baby is crying", "a baby wails"),
        ("a baby crying", "the crying of a baby", "a wailing baby"),
        ("baby", "babies", "infant"),
    ),
    "bell": Words(
        "a bell",
        ("a bell rings", "a bell is ringing", "a church bell tolls"),
        ("a bell ringing", "the ringing of a bell", "a tolling church bell"),
        ("bell", "church bell"),
    ),
    "bird": Words(
        "a bird",
        ("a bird sings", "a bird is chirping", "a small bird tweets"),
        ("a bird singing", "the chirping of a bird", "a small bird"),
        ("bird", "birdsong", "chirp", "tweet"),
    ),
    "car horn": Words(
        "a car horn",
        ("a car horn honks", "a car horn is honking", "a car horn blares"),
        ("a car horn honking", "the honking of a car horn", "a car horn"),
        ("car horn", "horn", "honk"),
    ),
    "cat": Words(
        "a cat",
        ("a cat meows", "a cat is meowing", "a hungry cat meows"),
        ("a cat meowing", "the meowing of a cat", "a meowing cat"),
        ("cat", "kitten", "meow"),
    ),
    "clock": Words(
        "a clock",
        ("a clock ticks", "a clock is ticking", "an old clock ticks"),
        ("a clock ticking", "the ticking of a clock", "a ticking clock"),
        ("clock", "tick", "a watch"),
    ),
    "dog": Words(
        "a dog",
        ("a dog barks", "a dog is barking", "a big dog barks"),
        ("a dog barking", "the barking of a dog", "a barking dog"),
        ("dog", "puppy", "puppies", "bark"),
    ),
    "drum": Words(
        "a drum",
        ("a drum plays", "a drum is playing", "a drum is beaten"),
        ("a drum playing", "the beating of a drum", "a drum"),
        ("drum", "drumbeat", "drummer"),
    ),
    "engine": Words(
        "an engine",
        ("an engine runs", "an engine is idling", "an engine hums"),
        ("an engine running", "the hum of an engine", "an idling engine"),
        ("engine", "motor"),
    ),
    "footsteps": Words(
        "footsteps",
        ("footsteps pass", "footsteps are passing", "footsteps come near"),
        ("footsteps", "footsteps passing", "the footsteps of a person"),
        ("footstep", "walk"),
    ),
    "knocking": Words(
        "knocking",
        ("someone is knocking", "someone is knocking on a door", "there is knocking"),
        ("knocking", "knocking on a door", "the knocking of a visitor"),
        ("knock",),
    ),
    "phone": Words(
        "a phone",
        ("a phone rings", "a phone is ringing", "an old phone rings"),
        ("a phone ringing", "the ringing of a phone", "a ringing phone"),
        ("phone", "telephone"),
    ),
    "rain": Words(
        "rain",
        ("rain falls", "rain is falling", "rain patters"),
        ("rain falling", "falling rain", "the patter of rain"),
        ("rain", "raindrop", "rainfall"),
    ),
    "siren": Words(
        "a siren",
        ("a siren wails", "a siren is wailing", "a police siren sounds"),
        ("a siren wailing", "the wail of a siren", "a police siren"),
        ("siren", "police siren"),
    ),
    "thunder": Words(
        "thunder",
        ("thunder rolls", "thunder is rumbling", "thunder claps"),
        ("thunder rolling", "the rumble of thunder", "a clap of thunder"),
        ("thunder", "thunderclap", "thunderstorm"),
    ),
    "water drops": Words(
        "water drops",
        ("water drops fall", "water drops are falling", "water drops drip"),
        ("water drops falling", "the dripping of water drops", "water drops"),
        ("water drop", "drops of water", "drip", "droplet"),
    ),
    "waves": Words(
        "waves",
        ("waves break", "waves are breaking", "waves roll onto a beach"),
        ("waves breaking", "the sound of waves", "ocean waves"),
        ("wave", "surf", "ocean", "sea"),
    ),
    "whistle": Words(
        "a whistle",
        ("a whistle blows", "a whistle is blowing", "someone blows a whistle"),
        ("a whistle blowing", "the blowing of a whistle", "a whistle"),
        ("whistl",),
    ),
    "wind": Words(
        "wind",
        ("wind blows", "wind is blowing", "wind howls"),
        ("wind blowing", "the howling of wind", "blowing wind"),
        ("wind",),
    ),
}
