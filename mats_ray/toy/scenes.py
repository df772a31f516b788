"""Scenes of one or two sounds: their list, their split into training, validation and novel, their audio.

What is withheld are scenes: for some pairs of sounds either both at once or one after the other (either way
round), so none of them occurs in training, as audio or as text.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mats_ray.toy.sounds import SOUNDS, Samples

SceneKind = Literal["alone", "then", "together"]

KIND_SHARES: Mapping[SceneKind, float] = {"alone": 0.25, "then": 0.40, "together": 0.35}
"""Share of each kind of scene in training."""

NOISE_LEVEL = 0.002
"""Standard deviation of the background noise, before a clip gets its level."""
_FADE_SECONDS = 0.01


@dataclass(frozen=True)
class Scene:
    """The sounds of a clip; simultaneous ones stand in alphabetical order, so equal scenes are equal."""

    kind: SceneKind
    sounds: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.sounds) - SOUNDS.keys()):
            raise ValueError(f"no sound named {unknown[0]!r}; there are: {', '.join(SOUNDS)}")
        wanted = 1 if self.kind == "alone" else 2
        if len(set(self.sounds)) != wanted or len(self.sounds) != wanted:
            raise ValueError(f"a scene {self.kind!r} has {wanted} different sounds, got {self.sounds}")
        if self.kind == "together":
            object.__setattr__(self, "sounds", tuple(sorted(self.sounds)))


@dataclass(frozen=True)
class SceneClip:
    """One clip to be made: a scene, and the seed that decides how it sounds and is described."""

    scene: Scene
    seed: int

    def rng(self, stream: int = 0) -> np.random.Generator:
        """A fresh generator; different streams (audio, captions, ...) are independent of each other."""
        return np.random.default_rng((self.seed, stream))


def all_scenes() -> tuple[Scene, ...]:
    """Every scene there is: each sound alone, and each pair in its three forms."""
    alone = [Scene("alone", (name,)) for name in SOUNDS]
    return (*alone, *_forms(itertools.combinations(SOUNDS, 2)))


def split_scenes(
    seed: int, *, fraction: float = 0.1
) -> tuple[tuple[Scene, ...], tuple[Scene, ...], tuple[Scene, ...]]:
    """Split all scenes into training, validation, novel: some pairs of sounds lose a way of meeting.

    From half of these pairs "at once" is withheld, from the others "one then the other", in *both* orders:
    were only a dog after rain trained, a model that memorised the pair would get rain after a dog wrong. Then
    a dog that barks *while* it rains is new, but not dogs and rain in one clip. The pairs come from
    rounds of a round-robin tournament, in each of which every sound meets one other: all sounds occur in
    equally many withheld scenes.

    Args:
        seed: Draws the pairs.
        fraction: Of all pairs, once for the validation and once for the novel scenes; rounded to rounds, at
            least two, at most half of them.
    """
    rng = np.random.default_rng(seed)
    rounds = _tournament([str(name) for name in rng.permutation(list(SOUNDS))])
    count = min(max(2, round(fraction * len(rounds))), len(rounds) // 2)
    novel, validation = (_withheld(rounds[first : first + count]) for first in (0, count))
    scenes = all_scenes()
    return (
        tuple(scene for scene in scenes if scene not in novel | validation),
        tuple(scene for scene in scenes if scene in validation),
        tuple(scene for scene in scenes if scene in novel),
    )


def _withheld(rounds: Sequence[Sequence[tuple[str, str]]]) -> set[Scene]:
    """Of the pairs of one round their sequences, of those of the next their mixtures, and so on."""
    return {
        scene
        for turn, pairs in enumerate(rounds)
        for scene in _forms(pairs)
        if (scene.kind == "then") == (turn % 2 == 0)
    }


def other_scene(scene: Scene, rng: np.random.Generator) -> Scene:
    """Draw what a careless caption of a scene is about: a sound less, or another sound in place of one."""
    place = int(rng.integers(len(scene.sounds)))
    if scene.kind != "alone" and rng.random() < 0.5:
        return Scene("alone", (scene.sounds[place],))
    sounds = list(scene.sounds)
    sounds[place] = str(rng.choice([name for name in SOUNDS if name not in scene.sounds]))
    return Scene(scene.kind, tuple(sounds))


def scene_clips(
    scenes: Sequence[Scene],
    num_clips: int,
    seed: int,
    *,
    kind_shares: Mapping[SceneKind, float] = KIND_SHARES,
) -> list[SceneClip]:
    """Draw clips in random order, kinds by their shares and the scenes of a kind equally often.

    Shares of kinds that ``scenes`` lacks fall to the others in proportion.
    """
    rng = np.random.default_rng(seed)
    by_kind = {kind: [scene for scene in scenes if scene.kind == kind] for kind in kind_shares}
    present = {kind: share for kind, share in kind_shares.items() if by_kind[kind] and share > 0}
    edges = np.round(np.cumsum(list(present.values())) / sum(present.values()) * num_clips).astype(int)
    drawn: list[Scene] = []
    for kind, count in zip(present, np.diff(edges, prepend=0), strict=True):
        num_passes = -(-int(count) // len(by_kind[kind]))
        order = np.concatenate([rng.permutation(len(by_kind[kind])) for _ in range(num_passes)] or [[]])
        drawn += [by_kind[kind][int(index)] for index in order[:count]]
    seeds = rng.integers(2**62, size=num_clips)
    return [SceneClip(drawn[int(i)], int(s)) for i, s in zip(rng.permutation(num_clips), seeds, strict=True)]


def render_scene(scene: Scene, rng: np.random.Generator, seconds: float, sample_rate: int) -> Samples:
    """Render a scene as mono float32 audio with a little background noise; the peak stays below 1."""
    num_samples = round(seconds * sample_rate)
    if scene.kind == "then":
        samples = _one_after_the_other(scene, rng, num_samples, sample_rate)
    else:
        renderings = [SOUNDS[name].render(rng, num_samples, sample_rate) for name in scene.sounds]
        samples = np.sum([one * blend_gain(one) for one in renderings], axis=0, dtype=np.float32)
    samples += NOISE_LEVEL * rng.standard_normal(num_samples, dtype=np.float32)
    return (samples * (draw_peak(rng) / np.abs(samples).max())).astype(np.float32)


def draw_border(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the end of the first of two sounds and the start of the second, as shares of a clip."""
    end = rng.uniform(0.45, 0.52)
    return end, end + rng.uniform(0.0, 0.04)


def draw_peak(rng: np.random.Generator) -> float:
    """The level of a clip."""
    return rng.uniform(0.3, 0.95)


def blend_gain(samples: Samples) -> float:
    """Go half the way from equal peaks to equal power, so that ticks are not lost under steady tones."""
    return float(1 / np.sqrt(np.sqrt(np.mean(samples**2)) + 1e-6))


def render_clip(clip: SceneClip, seconds: float, sample_rate: int) -> Samples:
    """Render a clip from its own seed."""
    return render_scene(clip.scene, clip.rng(), seconds, sample_rate)


def _one_after_the_other(
    scene: Scene, rng: np.random.Generator, num_samples: int, sample_rate: int
) -> Samples:
    end, start = (round(num_samples * place) for place in draw_border(rng))
    samples = np.zeros(num_samples, np.float32)
    for name, stretch in zip(scene.sounds, (slice(end), slice(start, None)), strict=True):
        length = len(samples[stretch])
        samples[stretch] = SOUNDS[name].render(rng, length, sample_rate) * _fades(length, sample_rate)
    return samples


def _fades(num_samples: int, sample_rate: int) -> Samples:
    """Envelope that rises and falls within a few milliseconds, so that cuts do not click."""
    to_border = np.minimum(np.arange(num_samples), np.arange(num_samples)[::-1])
    return np.minimum(to_border / (_FADE_SECONDS * sample_rate), 1).astype(np.float32)


def _forms(pairs: Iterable[tuple[str, str]]) -> list[Scene]:
    return [
        scene
        for a, b in pairs
        for scene in (Scene("then", (a, b)), Scene("then", (b, a)), Scene("together", (a, b)))
    ]


def _tournament(names: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Rounds in which every name occurs once and, over all rounds, each pair once (the circle method)."""
    fixed, *others = names
    half = len(names) // 2
    rounds: list[list[tuple[str, str]]] = []
    for turn in range(len(others)):
        circle = [fixed, *others[turn:], *others[:turn]]
        rounds.append(list(zip(circle[:half], circle[: half - 1 : -1], strict=True)))
    return rounds
