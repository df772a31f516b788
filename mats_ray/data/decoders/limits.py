"""Limits on what is decoded, and the errors of audio that cannot be decoded.

Headers are not trusted: limits are checked before the first block and at every
further one.
"""

from dataclasses import dataclass

from mats_ray.errors import AudioDecodeError

MAX_SECONDS = 3600.0
MAX_BYTES = 2**31
MAX_CHANNELS = 64
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000

TOLERANCE_SECONDS = 0.1
"""Missing at the end of files in everyday use: sizes that count a header, damage the decoder steps over."""

BLOCK_VALUES = 2**17
"""Number of values (samples times channels) decoded at a time: 512 kB, which stay in a processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on one piece of audio."""

    max_seconds: float = MAX_SECONDS
    max_bytes: int = MAX_BYTES
    """Largest file as it is stored, in bytes."""
    max_decoded_bytes: int = MAX_BYTES
    """Largest size of its samples, mono float32, at the file's own rate, in bytes."""

    def check_size(self, num_bytes: int, name: str) -> None:
        """Refuse an empty file and one of too many bytes."""
        if num_bytes == 0:
            raise AudioDecodeError(f"{name} is empty (0 bytes)", code="empty")
        if num_bytes > self.max_bytes:
            raise AudioDecodeError(
                f"{name} has more than {self.max_bytes} bytes, the limit", code="too_large"
            )

    def check_length(self, num_samples: int, sample_rate: int, name: str) -> None:
        """Refuse a length, declared or decoded so far."""
        if num_samples > self.max_seconds * sample_rate:
            seconds = num_samples / sample_rate
            raise AudioDecodeError(
                f"{name} lasts {seconds:.0f} s or more, the limit is {self.max_seconds:g} s", code="too_long"
            )
        if num_samples * 4 > self.max_decoded_bytes:
            raise AudioDecodeError(
                f"{name} decodes to {num_samples * 4} bytes or more, the limit is {self.max_decoded_bytes}",
                code="too_large",
            )


def check_format(channels: int, sample_rate: int, name: str) -> None:
    """Refuse absurd numbers of channels or sample rates."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioDecodeError(
            f"{name} has {channels} channels, the limit is {MAX_CHANNELS}", code="unsupported"
        )
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioDecodeError(
            f"{name} claims a sample rate of {sample_rate} Hz; "
            f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz are accepted",
            code="unsupported",
        )


def not_audio(name: str) -> AudioDecodeError:
    """Make the error of a file that is something else."""
    return AudioDecodeError(f"{name} is not audio, or in a format that cannot be read", code="not_audio")


def cut_off(name: str, seconds: float | None = None) -> AudioDecodeError:
    """Make the error of a file that must once have been longer."""
    kept = (
        "its last frame is incomplete"
        if seconds is None
        else f"only its first {seconds:.2f} s can be decoded"
    )
    return AudioDecodeError(f"{name} is cut off: {kept}", code="truncated")


def broken(name: str, reason: object, *, at_end: bool, seconds: float = 0.0) -> AudioDecodeError:
    """Make the error of a file whose decoding failed.

    Args:
        name: Name of the file in the message.
        reason: Error of the library.
        at_end: All bytes had been read: the file is more likely cut off than damaged.
        seconds: Seconds decoded before that.
    """
    after = f" after {seconds:.2f} s" if seconds else ""
    return AudioDecodeError(
        f"{name} is damaged or cut off: decoding failed{after}: {reason}",
        code="truncated" if at_end else "damaged",
    )
