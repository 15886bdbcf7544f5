"""Reacher: a planar arm with two joints must take a pose."""
