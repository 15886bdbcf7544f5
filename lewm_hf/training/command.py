"""What the training commands have in common: who speaks, and one line for what is the user's to mend."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from ..progress import quiet_libraries


def run_command(work: Callable[[], Any]) -> int:
    """Runs `work` and returns the exit status: 0, or 2 after one line where input or machine are at fault."""
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if main_process else logging.ERROR, format="%(message)s")
    quiet_libraries()
    try:
        with logging_redirect_tqdm():
            work()
    except (ValueError, OSError, ImportError) as error:
        # What a loader worker raised arrives with its traceback; the last line says what was wrong.
        text = str(error)
        print(f"error: {text.strip().splitlines()[-1] if 'Original Traceback' in text else text}", file=sys.stderr)
        return 2
    return 0
