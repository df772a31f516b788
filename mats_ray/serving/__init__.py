"""The HTTP service: wire schemas, a service without Ray, and its Serve deployments in on_ray.py."""
