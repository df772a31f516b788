"""Shared by all that uses Ray: running Ray Data without its output, finding our own error inside Ray's."""
