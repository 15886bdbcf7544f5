"""Published checkpoints of the original code -> folders that `from_pretrained` reads."""
