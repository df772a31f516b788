"""The service on Ray Serve: deployments, calls between them, metrics in Ray's export."""
