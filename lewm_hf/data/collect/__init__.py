"""Collecting episodes with a policy."""

from .run import collect

__all__ = ["collect"]
