"""Import paths for Ray Serve: ``serve run serve.app:build_app model=out/demo/model``.

``app`` is the same with every default, for ``serve build serve.app:app``.
"""

from mats_ray.config.serve import ServeConfig
from mats_ray.serving.on_ray.deployments import build_app

app = build_app(ServeConfig())

__all__ = ["app", "build_app"]
