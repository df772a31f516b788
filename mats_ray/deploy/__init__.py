"""Kubernetes resources of a run's configuration, for the KubeRay operator; no torch, no Ray."""

from mats_ray.deploy.render import render

__all__ = ["render"]
