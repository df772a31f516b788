"""What every layer that uses Ray shares: running Ray Data quietly, finding our own error inside Ray's."""
