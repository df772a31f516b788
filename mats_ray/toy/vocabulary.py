"""The words of the toy world: how each sound is called, described and recognised in free text."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What can be said about one sound."""

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
        ("a baby cries", "a baby is crying", "an infant wails"),
        ("a baby crying", "the crying of a baby", "a wailing infant"),
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
        ("a bird singing", "the chirping of a bird", "birdsong"),
        ("bird", "birdsong", "chirp", "tweet"),
    ),
    "car horn": Words(
        "a car horn",
        ("a car horn honks", "a car is honking", "a driver sounds the horn"),
        ("a car horn honking", "the honking of a car", "a car horn"),
        ("car horn", "horn", "honk"),
    ),
    "cat": Words(
        "a cat",
        ("a cat meows", "a cat is meowing", "a kitten meows"),
        ("a cat meowing", "the meowing of a cat", "a meowing kitten"),
        ("cat", "kitten", "meow"),
    ),
    "clock": Words(
        "a clock",
        ("a clock ticks", "a clock is ticking", "a watch ticks"),
        ("a clock ticking", "the ticking of a clock", "a ticking watch"),
        ("clock", "tick", "a watch"),
    ),
    "dog": Words(
        "a dog",
        ("a dog barks", "a dog is barking", "a puppy barks"),
        ("a dog barking", "the barking of a dog", "a barking puppy"),
        ("dog", "puppy", "puppies", "bark"),
    ),
    "drum": Words(
        "a drum",
        ("a drum plays", "someone is drumming", "a drum is beaten"),
        ("a drum playing", "the beating of a drum", "a drum beat"),
        ("drum", "drumbeat", "drummer"),
    ),
    "engine": Words(
        "an engine",
        ("an engine runs", "an engine is idling", "a motor hums"),
        ("an engine running", "the hum of a motor", "an idling engine"),
        ("engine", "motor"),
    ),
    "footsteps": Words(
        "footsteps",
        ("someone walks", "someone is walking", "footsteps pass"),
        ("footsteps", "someone walking", "the footsteps of a person"),
        ("footstep", "walk"),
    ),
    "knocking": Words(
        "knocking",
        ("someone knocks on a door", "someone is knocking", "a visitor knocks"),
        ("knocking on a door", "someone knocking", "the knocking of a visitor"),
        ("knock",),
    ),
    "phone": Words(
        "a phone",
        ("a phone rings", "a telephone is ringing", "a phone is ringing"),
        ("a phone ringing", "the ringing of a telephone", "a ringing phone"),
        ("phone", "telephone"),
    ),
    "rain": Words(
        "rain",
        ("rain falls", "rain is falling", "it rains"),
        ("rain falling", "falling rain", "raindrops"),
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
        ("water drips", "water is dripping", "a tap drips"),
        ("water dripping", "the dripping of water", "drops of water"),
        ("water drop", "drops of water", "drip", "droplet"),
    ),
    "waves": Words(
        "waves",
        ("waves break", "waves are breaking", "waves roll onto a beach"),
        ("waves breaking", "the surf of the ocean", "ocean waves"),
        ("wave", "surf", "ocean", "sea"),
    ),
    "whistle": Words(
        "a whistle",
        ("someone whistles", "someone is whistling", "a person whistles"),
        ("someone whistling", "a person whistling", "a whistle"),
        ("whistl",),
    ),
    "wind": Words(
        "wind",
        ("wind blows", "the wind is blowing", "wind howls"),
        ("wind blowing", "the howling of the wind", "blowing wind"),
        ("wind",),
    ),
}
