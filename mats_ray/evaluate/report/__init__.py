"""The results of an evaluation as one HTML page: ``page.write_report``."""
