"""A discrete-event model of the captioning job: driver, decoders, models, storage, nodes that die.

The driver is Ray Data's loop (``streaming_executor_state.process_completed_tasks`` of Ray 2.60): it waits
until every task in flight has an output, at most 0.1 s, takes what is there, and gives each process up to two
tasks. A chunk is ``batch_size`` files; a decoder makes batches of clips of it, a model answers a batch, the
driver writes its rows when it is time to. A process that dies is started again and does its tasks anew;
batches that lay on a dead node are decoded again; a dead driver loses the rows that are not written, and the
next one does every chunk that is not whole.

Nothing here knows the job's own code: ``tests/benchmarks/test_caption_model.py`` holds the model's
invariants, and ``simulate_caption`` compares it with measured runs.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

NUM_WAITS = 1_000
"""Number of chunks whose waits for storage are drawn; a simulation draws from these."""

Draw = Callable[[np.random.Generator], float]


def constant(value: float) -> Draw:
    """Draw always the same."""
    return lambda _: value


def samples(values: Any, scale: float = 1.0) -> Draw:
    """Draw from measured values."""
    measured = (np.asarray(values) * scale).tolist()
    return lambda random: measured[int(random.random() * len(measured))]


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How long a decoder waits for one object.

    Attributes:
        median_s, sigma: Log-normal time to the last byte. error_rate: Share of requests that fail; each is
        tried ``attempts`` times, with waits drawn between nothing
            and 1, 2, 4, 8 s (``storage.retries``).
        slow_share, slow_factor: Share of requests that take longer, and how much.
        in_flight: Objects that a decoder fetches at a time.
    """

    median_s: float = 0.0
    sigma: float = 0.0
    error_rate: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 1.0
    in_flight: int = 1
    attempts: int = 5

    def wait_s(self, random: np.random.Generator, num_files: int) -> tuple[float, int]:
        """Draw the seconds that the files of a chunk take, and how many cannot be read."""
        if not self.median_s:
            return 0.0, 0
        each_s, failed = np.zeros(num_files), np.ones(num_files, bool)
        for attempt in range(self.attempts):
            if not (again := failed.nonzero()[0]).size:
                break
            once_s = self.median_s * np.exp(self.sigma * random.standard_normal(again.size))
            each_s[again] += once_s * np.where(
                random.random(again.size) < self.slow_share, self.slow_factor, 1
            )
            failed[again] = random.random(again.size) < self.error_rate
            if attempt < self.attempts - 1:
                each_s[again] += failed[again] * random.uniform(0, 2**attempt, again.size)
        return float(each_s.sum() / self.in_flight), int(failed.sum())


@dataclass(frozen=True, kw_only=True)
class Driver:
    """The driver's costs in seconds of its one thread.

    Attributes:
        tick_s: A turn of the loop, and for each process ``process_s``. batch_s: A batch from its chunk to its
        rows; half of it is for the decoder's task, half for the model's. wait_s: Longest wait for tasks.
        tasks_per_process: Tasks that a process has, the one at work included. start_s: From a driver's death
        to the next one's first chunk.
    """

    tick_s: float = 0.0
    process_s: float = 0.0
    batch_s: float = 0.0
    wait_s: float = 0.1
    tasks_per_process: int = 2
    start_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Failures:
    """What dies, and how long it is away; times in seconds.

    Attributes:
        node_mtbf_s: Mean life of a node, exponential.
        replace_s: From a node's death until its processes start again, on this or another node.
        notice_s: From a process's death until it starts again.
        driver_mtbf_s: Mean life of the driver's machine.
    """

    node_mtbf_s: float = math.inf
    replace_s: float = 300.0
    notice_s: float = 0.0
    driver_mtbf_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A job and its cluster.

    Attributes:
        num_chunks: Chunks of the job; None: there is always another one, until ``max_s``. clips: Clips of
        each chunk; one number for all, or one each. decode_s: CPU seconds of a decoder per clip. answer_s:
        Seconds of a model per batch of ``batch_size`` clips; a smaller one takes its share. cores: Cores that
        all processes share, the driver too; None: each has its own. slow_nodes, slow_factor: Share of nodes
        that take longer for everything, and how much. max_waiting: Largest number of decoded batches on their
        way, per process (``caption.on_ray.PREFETCH_BYTES``). keys_per_s, first_key_s: Listing. part_rows,
        flush_s, flush_fraction: When rows are written (``caption.output``).
    """

    num_nodes: int = 1
    models_per_node: int = 1
    decoders_per_node: int = 1
    num_chunks: int | None = None
    max_s: float = math.inf
    batch_size: int = 32
    clips: int | tuple[int, ...] = 32
    decode_s: Draw = field(default_factory=lambda: constant(0.0))
    answer_s: Draw = field(default_factory=lambda: constant(0.0))
    storage: Storage = Storage()
    driver: Driver = Driver()
    failures: Failures = Failures()
    decoder_start_s: float = 0.0
    model_start_s: float = 0.0
    cores: float | None = None
    slow_nodes: float = 0.0
    slow_factor: float = 1.0
    max_waiting: float = 2.0
    keys_per_s: float = math.inf
    first_key_s: float = 0.0
    part_rows: float = math.inf
    flush_s: float = 5.0
    flush_fraction: float = 0.01


@dataclass(kw_only=True)
class Outcome:
    """What happened; a clip is one row."""

    seconds: float = 0.0
    """From the start to the last row."""
    clips: int = 0
    """Rows in the output."""
    unreadable: int = 0
    """Number of these rows with an error: the storage failed too often."""
    answered: int = 0
    """Clips answered, also more than once."""
    begun: int = 0
    """Clips that a model began to answer."""
    answer_s: float = 0.0
    """Work of models, lost work included."""
    lost_s: float = 0.0
    """Work of models that is not in the output: batches of dead processes, rows of dead drivers."""
    decode_s: float = 0.0
    driver_s: float = 0.0
    deaths: int = 0
    """Nodes and processes that died."""
    drivers: int = 0
    """Drivers that died."""
    first_s: float = math.nan
    """First answered batch."""
    finished_s: list[float] = field(default_factory=list[float])
    """When each batch was answered, and how many clips: see ``rate``."""
    finished_clips: list[int] = field(default_factory=list[int])
    output: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """Times that a batch of a chunk is in the output."""

    @property
    def lost(self) -> int:
        """Clips that were begun and are not in the output by that work."""
        return self.begun - self.clips

    def rate(self, start: float = 0.0, stop: float = math.inf) -> float:
        """Return the clips answered per second between two times."""
        at, clips = np.array(self.finished_s), np.array(self.finished_clips)
        stop = min(stop, at.max(initial=0.0))
        return float(clips[(at > start) & (at <= stop)].sum() / (stop - start)) if stop > start else 0.0


class Cores:
    """Cores that jobs share evenly (processor sharing); with None every job has its own."""

    def __init__(self, env: simpy.Environment, count: float | None) -> None:
        self._env, self._count = env, count
        self._left, self._at, self._turn = dict[simpy.Event, float](), 0.0, 0

    def work(self, seconds: float) -> simpy.Event:
        """Return an event that happens when the work is done."""
        if self._count is None:
            return self._env.timeout(seconds)
        self._advance()
        done = self._env.event()
        self._left[done] = seconds
        self._plan()
        return done

    def cancel(self, done: simpy.Event) -> None:
        """Take back work whose process has died."""
        if self._count is not None:
            self._advance()
            self._left.pop(done, None)
            self._plan()

    def _rate(self) -> float:
        assert self._count is not None
        return min(1.0, self._count / len(self._left))

    def _advance(self) -> None:
        if self._left:
            passed = (self._env.now - self._at) * self._rate()
            self._left = {done: left - passed for done, left in self._left.items()}
        self._at = self._env.now

    def _plan(self) -> None:
        self._turn += 1
        if self._left:
            delay = max(0.0, min(self._left.values()) / self._rate())
            self._env.process(self._finish(self._turn, delay))

    def _finish(self, turn: int, delay: float) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(delay)
        if turn == self._turn:
            self._advance()
            for done in [one for one, left in self._left.items() if left < 1e-9]:
                del self._left[done]
                done.succeed()
            self._plan()


@dataclass(eq=False)
class Process:
    """A decoder or a model."""

    kind: str
    node: "Node"
    runs: simpy.Process | None = None
    inbox: deque["Task"] = field(default_factory=deque["Task"])
    wake: simpy.Event | None = None
    is_there: bool = False
    """It has been started, and may still be getting ready."""
    is_ready: bool = False
    free: int = 0
    """Tasks it may have more, while it is not ready."""


@dataclass(eq=False)
class Node:
    """A machine with its processes."""

    factor: float = 1.0
    processes: list[Process] = field(default_factory=list[Process])
    life: int = 0
    """Number of its deaths."""


@dataclass(eq=False)
class Task:
    """A chunk to decode, or a batch of it to answer."""

    chunk: int
    wanted: set[int] | None = None
    """Parts of a chunk that are not decoded yet; None: all."""
    part: int = 0
    clips: int = 0
    unreadable: int = 0
    node: Node | None = None
    """Where the samples of a batch lie."""
    life: int = 0
    """Number of the node's life in which they were decoded."""

    @property
    def is_lost(self) -> bool:
        """Whether the samples of a batch have died with their node."""
        return self.node is not None and self.node.life != self.life


@dataclass(eq=False)
class Output:
    """What a process hands to the driver."""

    process: Process
    task: Task
    ends: bool
    """Whether the task is done."""
    seconds: float = 0.0
    """Work of a model in it."""


class CaptionSimulation:
    """One job with one seed."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.random = scenario, np.random.default_rng(seed)
        self.env, self.outcome = simpy.Environment(), Outcome()
        self.cores = Cores(self.env, scenario.cores)
        slow = round(scenario.slow_nodes * scenario.num_nodes)
        num_waits = NUM_WAITS if scenario.storage.median_s else 1
        self._waits = [scenario.storage.wait_s(self.random, scenario.batch_size) for _ in range(num_waits)]
        self.nodes = [Node(scenario.slow_factor if n < slow else 1.0) for n in range(scenario.num_nodes)]
        self.done = self.env.event()
        self._written = dict[int, dict[int, tuple[int, float]]]()
        self._parts_of, self._buffer = dict[int, int](), list[Output]()
        self._driver: simpy.Process | None = None

    def run(self) -> Outcome:
        """Simulate until the last row is written, or until ``max_s``."""
        env, failures = self.env, self.scenario.failures
        if self._driver is None:
            self.start()
        if failures.node_mtbf_s < math.inf:
            for node in self.nodes:
                env.process(self._node_life(node))
        if failures.driver_mtbf_s < math.inf:
            env.process(self._driver_life())
        limit = [env.timeout(self.scenario.max_s)] if self.scenario.max_s < math.inf else []
        env.run(env.any_of([self.done, *limit]))
        self.outcome.seconds = env.now
        if not self.done.triggered:
            self._flush()
        return self.outcome

    def start(self, away_s: float = 0.0) -> None:
        """Start the driver, which starts its processes after some time."""
        self._start_driver(away_s)

    def kill_process(self, process: Process, away_s: float | None = None) -> None:
        """Kill a process; it starts again by itself and does its tasks anew."""
        self.outcome.deaths += 1
        self._stop(process)
        notice_s = self.scenario.failures.notice_s if away_s is None else away_s
        process.runs = self.env.process(self._live(process, notice_s))

    def kill_node(self, node: Node, away_s: float | None = None) -> None:
        """Kill all processes of a node; what was decoded there and not answered is decoded again."""
        node.life += 1
        for process in node.processes:
            self.kill_process(process, self.scenario.failures.replace_s if away_s is None else away_s)

    def kill_driver(self, away_s: float | None = None) -> None:
        """Kill the driver, with it all processes and rows that are not written; another one starts."""
        assert self._driver is not None
        self.outcome.drivers += 1
        for process in self.processes():
            self._stop(process)
        self._driver.interrupt()
        self.outcome.lost_s += sum(max(0.0, one.seconds) for one in [*self._buffer, *self._outputs])
        self._buffer.clear()
        self._start_driver(self.scenario.driver.start_s if away_s is None else away_s)

    def processes(self, kind: str | None = None) -> list[Process]:
        """Return all processes, or the decoders or models."""
        return [one for node in self.nodes for one in node.processes if kind in (None, one.kind)]

    # The driver

    def _start_driver(self, away_s: float = 0.0) -> None:
        scenario = self.scenario
        self._drop_unfinished()
        self._left = self._chunks({*self._written})
        self._next = next(self._left, None)
        self._decoded, self._outputs, self._again = deque[Task](), deque[Output](), deque[Task]()
        self._slots = {"decoder": deque[Process](), "model": deque[Process]()}
        self._in_flight = self._num_decoding = self._num_read = 0
        self._flushed = self._began = self.env.now + away_s
        self._arrived: simpy.Event | None = None
        numbers = {"decoder": scenario.decoders_per_node, "model": scenario.models_per_node}
        for node in self.nodes:
            node.processes = [Process(kind, node) for kind, number in numbers.items() for _ in range(number)]
        self._driver = self.env.process(self._drive(away_s))
        for process in self.processes():
            process.free = scenario.driver.tasks_per_process
            process.runs = self.env.process(self._live(process, away_s))

    def _drop_unfinished(self) -> None:
        """Remove the rows of chunks that are not whole: they are done again, with all their rows."""
        for chunk, parts in list(self._written.items()):
            if len(parts) < self._parts_of[chunk]:
                for part, (clips, seconds) in parts.items():
                    self.outcome.output[chunk, part] -= 1
                    self.outcome.clips -= clips
                    self.outcome.lost_s += seconds
                del self._written[chunk]

    def _chunks(self, whole: set[int]) -> Any:
        numbers = itertools.count() if self.scenario.num_chunks is None else range(self.scenario.num_chunks)
        return (chunk for chunk in numbers if chunk not in whole)

    def _drive(self, away_s: float) -> Generator[simpy.Event, Any, None]:
        env, driver = self.env, self.scenario.driver
        turn_s = driver.tick_s + driver.process_s * len(self.processes())
        taken = list[Output]()
        try:
            yield env.timeout(away_s)
            while True:
                taken = [self._outputs.popleft() for _ in range(len(self._outputs))]
                if busy_s := turn_s + driver.batch_s / 2 * sum(one.ends for one in taken):
                    yield self.cores.work(busy_s)
                    self.outcome.driver_s += busy_s
                while taken:
                    self._take(taken.pop(0))
                self._dispatch()
                self._flush_if_due()
                if self._is_finished():
                    self._flush()
                    self.done.succeed()
                    return
                if len(self._outputs) < self._in_flight:
                    self._arrived = env.event()
                    yield env.any_of([self._arrived, env.timeout(driver.wait_s)])
                    self._arrived = None
                elif not self._outputs:  # for the listing, or for processes that start
                    yield env.timeout(driver.wait_s)
        except simpy.Interrupt:
            self.outcome.lost_s += sum(max(0.0, one.seconds) for one in taken)

    def _is_finished(self) -> bool:
        return not (self._in_flight or self._outputs or self._decoded or self._again) and self._next is None

    def _take(self, output: Output) -> None:
        """Take an output: a decoded batch, rows, or a batch whose samples are gone."""
        process, task = output.process, output.task
        if output.ends:
            self._in_flight -= 1
            self._num_decoding -= process.kind == "decoder"
            self._free(process)
        if task.part not in (self._written.get(task.chunk) or ()):
            if process.kind == "decoder":
                self._decoded.append(task)
            elif output.seconds < 0:
                self._again.append(Task(task.chunk, {task.part}))
            else:
                self._buffer.append(output)

    def _free(self, process: Process) -> None:
        """Note that a process may have one more task."""
        if process.is_ready:
            self._slots[process.kind].append(process)
        else:
            process.free += 1

    def _dispatch(self) -> None:
        """Give tasks to processes with room: models first."""
        scenario = self.scenario
        while self._decoded and self._slots["model"]:
            if (task := self._decoded.popleft()).is_lost:
                self._again.append(Task(task.chunk, {task.part}))
            else:
                self._give(self._slots["model"].popleft(), task)
        num_processes = scenario.num_nodes * (scenario.models_per_node + scenario.decoders_per_node)
        room = scenario.max_waiting * num_processes
        while self._slots["decoder"] and len(self._decoded) + self._num_decoding < room:
            if self._again:
                task = self._again.popleft()
            elif self._next is not None and self._is_listed():
                task, self._next = Task(self._next), next(self._left, None)
                self._num_read += 1
            else:
                break
            self._num_decoding += 1
            self._give(self._slots["decoder"].popleft(), task)

    def _is_listed(self) -> bool:
        if self.scenario.keys_per_s == math.inf:
            return True
        passed = self.env.now - self._began - self.scenario.first_key_s
        return (self._num_read + 1) * self.scenario.batch_size <= passed * self.scenario.keys_per_s

    def _give(self, process: Process, task: Task) -> None:
        self._in_flight += 1
        process.inbox.append(task)
        if process.wake is not None:
            process.wake.succeed()
            process.wake = None

    # Rows

    def _flush_if_due(self) -> None:
        now, scenario = self.env.now, self.scenario
        wait_s = max(scenario.flush_s, scenario.flush_fraction * (now - self._began))
        if now - self._flushed >= wait_s or sum(o.task.clips for o in self._buffer) >= scenario.part_rows:
            self._flush()

    def _flush(self) -> None:
        outcome = self.outcome
        for one in self._buffer:
            task = one.task
            self._written.setdefault(task.chunk, {})[task.part] = task.clips, one.seconds
            outcome.output[task.chunk, task.part] = outcome.output.get((task.chunk, task.part), 0) + 1
            outcome.clips += task.clips
            outcome.unreadable += task.unreadable
        self._buffer.clear()
        self._flushed = self.env.now

    # The processes

    def _stop(self, process: Process) -> None:
        if process.runs is not None and process.runs.is_alive:
            process.runs.interrupt()
        slots = self._slots[process.kind]
        if process.is_ready:
            process.free += slots.count(process)
            self._slots[process.kind] = deque(one for one in slots if one is not process)
        process.is_there = process.is_ready = False
        process.wake = None

    def _live(self, process: Process, away_s: float) -> Generator[simpy.Event, Any, None]:
        """Start a process and let it work off its tasks until it is killed."""
        scenario = self.scenario
        start_s = scenario.decoder_start_s if process.kind == "decoder" else scenario.model_start_s
        work = self._decode if process.kind == "decoder" else self._answer
        try:
            yield self.env.timeout(away_s)
            process.is_there = True
            if start_s:
                yield from self._work(start_s)
            process.is_ready = True
            self._slots[process.kind].extend([process] * process.free)
            process.free = 0
            while True:
                while not process.inbox:
                    process.wake = self.env.event()
                    yield process.wake
                yield from work(process, process.inbox[0])
                process.inbox.popleft()
        except simpy.Interrupt:
            return

    def _work(self, seconds: float) -> Generator[simpy.Event, Any, None]:
        done = self.cores.work(seconds)
        try:
            yield done
        except simpy.Interrupt:
            self.cores.cancel(done)
            raise

    def _decode(self, process: Process, task: Task) -> Generator[simpy.Event, Any, None]:
        """Decode a chunk from its start; parts that the driver has are decoded again, but not handed over."""
        scenario, random, node = self.scenario, self.random, process.node
        num_parts = self._parts_of.setdefault(task.chunk, self._num_parts(task.chunk))
        task.wanted = task.wanted or {*range(num_parts)}
        last = max(task.wanted)
        wait_s, unreadable = self._waits[int(random.random() * len(self._waits))]
        for part in range(last + 1):
            clips = self._clips_of(task.chunk, part)
            if wait_s:
                yield self.env.timeout(wait_s / (last + 1) * node.factor)
            if decode_s := clips * scenario.decode_s(random) * node.factor:
                yield from self._work(decode_s)
                self.outcome.decode_s += decode_s
            if part in task.wanted:
                bad = unreadable if part == last else 0
                batch = Task(task.chunk, None, part, clips, bad, node, node.life)
                task.wanted.discard(part)
                self._put(Output(process, batch, ends=part == last))

    def _answer(self, process: Process, task: Task) -> Generator[simpy.Event, Any, None]:
        scenario, outcome = self.scenario, self.outcome
        if task.is_lost:
            self._put(Output(process, task, ends=True, seconds=-1.0))
            return
        seconds = scenario.answer_s(self.random) * task.clips / scenario.batch_size * process.node.factor
        outcome.begun += task.clips
        started = self.env.now
        try:
            yield from self._work(seconds)
        except simpy.Interrupt:
            done_s = min(seconds, self.env.now - started)
            outcome.answer_s += done_s
            outcome.lost_s += done_s
            raise
        outcome.answer_s += seconds
        outcome.answered += task.clips
        outcome.first_s = self.env.now if math.isnan(outcome.first_s) else outcome.first_s
        outcome.finished_s.append(self.env.now)
        outcome.finished_clips.append(task.clips)
        self._put(Output(process, task, ends=True, seconds=seconds))

    def _put(self, output: Output) -> None:
        self._outputs.append(output)
        if (
            self._arrived is not None
            and not self._arrived.triggered
            and len(self._outputs) >= self._in_flight
        ):
            self._arrived.succeed()

    def _num_clips(self, chunk: int) -> int:
        clips = self.scenario.clips
        return clips if isinstance(clips, int) else clips[chunk]

    def _num_parts(self, chunk: int) -> int:
        return max(1, math.ceil(self._num_clips(chunk) / self.scenario.batch_size))

    def _clips_of(self, chunk: int, part: int) -> int:
        return min(self.scenario.batch_size, self._num_clips(chunk) - part * self.scenario.batch_size)

    # Deaths

    def _node_life(self, node: Node) -> Generator[simpy.Event, Any, None]:
        failures = self.scenario.failures
        while True:
            yield self.env.timeout(self.random.exponential(failures.node_mtbf_s))
            self.kill_node(node)
            yield self.env.timeout(failures.replace_s)

    def _driver_life(self) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.env.timeout(self.random.exponential(self.scenario.failures.driver_mtbf_s))
            self.kill_driver()


def mean_and_error(values: Any) -> tuple[float, float]:
    """Return mean and standard error."""
    array = np.asarray(values, float)
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else 0.0
