"""Bridges from the audio side of CLAP's space to its text side: one file each, and the table of them."""
