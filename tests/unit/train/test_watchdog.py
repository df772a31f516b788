"""A stage that lasts too long is reported once; a run that makes progress is not."""

import threading

from mats_ray.train.watchdog import Watchdog


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_it_names_worker_step_stage_and_limit():
    clock = Clock()
    watchdog = Watchdog(60, worker="worker 3", on_stall=lambda _: None, clock=clock)
    watchdog.enter_stage("waiting for data", 17)
    clock.now = 59.0
    assert watchdog.stalled() is None

    clock.now = 60.0

    assert watchdog.stalled() == (
        "worker 3 is stuck in step 17: waiting for data took longer than train.stall_seconds=60"
    )
    watchdog.enter_stage("forward, backward and update", 17)
    assert watchdog.stalled() is None


def test_it_warns_from_a_thread_of_its_own_within_the_limit():
    reported, threads = threading.Event(), []

    def on_stall(message):
        threads.append((threading.current_thread(), message))
        reported.set()

    with Watchdog(0.2, worker="worker 0", on_stall=on_stall) as watchdog:
        watchdog.enter_stage("waiting for data", 1)
        assert reported.wait(10)  # as a main thread would that waits in C

    assert len(threads) == 1
    assert threads[0][0] is not threading.main_thread()


def test_stages_within_the_limit_never_warn():
    barks = []
    with Watchdog(0.5, worker="worker 0", on_stall=barks.append) as watchdog:
        for step in range(20):
            watchdog.enter_stage("forward, backward and update", step)
            threading.Event().wait(0.05)

    assert barks == []
