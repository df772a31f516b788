"""Calls from the ingress to the model's replicas."""
