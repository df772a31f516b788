"""Annotation files to records: tables, JSON, cell values, and what a reader takes and yields."""
