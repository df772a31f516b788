"""Running Ray Data."""
