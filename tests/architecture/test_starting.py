"""The modules that each kind of process loads until it can work: each costs time in every start.

A bound is a tenth above what was there when it was set. What torch and transformers load of their own accord
is not ours to bound; that they are loaded at all is.
"""

import pytest

from tests.architecture.source import listed, run_python

TORCH = {"torch", "transformers", "peft", "deepspeed", "accelerate", "sympy"}
RAY = {"ray", "pandas"}
CODECS = {"av", "soundfile", "soxr"}

LIGHT = {
    "command line": ("mats_ray.cli.main", 110, TORCH | RAY | CODECS | {"numpy", "pydantic", "pyarrow"}),
    "plan of a training run": (
        "mats_ray.cli.plan, mats_ray.train.plan, mats_ray.train.metrics_logger",
        490,
        TORCH | RAY | CODECS,
    ),
    "Kubernetes resources": ("mats_ray.cli.deploy, mats_ray.deploy.render", 520, TORCH | RAY | CODECS),
    "plan of a bucket": ("mats_ray.cli.plan, mats_ray.caption.capacity", 530, TORCH | RAY | CODECS),
    "reader of a training run": ("mats_ray.data.shared_spans", 510, TORCH | RAY | CODECS),
    "planning a caption job": ("mats_ray.caption.job", 620, TORCH | RAY),
    "driver of a caption job": ("mats_ray.caption.on_ray, mats_ray.cli.on_ray", 1750, TORCH),
    "decoder of a caption job": ("mats_ray.caption.decode", 570, TORCH | RAY),
    "decoder of the service": (
        "mats_ray.serving.decoding.child",
        360,
        TORCH | RAY | {"pydantic"},
    ),
    "start of mats serve": ("mats_ray.cli.serve, mats_ray.models.directory", 300, TORCH | RAY | CODECS),
    "ingress": ("mats_ray.serving.http.app", 700, TORCH | RAY | {"soundfile", "av"}),
    "deployments": ("mats_ray.serving.on_ray.deployments", 1750, TORCH | {"soundfile", "av"}),
}

HEAVY = {
    "answering engine": ("mats_ray.infer.engines", {"peft", "deepspeed", "ray", "av", "soundfile"}),
    "audio encoder": ("mats_ray.infer.encoder", {"peft", "deepspeed", "ray"}),
    "pipeline": ("mats_ray.infer.pipeline", {"peft", "deepspeed", "ray"}),
    "training loop": ("mats_ray.train.loop", {"ray", "deepspeed"}),
}
"""Each forbids what the next one does, or more: one process imports them in this order, and torch once."""


@pytest.mark.parametrize(("modules", "bound", "forbidden"), LIGHT.values(), ids=LIGHT)
def test_a_process_that_computes_nothing_stays_light(modules, bound, forbidden):
    loaded = modules_after(modules)

    assert not forbidden & roots(loaded), listed(sorted(forbidden & roots(loaded)))
    assert len(loaded) <= bound


def test_a_process_that_computes_loads_no_framework_it_does_not_need():
    modules = [module for module, _ in HEAVY.values()]
    lines = run_python(
        "import importlib, sys\n"
        f"for module in {modules}:\n"
        "    importlib.import_module(module)\n"
        "    print(*{name.partition('.')[0] for name in sys.modules})"
    )

    found = [
        f"{kind}: {name}"
        for (kind, (_, forbidden)), loaded in zip(HEAVY.items(), lines, strict=True)
        for name in sorted(forbidden & set(loaded.split()))
    ]
    assert not found, listed(found)


def modules_after(modules: str) -> list[str]:
    return run_python(f"import sys, {modules}; print(*sys.modules, sep='\\n')")


def roots(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}
