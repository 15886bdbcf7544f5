"""A program in several processes, as a launcher starts them."""

import os
import socket
import subprocess
import sys


def start(count, arguments, **environment):
    """Python with these arguments, `count` times; returns exit statuses and what each printed, `(output, errors)`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=os.environ | shared | environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    printed = [process.communicate(timeout=500) for process in processes]
    return [process.returncode for process in processes], printed
