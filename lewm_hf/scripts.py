"""What scripts have in common: their docstring is their help, and whatever the user got wrong is one line."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from .compiler_cache import naming_the_compilers_cache


def script_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows a script's docstring as it is written, lines and examples."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def run_script(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Reads the words of a command and does the work; what libraries say is shown where it is a warning.

    Args:
        parser: of the words.
        work: takes what was read, and returns an exit status; `None` is 0.
        argv: the words; default: those that the program was started with.

    Returns:
        The exit status, see `exit_status`.
    """
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return exit_status(lambda: work(arguments))


def exit_status(work: Callable[[], int | None]) -> int:
    """What `work` returns (0 for `None`), or 2 after one line on standard error where input or machine are at fault."""
    try:
        with naming_the_compilers_cache():
            return work() or 0
    except (ValueError, OSError, ImportError) as error:
        # What a loader worker raised arrives with its traceback; the last line says what was wrong.
        text = str(error)
        sys.stderr.write(f"error: {text.strip().splitlines()[-1] if 'Original Traceback' in text else text}\n")
        return 2
