"""Decoding and resampling to 44.1 kHz on one core, against ffmpeg's own program on the same files.

    python -m benchmarks.bench_decode --audio ../shared/data/esc10      # a few minutes; needs ffmpeg on PATH

Two sets of 48 kHz mono files per format. ``clips``: one process of ffmpeg per clip, as in a script; ours is
one process for all. ``long``: all clips as one file, so that ffmpeg starts once, and the CPU time of a start
(an empty run of the same command) is taken off. ffmpeg runs with ``-threads 1`` and its output goes to
/dev/null: once through soxr, which is our resampler, and once through its own. Both sides are pinned to one
core and timed by the CPU seconds of their process, user and system; the best of ``--repeats`` turns in turn.
"""

import argparse
import io
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE, TARGET = 48_000, 44_100
FORMATS = ("wav", "flac", "mp3", "ogg", "m4a")
RESAMPLERS = {"own": (), "soxr": ("-af", "aresample=resampler=soxr")}


def encoded(samples_T: np.ndarray, kind: str) -> bytes:
    """Encode mono samples at 48 kHz."""
    from tests.sounds import SNDFILE_KINDS, ffmpeg_bytes

    if kind == "m4a":
        return ffmpeg_bytes(samples_T, kind, rate=RATE)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, 1, **SNDFILE_KINDS[kind]) as file:
        for start in range(0, len(samples_T), RATE):  # libsndfile overflows its stack on minutes of Vorbis
            file.write(samples_T[start : start + RATE])
    return buffer.getvalue()


def ffmpeg_command(path: Path | None, resampler: str, target: str) -> list[str]:
    """Build ffmpeg's command line; without a path one that starts and makes 10 ms of silence."""
    source = ["-i", str(path)] if path else ["-f", "lavfi", "-i", f"anullsrc=r={RATE}:cl=mono:d=0.01"]
    output = ["-f", "f32le", "-ac", "1", "-ar", str(TARGET), target]
    quiet = ["-nostdin", "-v", "error", "-y", "-threads", "1"]
    return ["ffmpeg", *quiet, *source, "-threads", "1", *RESAMPLERS[resampler], *output]


def ffmpeg_seconds(paths: Sequence[Path | None], resampler: str) -> float:
    """Run ffmpeg once per file; CPU seconds of all runs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for path in paths:
        subprocess.run(ffmpeg_command(path, resampler, "/dev/null"), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def our_seconds(paths: Sequence[Path], rate: int | None = TARGET) -> float:
    """Decode the files in this process, as the batch job does; CPU seconds."""
    from mats_ray.data.audio import open_audio

    before = resource.getrusage(resource.RUSAGE_SELF)
    for path in paths:
        with open_audio(path, sample_rate=rate) as audio:
            for _ in audio:
                pass
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def decibels_apart(path: Path) -> float:
    """Compare our samples with those of ffmpeg and soxr: level of the difference against the sound, in dB."""
    from mats_ray.data.audio import read_audio

    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(ffmpeg_command(path, "soxr", file.name), check=True)
        theirs_T = np.fromfile(file.name, np.float32)
    ours_T = read_audio(path, sample_rate=TARGET).samples
    length = min(len(theirs_T), len(ours_T))
    difference_T = theirs_T[:length] - ours_T[:length]
    return 10 * float(np.log10(np.square(difference_T).mean() / np.square(ours_T).mean() + 1e-30))


def best_in_turns(actions: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Run all sides in turn; the best of each."""
    found = [{name: action() for name, action in actions.items()} for _ in range(repeats)]
    return {name: min(one[name] for one in found) for name in actions}


def compare(paths: Sequence[Path], real: float, start: dict[str, float], repeats: int) -> str:
    """Decode files of ``real`` seconds on both sides; the cells of a row."""
    actions = {"ours": lambda: our_seconds(paths), "decoding": lambda: our_seconds(paths, None)}
    for name in RESAMPLERS:
        actions[name] = lambda name=name: ffmpeg_seconds(paths, name)
    best = best_in_turns(actions, repeats)
    own, soxr = (real / (best[name] - start[name]) for name in RESAMPLERS)
    decoding, ours = real / best["decoding"], real / best["ours"]
    ratios = f"{ours:.0f} | {soxr:.0f} | {ours / soxr:.2f} | {own:.0f} | {ours / own:.2f}"
    return f"{decoding:.0f} | {ratios} | {decibels_apart(paths[0]):.0f}"


def main() -> None:
    """Print a table per set of files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", default="../shared/data/esc10")
    parser.add_argument("--clips", type=int, default=40, help="number of clips, each once as a file")
    parser.add_argument("--minutes", type=int, default=20, help="length of the long file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    args = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        raise SystemExit("ffmpeg is not on PATH")
    from mats_ray.data.audio import read_audio

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = sorted(Path(args.audio).rglob("*.ogg"))
    clips = [read_audio(path, sample_rate=RATE).samples for path in found]
    whole_T = np.resize(np.concatenate(clips), args.minutes * 60 * RATE)
    start = best_in_turns({name: lambda name=name: ffmpeg_seconds([None], name) for name in RESAMPLERS}, 5)
    starts = ", ".join(f"{seconds * 1e3:.0f} ms ({name})" for name, seconds in start.items())
    print(f"a start of ffmpeg: {starts} of CPU time")
    print(
        "| files | format | ours, decoding only | ours | ffmpeg, soxr | ratio | ffmpeg | ratio | apart, dB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in args.formats:
        for files, sounds in (("clips", clips[: args.clips]), ("long", [whole_T])):
            with tempfile.TemporaryDirectory() as folder:
                paths = [Path(folder) / f"{index}.{kind}" for index in range(len(sounds))]
                for path, samples_T in zip(paths, sounds, strict=True):
                    path.write_bytes(encoded(samples_T, kind))
                taken_off = start if files == "long" else dict.fromkeys(RESAMPLERS, 0.0)
                real = sum(map(len, sounds)) / RATE
                print(f"| {files} | {kind} | {compare(paths, real, taken_off, args.repeats)} |", flush=True)


if __name__ == "__main__":
    main()
