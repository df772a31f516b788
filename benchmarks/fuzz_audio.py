"""Decode damaged audio files by the hundred thousand: what comes of each, and whether anything else happens.

    python -m benchmarks.fuzz_audio --inputs 100000

Input number i is a function of (seed, i): one of the sound files made here, mutated; every fourth is read
from disk. Decoding runs in a child process, so that a crash of native code is seen, counted, and gone on
after. Any exception but an AudioDecodeError, a clip that is empty or not finite, a crash, or an input that
takes more than 20 s is a failure: its number is printed, and the exit code is 1.
"""

import argparse
import collections
import contextlib
import faulthandler
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mats_ray.data.audio import decode_audio, read_audio
from mats_ray.errors import AudioDecodeError
from tests.sounds import FFMPEG_KINDS, RATES, SNDFILE_KINDS, ffmpeg_bytes, sndfile_bytes

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
HANG_SECONDS = 20
REPORT_EVERY = 2_000


def seed_files() -> list[tuple[str, bytes]]:
    """Short ones, mono and of more channels, so that mutations hit what matters."""
    draw = np.random.default_rng(0)
    files = []
    for kind, how in SNDFILE_KINDS.items():
        for channels in (1, 2):
            samples = draw.uniform(-0.5, 0.5, (4_000, channels)).astype(np.float32)
            files.append((kind, sndfile_bytes(samples, 16_000, **how)))
    for kind in FFMPEG_KINDS:
        samples = draw.uniform(-0.5, 0.5, RATES.get(kind, 44_100) // 4).astype(np.float32)
        files.append((kind, ffmpeg_bytes(samples, kind)))
    samples = draw.uniform(-0.5, 0.5, 11_025).astype(np.float32)
    fragmented = {"movflags": "empty_moov", "frag_duration": "50000"}
    files.append(("mp4", ffmpeg_bytes(samples, "mp4", options=fragmented, video_seconds=1)))
    # two of a kind in one file, and two of different kinds
    joined = [(f"joined {kind}", whole + whole) for kind, whole in files[::2]]
    mixed = [("joined", one + other) for (_, one), (_, other) in zip(files[::3], files[1::3], strict=False)]
    return [*files, *joined, *mixed]


def mutated(files: list[tuple[str, bytes]], seed: int, index: int) -> tuple[str, bytes]:
    """Make input number ``index``: one to four mutations of one file."""
    draw = np.random.default_rng((seed, index))
    kind, whole = files[draw.integers(len(files))]
    data, mutate = bytearray(whole), Mutator(draw, files)
    for _ in range(draw.integers(1, 5)):
        mutate(data)
    return kind, bytes(data)


@dataclass(frozen=True)
class Mutator:
    """Changes bytes in place, as chance has it."""

    draw: np.random.Generator
    files: list[tuple[str, bytes]]

    def __call__(self, data: bytearray) -> None:
        """Make one mutation."""
        kinds = [self.bytes, self.bits, self.number, self.number, self.cut, self.drop, self.repeat]
        self.draw.choice([*kinds, self.noise, self.splice])(data)

    def place(self, data: bytearray) -> int:
        """Half of them in a header."""
        reach = int(self.draw.choice([32, 128, 1024, len(data), len(data), len(data)]))
        return int(self.draw.integers(max(1, min(reach, len(data)))))

    def bytes(self, data: bytearray) -> None:
        """Up to eight bytes become others."""
        for place in {self.place(data) for _ in range(self.draw.integers(1, 9))}:
            data[place : place + 1] = self.draw.bytes(1)

    def bits(self, data: bytearray) -> None:
        """Up to eight bits turn."""
        for place in {self.place(data) for _ in range(self.draw.integers(1, 9))}:
            data[place : place + 1] = bytes(
                byte ^ 1 << int(self.draw.integers(8)) for byte in data[place:][:1]
            )

    def number(self, data: bytearray) -> None:
        """A number that programs stumble over."""
        size, place = int(self.draw.choice([1, 2, 4, 8])), self.place(data)
        number = int(self.draw.choice(NUMBERS)) % 2 ** (8 * size)
        data[place : place + size] = number.to_bytes(size, "big" if self.draw.integers(2) else "little")

    def cut(self, data: bytearray) -> None:
        """The end goes."""
        del data[self.place(data) :]

    def drop(self, data: bytearray) -> None:
        """Some bytes go, what follows moves up."""
        place = self.place(data)
        del data[place : place + int(self.draw.integers(1, 65))]

    def repeat(self, data: bytearray) -> None:
        """Some bytes stand twice."""
        place = self.place(data)
        data[place:place] = data[place : place + int(self.draw.integers(1, 1025))]

    def noise(self, data: bytearray) -> None:
        """A stretch of random bytes."""
        place, length = self.place(data), int(self.draw.integers(1, 257))
        data[place : place + length] = self.draw.bytes(length)

    def splice(self, data: bytearray) -> None:
        """Continue as another file."""
        _, other = self.files[self.draw.integers(len(self.files))]
        data[self.place(data) :] = other[int(self.draw.integers(len(other))) :]


def decode_range(seed: int, start: int, stop: int, mark: Path) -> None:
    """Child: decode inputs; the number of the one in hand stands in a file, counts so far go to stdout."""
    files, me, held = seed_files(), psutil.Process(), mark.with_name("sound")
    result: dict[str, Any] = {"outcomes": collections.Counter(), "slowest": (0.0, -1), "memory": []}
    for index in range(start, stop):
        kind, data = mutated(files, seed, index)
        overwrite(mark, b"%12d" % index)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        started = time.perf_counter()
        if index % 4 == 0:
            overwrite(held, data)
        result["outcomes"][f"{kind} {outcome_of(held if index % 4 == 0 else data)}"] += 1
        result["slowest"] = max(result["slowest"], (time.perf_counter() - started, index))
        if (index - start) % REPORT_EVERY == REPORT_EVERY - 1 or index == stop - 1:
            result["memory"].append(me.memory_info().rss)
            print(json.dumps(result), flush=True)
    faulthandler.cancel_dump_traceback_later()


def overwrite(path: Path, data: bytes) -> None:
    """Not ``write_bytes``: ext4 waits for the disk when a file is cut to nothing and written again."""
    with path.open("r+b" if path.exists() else "xb") as file:
        file.write(data)
        file.truncate()


def outcome_of(source: bytes | Path) -> str:
    """Decode under small limits; anything unexpected is raised and ends the child."""
    try:
        if isinstance(source, Path):
            clip = read_audio(source, max_seconds=60)
        else:
            clip = decode_audio(source, name="clip", max_seconds=60)
    except AudioDecodeError as error:
        return error.code
    assert len(clip.samples)
    assert np.isfinite(clip.samples).all()
    return "ok"


def main() -> int:
    """Run children over all inputs and print the results, also when stopped before the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    stop = args.start + args.inputs
    if args.child:
        decode_range(args.seed, args.start, stop, args.child)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started, failures, results = time.monotonic(), [], []
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        start = args.start
        while start < stop and run_child(args.seed, start, stop, Path(folder) / "index", results) != 0:
            failures.append(int((Path(folder) / "index").read_text()))
            print(f"failed: input {failures[-1]}")
            start = failures[-1] + 1
    report(results, seconds=time.monotonic() - started)
    print(f"failures: {len(failures)} {failures or ''}")
    return 1 if failures else 0


def run_child(seed: int, start: int, stop: int, mark: Path, results: list[dict[str, Any]]) -> int:
    """Let a child decode; its last counts are appended, its exit code is returned."""
    numbers = [f"--start={start}", f"--inputs={stop - start}", f"--seed={seed}", f"--child={mark}"]
    command = [sys.executable, "-m", "benchmarks.fuzz_audio", *numbers]
    results.append({"outcomes": {}, "slowest": (0.0, -1), "memory": []})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            results[-1] = json.loads(line)
    return child.returncode


def report(results: list[dict[str, Any]], *, seconds: float) -> None:
    """Print outcomes by kind of file, the slowest input and the memory."""
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for outcome, count in ((key, one["outcomes"][key]) for one in results for key in one["outcomes"]):
        kind, code = outcome.rsplit(maxsplit=1)
        table[kind][code] += count
        table["all"][code] += count
    codes = [code for code, _ in table["all"].most_common()]
    print("| file |", " | ".join(codes), "| inputs |")
    print("|---" * (len(codes) + 2) + "|")
    for kind, counts in sorted(table.items()):
        print(f"| {kind} |", " | ".join(str(counts[code]) for code in codes), f"| {counts.total()} |")
    slowest, index = max(tuple(one["slowest"]) for one in results)
    print(f"{table['all'].total()} inputs in {seconds:.0f} s; the slowest, {index}, took {slowest:.2f} s")
    for one in results:
        memory = [round(rss / 2**20) for rss in one["memory"]]
        print(f"memory in MB, every {REPORT_EVERY} inputs: {memory}")


if __name__ == "__main__":
    sys.exit(main())
