"""Checkpoints for places without this package: graphs, and code beside the weights."""
