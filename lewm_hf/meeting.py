"""Processes that were started to work together, until they have met."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

# Set by mpirun and torchrun, and by srun for a job step alone: in a batch script SLURM_NTASKS says nothing.
STARTED = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
# Where they meet.
MEETING = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Seconds after which a process says that it waits for others.
PATIENCE = 60.0


@contextmanager
def telling_of_a_wait() -> Iterator[None]:
    """Says what a process waits for whose environment says that it is one of several, once that takes long.

    Variables of an earlier launch make a process that is alone wait for hours; nobody can tell it from one whose
    neighbours are slow to come.
    """

    def tell() -> None:
        said = [f"{name}={os.environ[name]}" for name in (*STARTED, *MEETING) if name in os.environ]
        logger.warning(
            "still waiting for the other processes of this launch (%s): start all of them, or unset these variables "
            "where this one is alone",
            ", ".join(said),
        )

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    if any(name in os.environ for name in STARTED):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
