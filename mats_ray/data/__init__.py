"""Triplets in, batches out; audio decoding. Ray Data lives in on_ray.py."""
