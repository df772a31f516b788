"""Captioning a bucket: the batch job, from a listing to rows."""
