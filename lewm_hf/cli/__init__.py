"""`lewm`, the command line; `python -m lewm_hf.cli` is the same."""

from .verbs import main

__all__ = ["main"]
