"""A program in several processes, as a launcher starts them."""

import os
import socket

from forks import Fork


def start(count, arguments, **environment):
    """Python with these arguments, `count` times; returns exit statuses and what each printed, `(output, errors)`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    processes = [
        Fork(
            ["python", *arguments],
            environment=os.environ | shared | environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    done = [process.finish(timeout=500) for process in processes]
    return [one.returncode for one in done], [(one.stdout, one.stderr) for one in done]
