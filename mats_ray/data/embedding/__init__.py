"""Triplets to embedded triplets: rows are shuffled by text on storage, each distinct text is encoded once."""
