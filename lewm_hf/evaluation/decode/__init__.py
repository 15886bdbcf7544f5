"""Imagination made visible: recorded frames and imagined ones, decoded side by side."""
