"""Annotation files to records: tables, JSON, cell values, and the input and output types of readers."""
