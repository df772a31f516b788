"""The demo: its stages, the systems it compares, its measurements."""
