"""`lewm`, the command line: a file per group of verbs, each verb a thin call into the library.

It is a package of its own because importing `lewm_hf` registers its models with transformers, which takes as long as
importing torch: help, misspelled commands and Ctrl-C need none of that. The library is imported inside the verbs.
"""

from .main import main, parser

__all__ = ["main", "parser"]
