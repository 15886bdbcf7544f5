"""From the words of a command to a verb, and from what went wrong to one line and an exit status.

Whatever the user got wrong is one line on standard error and exit status 2.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence

from . import analyses, data, evaluation, hub, machine, training
from .verb import Verbs

DESCRIPTION = "LeWorldModel: episodes, training, planning, evaluation, the Hub."


def parser() -> argparse.ArgumentParser:
    """The whole command line; `args.verb` names the subcommand, `args.handler` does it."""
    whole = argparse.ArgumentParser(prog="lewm", description=DESCRIPTION)
    verbs = Verbs(whole.add_subparsers(dest="verb", required=True, metavar="VERB"))
    for group in (data, training, evaluation, analyses, hub, machine):
        group.add(verbs)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: its words; default: those that the program was started with.

    Returns:
        The exit status: 0, 2 where something was wrong, 130 after Ctrl-C, or the verb's own.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in training.RECIPE_VERBS:  # their keys are those of the recipe, `--help` too
        _, handler = training.RECIPE_VERBS[argv[0]]
        args = argparse.Namespace(verb=argv[0], arguments=argv[1:], handler=handler, what_stays=_training_says)
    else:
        args = parser().parse_args(argv)
    args.started = time.time() - 1  # file systems round
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # my_module:MyTask-v0 is looked for where the command is given
    # One line of progress beats a warning about tokenizers this package does not use.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What this package says is for the user, what libraries say only where it is a warning.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("lewm_hf").setLevel(logging.INFO)
    try:
        # The import takes seconds, in which Ctrl-C is no error either.
        from lewm_hf.compiler_cache import naming_the_compilers_cache
        from lewm_hf.progress import quiet_libraries

        quiet_libraries()
        with naming_the_compilers_cache():
            return args.handler(args) or 0
    except (ValueError, OSError, ImportError) as error:
        # Strict dataclasses of huggingface_hub put the cause on a second line.
        print(f"lewm {args.verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lewm {args.verb}: interrupted; {args.what_stays(args)}", file=sys.stderr)
        return 130


def _training_says(args: argparse.Namespace) -> str:
    """A training that has begun says itself what it saved."""
    return "the training had not begun"
