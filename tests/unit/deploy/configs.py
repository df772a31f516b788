"""The shipped configurations of Kubernetes, and small changes of them."""

from pathlib import Path

from mats_ray.config import load_config

ROOT = Path(__file__).resolve().parents[3]
CPU = ("configs/toy.yaml", "configs/overlays/kuberay_cpu.yaml")
GPU = ("configs/mats_llama_7b.yaml", "configs/overlays/kuberay_gpu_a100.yaml")


def loaded(names, *overrides):
    """Load shipped files, from any working directory."""
    return load_config([ROOT / name for name in names], overrides)


def cpu(*overrides):
    return loaded(CPU, *overrides)


def gpu(*overrides):
    return loaded(GPU, *overrides)


def flat(folders):
    """Return all resources of a rendering in one list."""
    return [resource for resources in folders.values() for resource in resources.values()]


def named(folders, kind, name):
    """Return one resource."""
    (found,) = [one for one in flat(folders) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found
