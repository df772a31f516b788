"""Scorers: records of answered samples to measures."""
