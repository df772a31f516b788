"""Triplets to embedded triplets: rows meet by text on disk, each distinct text goes through CLAP once."""
