"""Encoded audio to blocks of mono float32: libsndfile, and FFmpeg for what libsndfile cannot read."""
