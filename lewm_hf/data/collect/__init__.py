"""Collecting episodes with a policy."""

from .run import collect
from .settings import paper_preset

__all__ = ["collect", "paper_preset"]
