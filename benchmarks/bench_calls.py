"""A call from one Serve replica to another that does nothing: ``python benchmarks/bench_calls.py``.

Through Ray's actor calls and object store (Serve's default) and by gRPC (``_by_reference=False``), for
several sizes of its argument. Prints one Markdown line per size; mats_ray/serving/on_ray/handles.py chooses.
"""

import os
import time

import numpy as np
import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from mats_ray.serving.on_ray.deployments import REPLICA_ENVIRONMENT

SIZES = (0, 16_000, 64_000, 128_000, 250_000, 500_000, 1_000_000)
"""Samples of float32; 64,000 are 4 s at 16 kHz."""
OPTIONS = {
    "ray_actor_options": {"num_cpus": 0.1, "runtime_env": {"env_vars": REPLICA_ENVIRONMENT}},
    "logging_config": LoggingConfig(enable_access_log=False),
}


@serve.deployment(**OPTIONS)
class Callee:
    async def embed(self, samples):
        return np.zeros(64, np.float32)


@serve.deployment(**OPTIONS)
class Caller:
    def __init__(self, callee):
        self._callee = callee

    async def milliseconds(self, size, by_reference, calls):
        handle, samples = self._callee.options(_by_reference=by_reference), np.zeros(size, np.float32)
        took = []
        for _ in range(calls):
            started = time.perf_counter()
            await handle.embed.remote(samples)
            took.append(1e3 * (time.perf_counter() - started))
        return float(np.median(took))


def main() -> None:
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, ray {ray.__version__}\n")
    ray.init(address="local", num_cpus=2, log_to_driver=False)
    caller = serve.run(Caller.bind(Callee.bind()), name="calls", route_prefix=None)
    print("| samples | object store, p50 | gRPC, p50 | ratio |\n|---|---|---|---|")
    for size in SIZES:
        ways = {}
        for by_reference in (True, False):
            caller.milliseconds.remote(size, by_reference, 20).result()
            ways[by_reference] = caller.milliseconds.remote(size, by_reference, 150).result()
        ratio = ways[True] / ways[False]
        print(f"| {size} | {ways[True]:.1f} ms | {ways[False]:.1f} ms | {ratio:.1f} x |", flush=True)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
