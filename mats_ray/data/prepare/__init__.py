"""Annotation files to triplets: what is to be read, how a record becomes rows, what came of it."""
