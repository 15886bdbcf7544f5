"""The larger commands; `python -m lewm_hf.cli` is `lewm`, whose words and verbs are in `lewm_cli`."""

from lewm_cli import main

__all__ = ["main"]
