"""One training loop over two small protocols; Ray Train and DeepSpeed live in on_*.py."""
