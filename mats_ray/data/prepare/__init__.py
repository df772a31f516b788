"""Annotation files to triplets: input files, records to triplets, texts of labels, the report."""
