"""The release of the authors of MATS: their checkpoint files, and Santa as their code computes it."""
