"""Annotation files of benchmarks to samples, where no reader of training rows fits."""
