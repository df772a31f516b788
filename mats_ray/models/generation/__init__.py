"""Generating token ids: search, key-value cache and continuous batch."""
