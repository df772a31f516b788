"""Benchmarks, a file each: ``benchmark.find_benchmark`` finds them by the name of the file."""
