"""What the authors of MATS released: their checkpoint files, and their code's own way with Santa."""
