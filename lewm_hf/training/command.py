"""What the training commands have in common: who speaks, and one line for what is the user's to mend."""

import logging
import os
from collections.abc import Callable
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from ..progress import quiet_libraries
from ..scripts import exit_status


def run_command(work: Callable[[], Any]) -> int:
    """Runs `work` and returns the exit status: 0, or 2 after one line where input or machine are at fault."""
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if main_process else logging.ERROR, format="%(message)s")
    quiet_libraries()

    def beside_progress() -> None:
        with logging_redirect_tqdm():
            work()

    return exit_status(beside_progress)
