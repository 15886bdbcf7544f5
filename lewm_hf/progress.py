"""What commands show while they work."""

import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

TERMINAL_SECONDS, LOG_SECONDS = 0.1, 60.0


def progress_bar(iterable: Iterable | None = None, *, show: bool, **options: Any) -> tqdm:
    """A bar of tqdm: alive on a terminal and in a notebook, one drawing a minute where standard error is a log.

    Args:
        iterable, **options: tqdm's.
        show: `False` shows nothing.
    """
    alive = sys.stderr.isatty() or "ipykernel" in sys.modules
    pace = TERMINAL_SECONDS if alive else LOG_SECONDS
    # tqdm's monitor would draw every `maxinterval` seconds whatever `mininterval` says.
    return tqdm(iterable, disable=not show, mininterval=pace, maxinterval=max(10.0, pace), **options)


def quiet_libraries() -> None:
    """For commands: bars for a file of a megabyte, reports and a line per request would drown what they have to say."""
    import datasets
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    datasets.disable_progress_bars()
    for chatty in ("accelerate", "httpx", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of every attempt to reach the Hub; what comes of it is raised.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
