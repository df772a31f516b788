"""The demo's results: a table for the terminal, and one HTML page."""
