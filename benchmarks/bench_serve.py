"""Measure the HTTP service: ``python benchmarks/bench_serve.py --model out/demo/model [PART ...]``.

Prints one Markdown line per number; dated results stand in serving.md. Every part starts its own server.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from serve_load import (
    EXAMPLES,
    QUESTIONS,
    Load,
    Reply,
    Server,
    chat,
    closed_loop,
    environment,
    milliseconds,
    open_loop,
    serving,
)

PLAIN = (str(Path(__file__).with_name("serve_plain.py")),)
ONE_REPLICA = ("encoder.autoscaling.max_replicas=1", "answerer.autoscaling.max_replicas=1")
"""So that autoscaling does not change what is measured."""
LAYOUTS = {"disaggregated": ("layout=disaggregated", *ONE_REPLICA), "colocated": ("layout=colocated",)}
"""Settings of a service with one replica of everything."""


def overhead(model: str) -> None:
    """p50 of a request minus the bare pipeline's on the same clip, one client."""
    import torch

    from mats_ray.data.audio import decode_audio
    from mats_ray.infer.pipeline import MATSPipeline
    from mats_ray.tasks import Task
    from mats_ray.types import Request

    torch.set_num_threads(1)
    pipeline = MATSPipeline.from_pretrained(model)

    def bare(number: int) -> str:
        clip = decode_audio(EXAMPLES[number % len(EXAMPLES)].read_bytes(), name="x")
        question = QUESTIONS[number % len(QUESTIONS)]
        task = Task.QA if question else Task.CAPTION
        return list(pipeline.stream(Request(audio=clip, task=task, question=question)))[-1].answer.text

    for layout, settings in LAYOUTS.items():
        with serving(model, *settings) as (server, _):
            asyncio.run(closed_loop(server.url, 1, 3))
            times: list[float] = []
            texts: list[str] = []
            began = time.process_time()
            for number in range(60):
                started = time.perf_counter()
                texts.append(bare(number))
                times.append(time.perf_counter() - started)
            spent, bare_spent = server.cpu_seconds(), time.process_time() - began
            load = asyncio.run(closed_loop(server.url, 1, 20))
            spent = server.cpu_seconds() - spent
        own = milliseconds([Reply(200, seconds) for seconds in times], 50)
        served = milliseconds(load.of(200), 50)
        equal = all(reply.text == texts[n % 15] for n, reply in enumerate(load.replies[:60]))
        print(
            f"| {layout}, one client | bare {own:.1f} ms, served {served:.1f} ms | {served - own:.1f} ms | "
            f"CPU {1e3 * bare_spent / 60:.1f} and {1e3 * spent / len(load.replies):.1f} ms, "
            f"{len(load.replies[:60])} answers compared: {equal} |",
            flush=True,
        )


def stages(model: str) -> None:
    """Time of a request by stage, from the service's own spans; and the same stages in one process."""
    for layout, settings in LAYOUTS.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MATS_SPANS"] = f"{folder}/spans"
            os.environ["PYTHONPATH"] = os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            )
            with serving(model, *settings, "tracing={exporter: serve_spans:ToFile}") as (server, _):
                asyncio.run(closed_loop(server.url, 1, 3))
                load = asyncio.run(closed_loop(server.url, 1, 20))
            lines = [line.split("\t") for line in Path(os.environ["MATS_SPANS"]).read_text().splitlines()]
        took: dict[str, list[float]] = {}
        for name, milli in lines[-4 * len(load.replies) :]:  # four spans a request; the first: warming up
            took.setdefault(name, []).append(float(milli))
        bare = bare_stages(model)
        for name, values in took.items():
            own = bare.get(name, float("nan"))
            print(f"| {layout}: {name} | {statistics.median(values):.1f} ms | bare {own:.1f} ms |")
        print(f"| {layout}: at the client | {milliseconds(load.of(200), 50):.1f} ms | |", flush=True)


def bare_stages(model: str) -> dict[str, float]:
    """Milliseconds, p50, of the parts of the pipeline in this process."""
    import torch

    from mats_ray.data.audio import decode_audio
    from mats_ray.infer.answerer import Answerer
    from mats_ray.infer.encoder import AudioEncoder
    from mats_ray.tasks import Task, instruction_for

    torch.set_num_threads(1)
    encoder, answerer = (one.from_pretrained(model) for one in (AudioEncoder, Answerer))
    took: dict[str, list[float]] = {"mats.decode": [], "mats.encode": [], "mats.answer": []}
    for number in range(60):
        question = QUESTIONS[number % len(QUESTIONS)]
        instruction = instruction_for(Task.QA, question) if question else instruction_for(Task.CAPTION)
        times = [time.perf_counter()]
        clip = decode_audio(EXAMPLES[number % len(EXAMPLES)].read_bytes(), name="x")
        times.append(time.perf_counter())
        embeddings = encoder.encode([clip])
        times.append(time.perf_counter())
        answerer.answer(embeddings, [instruction])
        times.append(time.perf_counter())
        for name, started, ended in zip(took, times, times[1:], strict=False):
            took[name].append(1e3 * (ended - started))
    return {name: statistics.median(values) for name, values in took.items()}


def throughput(model: str, seconds: float = 20) -> None:
    """16 clients against one request at a time, and against plain ``@serve.batch``."""
    rates: dict[str, float] = {}
    texts: dict[int, set[str | None]] = {}
    queue = "max_requests_in_flight=64"
    one = ("answerer.max_batch_size=1", "encoder.max_batch_size=1", queue)
    sides: dict[str, tuple[int, tuple[str, ...], tuple[str, ...] | None]] = {
        "plain @serve.batch, 16 clients": (16, (queue, *LAYOUTS["disaggregated"]), PLAIN)
    }
    for layout, settings in LAYOUTS.items():
        sides |= {
            f"{layout}, one client": (1, (queue, *settings), None),
            f"{layout}, 16 clients, batches of one": (16, (*one, *settings), None),
            f"{layout}, 16 clients": (16, (queue, *settings), None),
        }
    for name, (clients, settings, module) in sides.items():
        more = {} if module is None else {"module": module}
        with serving(model, *settings, **more) as (server, _):
            asyncio.run(closed_loop(server.url, clients, 3))
            before = server.cpu_seconds()
            load = asyncio.run(closed_loop(server.url, clients, seconds))
            cpu = 1e3 * (server.cpu_seconds() - before) / len(load.replies)
        for reply in load.of(200):
            texts.setdefault(reply.number, set()).add(reply.text)
        rates[name] = load.rate
        print(
            f"| {name} | {load.rate:.1f} requests/s, {cpu:.1f} CPU ms each | "
            f"p50 {milliseconds(load.of(200), 50):.0f} ms, p99 {milliseconds(load.of(200), 99):.0f} ms, "
            f"{load.counts()} |",
            flush=True,
        )
    for layout in LAYOUTS:
        ours = rates[f"{layout}, 16 clients"]
        for name, rate in rates.items():
            print(f"| {layout}, 16 clients / {name} | {ours / rate:.2f} x | |")
    equal = all(len(answers) == 1 for answers in texts.values())
    print(f"| answers equal on all sides | {len(texts)} requests of the series | {equal} |")


async def closed_once(url: str, number: int) -> Reply:
    import aiohttp
    from serve_load import send

    async with aiohttp.ClientSession() as session:
        return await send(session, url, chat(number))


def overload(model: str, seconds: float = 120) -> None:
    """Overload of either layout."""
    for layout, settings in LAYOUTS.items():
        print(f"| **{layout}** | | |", flush=True)
        overloaded(model, settings, seconds)


def overloaded(model: str, settings: Sequence[str], seconds: float) -> None:
    """Five times the load that can be sustained; as many in flight as one answerer computes at once."""
    with serving(model, *settings, "max_requests_in_flight=16") as (server, _):
        asyncio.run(closed_loop(server.url, 16, 3))
        calm = asyncio.run(closed_loop(server.url, 16, 15))
        memory: list[float] = [server.memory_mb()]
        watch = every(10, lambda _: memory.append(server.memory_mb()))
        load = asyncio.run(open_loop(server.url, 5 * calm.rate, seconds, each_second=watch))
        after = asyncio.run(closed_loop(server.url, 1, 3))
    rejected, unexpected = load.of(429, 503), [r for r in load.replies if r.status not in {200, 429, 503}]
    plain = [reply for reply in rejected if (reply.code or "").startswith("no JSON")]
    calm_99, busy_99 = milliseconds(calm.of(200), 99), milliseconds(load.of(200), 99)
    print(f"| overload, {5 * calm.rate:.0f} requests/s for {seconds:.0f} s | {load.counts()} | |")
    print(f"| neither 200 nor 429/503 | {len(unexpected)} of {len(load.replies)} | {unexpected[:2]} |")
    print(f"| rejected without our JSON | {len(plain)} of {len(rejected)} | {plain[:1]} |")
    print(
        f"| rejected in | p50 {milliseconds(rejected, 50):.0f} ms | p99 {milliseconds(rejected, 99):.0f} ms |"
    )
    print(f"| accepted p99 | {busy_99:.0f} ms, 16 clients {calm_99:.0f} ms | {busy_99 / calm_99:.2f} x |")
    print(f"| accepted per second | {load.rate:.1f}, 16 clients {calm.rate:.1f} | |")
    print(f"| memory | {memory[0]:.0f} MB before | {memory[-1]:.0f} MB after, {max(memory):.0f} at most |")
    print(f"| afterwards | {after.counts()} | p50 {milliseconds(after.of(200), 50):.0f} ms |")


def kill(model: str, seconds: float = 120) -> None:
    """A replica killed every ten seconds at half load, of each deployment in turn; there are two of each."""
    two = [
        f"{name}.autoscaling={{min_replicas: 2, max_replicas: 2}}"
        for name in ("ingress", "encoder", "answerer")
    ]
    # one of two ingresses must be able to carry all that waits for the other's successor
    with serving(model, *two, "max_requests_in_flight=128") as (server, _):
        asyncio.run(closed_loop(server.url, 16, 5))
        calm = asyncio.run(closed_loop(server.url, 16, 10))
        deaths: list[tuple[float, str]] = []

        def kill_one(second: int) -> None:
            name = ("Answerer", "Encoder", "Ingress")[len(deaths) % 3]
            for process in server.replicas(name)[:1]:
                process.kill()
                deaths.append((second, name))

        load = asyncio.run(open_loop(server.url, calm.rate / 2, seconds, each_second=every(10, kill_one)))
        after = asyncio.run(closed_loop(server.url, 1, 3))
    failed = [reply for reply in load.replies if reply.status != 200]
    print(f"| {len(deaths)} replicas killed at {calm.rate / 2:.0f} requests/s | {load.counts()} | |")
    print(f"| failed | {len(failed)} of {len(load.replies)} | {len(failed) / len(load.replies):.2%} |")
    blamed = Counter((victim_of(reply, deaths), reply.status, reply.code) for reply in failed)
    for (victim, status, code), number in blamed.items():
        print(f"| of them after a death of {victim} | {number} x {status} {code} | |")
    middle, slow = milliseconds(load.of(200), 50), milliseconds(load.of(200), 99)
    print(f"| answered in | p50 {middle:.0f} ms | p99 {slow:.0f} ms |")
    print(
        f"| before, 16 clients | {calm.rate:.1f} requests/s | p99 {milliseconds(calm.of(200), 99):.0f} ms |"
    )
    print(f"| afterwards | {after.counts()} | |")


def victim_of(reply: Reply, deaths: list[tuple[float, str]]) -> str:
    """Return the kind of replica that was killed last before a request ended."""
    before = [name for second, name in deaths if second <= reply.at + reply.seconds]
    return before[-1] if before else "none"


def every(seconds: int, do: Callable[[int], object]) -> Callable[[int], None]:
    """Do something each so many seconds, not at the start."""
    return lambda second: do(second) and None if second and second % seconds == 0 else None


SCALING = (
    "{min_replicas: %d, target_ongoing_requests: 2, upscale_delay_seconds: 3, downscale_delay_seconds: 5}"
)


def scale(model: str, seconds: float = 60) -> None:
    """Cold start, a second answerer after a step in load, its end after the load."""
    with serving(model, f"answerer.autoscaling={SCALING % 1}") as (server, cold):
        print(f"| cold start to the first answer | {cold:.1f} s | |", flush=True)
        calm = asyncio.run(closed_loop(server.url, 8, 5))
        scale_up = ScaleUp(server)
        load = asyncio.run(open_loop(server.url, 0.8 * calm.rate, seconds, each_second=scale_up.check))
        step = f"a step to {0.8 * calm.rate:.0f} requests/s"
        print(f"| second answerer serves after {step} | {scale_up.result} | {load.counts()} |")
        gone = seconds_until(lambda: len(server.replicas("Answerer")) == 1, at_most=90)
        print(f"| and has gone after the load's end | {gone} | |", flush=True)


def zero(model: str) -> None:
    """Both models scaled to zero, and the first answer after that."""
    settings = [f"{name}.autoscaling={SCALING % 0}" for name in ("encoder", "answerer")]
    with serving(model, *settings) as (server, _):
        gone = seconds_until(
            lambda: not server.replicas("Answerer") + server.replicas("Encoder"), at_most=120
        )
        print(f"| no replica of either model after the last request | {gone} | |", flush=True)
        first = asyncio.run(closed_once(server.url, 0))
        print(f"| first answer from zero | {first.seconds:.1f} s | status {first.status} |")


class ScaleUp:
    """Seconds until the second answerer serves."""

    def __init__(self, server: Server) -> None:
        self._server, self._since = server, time.monotonic()
        self._before = self._started()
        self.result = "not while the load lasted"

    def _started(self) -> int:
        return self._server.logged("Answerer", "started successfully")

    def check(self, _: int) -> None:
        if self.result.startswith("not") and self._started() > self._before:
            self.result = f"{time.monotonic() - self._since:.0f} s"


def seconds_until(condition: Callable[[], bool], *, at_most: float) -> str:
    """Wait for a condition; return how long it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > at_most:
            return f"not within {at_most:.0f} s"
        time.sleep(0.5)
    return f"{time.monotonic() - started:.0f} s"


def hostile(model: str, number: int = 10_000) -> None:
    """Hostile requests; see serve_hostile.py."""
    from serve_hostile import INGRESS_MB, attack

    settings = ("max_audio_seconds=60", "max_upload_bytes=3000000", *ONE_REPLICA)
    with serving(model, *settings) as (server, _):
        before = asyncio.run(closed_loop(server.url, 1, 3))
        result = attack(server.url, number, server.memory_mb, server.ingress_mb)
        after = asyncio.run(closed_loop(server.url, 1, 3))
        print(f"| {result.number} hostile requests in {result.seconds:.0f} s | {result.counts()} | |")
        print(f"| 5xx, or no reply | {len(result.bad)} | {result.bad[:3]} |")
        print(f"| slowest | {result.slowest:.2f} s | |")
        before_mb, between_mb, after_mb = result.memory_mb
        print(
            f"| memory | {before_mb:.0f} MB before | {between_mb:.0f} after two thirds, {after_mb:.0f} MB |"
        )
        print(f"| ingress, at most | {result.ingress_mb:.0f} MB | allowed: {INGRESS_MB} MB |")
        same = same_answers(before, after)
        print(f"| afterwards | {after.counts()} | answers as before: {same} |")


def same_answers(before: Load, after: Load) -> bool:
    """One client sends a fixed series, so replies compare by their place in it."""
    pairs = zip(before.replies[:15], after.replies[:15], strict=False)
    return all(a.text == b.text and a.text is not None for a, b in pairs)


PARTS: dict[str, Callable[..., None]] = {
    part.__name__: part for part in (overhead, stages, throughput, overload, kill, hostile, scale, zero)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--hostile", type=int, default=10_000, help="hostile requests (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=int, default=120, help="of overload, of deaths (default: %(default)s)"
    )
    parser.add_argument("--window", type=int, help="seconds for each side of throughput (20), of scale (60)")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"{time.strftime('%Y-%m-%d')}, {environment()}, model {args.model}\n\n| what | | |\n|---|---|---|")
    for name in args.parts or PARTS:
        model = str(Path(args.model).resolve())
        sizes = {"hostile": args.hostile, "overload": args.seconds, "kill": args.seconds}
        sizes |= {} if args.window is None else {"throughput": args.window, "scale": args.window}
        PARTS[name](model, *([sizes[name]] if name in sizes else []))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
