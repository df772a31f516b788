"""What the cluster is shown of the service, and what the service asks of the cluster."""
