"""Twenty everyday sounds, synthesised from noise, tones and envelopes.

Every sound is one short function over a ``Synth``: a length, a sample rate and a random generator. Two
renderings of a sound differ in pitch, rate, timbre and level; the class stays recognisable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Curve = NDArray[np.floating[Any]]

_FFT_BLOCK = 2048  # noise lengths are rounded up to this, so that no FFT has a large prime length
_LONG_AGO_SECONDS = 1e3  # time since the last event before there was one: every envelope is silent there


@dataclass(frozen=True)
class Synth:
    """Primitives of one rendering, and what they need: length, sample rate, random generator."""

    rng: np.random.Generator
    num_samples: int
    sample_rate: int

    def around(self, value: float, spread: float = 0.15) -> float:
        """Draw a value near ``value``: at most ``spread`` away on a log scale."""
        return value * float(np.exp(self.rng.uniform(-spread, spread)))

    def time(self) -> Curve:
        """Seconds since the start of the clip."""
        return np.arange(self.num_samples, dtype=np.float32) / np.float32(self.sample_rate)

    def noise(self, low_hz: float, high_hz: float, *, tilt: float = 0.0) -> Curve:
        """Noise between two soft edges, falling by ``6 * tilt`` dB per octave; standard deviation 1."""
        length = -(-self.num_samples // _FFT_BLOCK) * _FFT_BLOCK
        hz = np.fft.rfftfreq(length, 1 / self.sample_rate).astype(np.float32)
        hz[0] = hz[1]
        gain = (hz / low_hz) ** -tilt / ((1 + (low_hz / hz) ** 6) * (1 + (hz / high_hz) ** 6))
        spectrum = self.rng.standard_normal((2, len(hz)), dtype=np.float32)
        samples = np.fft.irfft(gain * (spectrum[0] + 1j * spectrum[1]), length)[: self.num_samples]
        return (samples / (samples.std() + 1e-9)).astype(np.float32)

    def tone(self, pitch_hz: float | Curve, weights: Sequence[float] = (1.0,)) -> Curve:
        """Sum harmonics of a constant or moving pitch; overtones above Nyquist are left out."""
        turns = np.asarray(pitch_hz, dtype=np.float64) * (2**32 / self.sample_rate)
        steps = np.broadcast_to(turns.astype(np.uint32), self.num_samples)
        accumulator = np.cumsum(steps, dtype=np.uint32) + self.rng.integers(2**32, dtype=np.uint32)  # wraps
        phase = accumulator.view(np.int32).astype(np.float32) * np.float32(np.pi / 2**31)
        num_audible = max(1, int(2**31 / max(int(steps.max()), 1)))
        before, current, twice_cos = np.zeros_like(phase), np.sin(phase), 2 * np.cos(phase)
        total = np.zeros_like(phase)
        for weight in weights[:num_audible]:
            total += np.float32(weight) * current
            before, current = current, twice_cos * current - before  # sin((k + 1) x) from the two before it
        return total

    def since_event(
        self, period_seconds: float, *, jitter: float = 0.08, group: int = 1, pause_seconds: float = 0.0
    ) -> Curve:
        """Seconds since the latest of a row of events, with a pause after every ``group`` of them."""
        num_events = int(self.num_samples / self.sample_rate / period_seconds * 1.5) + 2
        gaps = period_seconds * (1 + self.rng.uniform(-jitter, jitter, num_events))
        gaps[group - 1 :: group] += pause_seconds
        first = self.rng.uniform(0.0, min(0.3 * period_seconds, 0.1))
        times = first + np.concatenate([[0.0], np.cumsum(gaps)])
        starts = np.minimum((times * self.sample_rate).astype(np.int64), self.num_samples)
        lengths = np.diff(starts, prepend=0, append=self.num_samples)
        origins = np.concatenate([[-int(_LONG_AGO_SECONDS * self.sample_rate)], starts])
        index = np.arange(self.num_samples) - np.repeat(origins, lengths)
        return (index / self.sample_rate).astype(np.float32)


def _strike(since: Curve, decay_seconds: float, attack_seconds: float = 0.003) -> Curve:
    """Envelope of something hit: a fast rise, an exponential fall."""
    return np.minimum(since / np.float32(attack_seconds), 1) * np.exp(-since / np.float32(decay_seconds))


def _hold(since: Curve, length_seconds: float, edge_seconds: float = 0.02) -> Curve:
    """Envelope of a sustained sound: on for a length, with soft edges."""
    distance_to_end = np.minimum(since, np.float32(length_seconds) - since)
    return np.clip(distance_to_end / np.float32(edge_seconds), 0, 1)


def _sine(time: Curve, rate_hz: float, phase: float = 0.0) -> Curve:
    return np.sin(2 * np.pi * np.float32(rate_hz) * time + np.float32(phase))


def _dog(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(0.5), jitter=0.25)
    pitch = synth.around(430) * (0.55 + 0.45 * np.exp(-since / 0.06))
    tone = synth.tone(pitch, (1, 0.9, 0.7, 0.5, 0.3, 0.2))
    return (tone + 0.3 * synth.noise(400, 2500)) * _hold(since, synth.around(0.15), 0.03)


def _cat(synth: Synth) -> Curve:
    length = synth.around(0.75)
    since = synth.since_event(length + synth.around(0.25))
    arc = np.sin(np.pi * np.clip(since / length, 0, 1))
    return synth.tone(synth.around(680) * (1 + 0.35 * arc), (1, 0.5, 0.6, 0.15)) * arc


def _bird(synth: Synth) -> Curve:
    length = synth.around(0.09)
    since = synth.since_event(synth.around(0.15), group=int(synth.rng.integers(3, 7)), pause_seconds=0.2)
    sweep = np.clip(since / length, 0, 1)
    return synth.tone(synth.around(3400) * (1 + synth.around(0.5) * sweep)) * _hold(since, length, 0.015)


def _rain(synth: Synth) -> Curve:
    hiss = synth.noise(synth.around(2500), 9000)
    drizzle = np.abs(synth.noise(20, 120)) ** 2
    return hiss * (1 + synth.around(0.25, 0.5) * drizzle)


def _wind(synth: Synth) -> Curve:
    gusts = 1 + 0.6 * _sine(synth.time(), synth.around(0.5, 0.4), synth.rng.uniform(0, 6))
    howl = synth.tone(synth.around(420) * (1 + 0.1 * gusts)) * gusts
    return synth.noise(synth.around(180), synth.around(600)) * gusts + 0.4 * howl


def _thunder(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(1.3), jitter=0.3)
    crack = synth.noise(100, 1500, tilt=0.5) * _strike(since, synth.around(0.08))
    return crack + synth.noise(25, synth.around(110), tilt=0.5) * _strike(since, synth.around(0.6), 0.05)


def _waves(synth: Synth) -> Curve:
    period = synth.around(1.3, 0.2)
    swell = (0.5 + 0.5 * _sine(synth.time(), 1 / period, synth.rng.uniform(0, 6))) ** 2
    return synth.noise(synth.around(500), synth.around(3000), tilt=0.3) * (0.1 + swell)


def _siren(synth: Synth) -> Curve:
    sweep = _sine(synth.time(), synth.around(0.7, 0.35), synth.rng.uniform(0, 6))
    return synth.tone(synth.around(950, 0.1) * (1 + 0.38 * sweep), (1, 0.35, 0.3, 0.1))


def _bell(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(0.95))
    base, decay = synth.around(560), synth.around(0.45)
    partials = ((1.0, 1.0, 1.0), (2.0, 0.7, 0.8), (2.76, 0.6, 0.6), (4.07, 0.5, 0.4), (5.4, 0.4, 0.3))
    return sum(
        (
            weight * synth.tone(base * ratio) * _strike(since, decay * life)
            for ratio, weight, life in partials
        ),
        start=np.zeros(synth.num_samples, np.float32),
    )


def _clock(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(0.33, 0.1), jitter=0.01)
    tick = synth.noise(synth.around(4500), synth.around(6000))
    return tick * _strike(since, synth.around(0.02), 0.001)


def _car_horn(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(0.8), jitter=0.2)
    pitch, reeds = synth.around(390), (0.7, 0.6, 0.8, 1, 0.9, 0.7, 0.6, 0.4, 0.3, 0.2)
    chord = synth.tone(pitch, reeds) + synth.tone(pitch * 1.26, reeds)
    return chord * _hold(since, synth.around(0.55), 0.02)


def _engine(synth: Synth) -> Curve:
    pitch = synth.around(48) * (1 + 0.06 * _sine(synth.time(), synth.around(0.6), synth.rng.uniform(0, 6)))
    pistons = synth.tone(pitch, [1 / np.sqrt(k) for k in range(1, 13)])
    return pistons + 0.4 * synth.noise(80, 500, tilt=0.5) * (1 + 0.5 * np.sign(pistons))


def _phone(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(0.9))
    low = synth.around(1150, 0.1)
    trill = low * (1 + 0.15 * np.sign(_sine(since, synth.around(20))))
    return synth.tone(trill, (1, 0.2, 0.5)) * _hold(since, synth.around(0.6), 0.02)


def _alarm(synth: Synth) -> Curve:
    period = synth.around(0.24)
    return synth.tone(synth.around(2500, 0.1)) * _hold(
        synth.since_event(period, jitter=0), 0.5 * period, 0.005
    )


def _footsteps(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(0.48), jitter=0.06)
    heel = synth.noise(synth.around(130), synth.around(500)) * _strike(since, synth.around(0.035))
    sole = synth.noise(900, 3000) * _strike(np.maximum(since - 0.09, 0), synth.around(0.03), 0.02)
    return heel + 0.35 * sole


def _knocking(synth: Synth) -> Curve:
    since = synth.since_event(
        synth.around(0.15, 0.1), group=int(synth.rng.integers(3, 5)), pause_seconds=0.35
    )
    wood = synth.tone(synth.around(800)) + 0.6 * synth.tone(synth.around(1400)) + 0.5 * synth.noise(500, 2000)
    return wood * _strike(since, synth.around(0.03), 0.001)


def _baby(synth: Synth) -> Curve:
    length = synth.around(0.65)
    since = synth.since_event(length + synth.around(0.2))
    cry = 1 + 0.25 * np.sin(np.pi * np.clip(since / length, 0, 1)) + 0.03 * _sine(since, synth.around(7))
    tone = synth.tone(synth.around(410, 0.1) * cry, (0.6, 0.6, 0.9, 1, 0.9, 0.9, 0.8, 0.7, 0.5))
    return (tone + 0.5 * synth.noise(2500, 5000)) * _hold(since, length, 0.08)


def _whistle(synth: Synth) -> Curve:
    length = synth.around(0.5)
    since = synth.since_event(length + synth.around(0.15))
    glide = 1 + 0.15 * np.clip(since / length, 0, 1) + 0.015 * _sine(since, synth.around(6))
    return (synth.tone(synth.around(1750, 0.1) * glide) + 0.05 * synth.noise(1500, 3000)) * _hold(
        since, length, 0.05
    )


def _drum(synth: Synth) -> Curve:
    beat = synth.around(0.5)
    kick, snare = synth.since_event(beat, jitter=0.01), synth.since_event(0.5 * beat, jitter=0.01)
    boom = synth.tone(synth.around(65) * (1 + 1.2 * np.exp(-kick / 0.03))) * _strike(kick, synth.around(0.12))
    return boom + 0.35 * synth.noise(1200, 7000) * _strike(snare, synth.around(0.05))


def _water_drops(synth: Synth) -> Curve:
    since = synth.since_event(synth.around(0.28), jitter=0.6)
    bubble = synth.tone(synth.around(1000) * (1 + np.clip(since / 0.07, 0, 1)))
    return bubble * _strike(since, synth.around(0.03))


@dataclass(frozen=True)
class Sound:
    """One class of sound."""

    name: str
    synthesise: Callable[[Synth], Curve]

    def render(self, rng: np.random.Generator, num_samples: int, sample_rate: int) -> Samples:
        """Render once, as float32 of shape (num_samples,), its peak drawn between 0.5 and 0.9."""
        synth = Synth(rng, num_samples, sample_rate)
        samples = self.synthesise(synth)
        peak = max(float(np.abs(samples).max()), 1e-9)
        return (samples * (rng.uniform(0.5, 0.9) / peak)).astype(np.float32)


_ALL = (
    Sound("alarm", _alarm),
    Sound("baby", _baby),
    Sound("bell", _bell),
    Sound("bird", _bird),
    Sound("car horn", _car_horn),
    Sound("cat", _cat),
    Sound("clock", _clock),
    Sound("dog", _dog),
    Sound("drum", _drum),
    Sound("engine", _engine),
    Sound("footsteps", _footsteps),
    Sound("knocking", _knocking),
    Sound("phone", _phone),
    Sound("rain", _rain),
    Sound("siren", _siren),
    Sound("thunder", _thunder),
    Sound("water drops", _water_drops),
    Sound("waves", _waves),
    Sound("whistle", _whistle),
    Sound("wind", _wind),
)

SOUNDS: dict[str, Sound] = {sound.name: sound for sound in _ALL}
"""Every sound by name, in alphabetical order."""
