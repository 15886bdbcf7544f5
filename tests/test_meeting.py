"""A process that waits for others says so: variables of an earlier launch look like a launch whose others are late."""

import os
import socket
import subprocess
import sys

WAITS = """
import logging
from lewm_hf import meeting
from {module} import {name}
logging.basicConfig(format="%(message)s")
meeting.PATIENCE = 0.5
with {name}({arguments}):
    pass
"""


def waiting(module, name, arguments=""):
    """What a process says that is the second of two, while the first never comes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    left = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    script = WAITS.format(module=module, name=name, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | left, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        return next((line for line in process.stderr if line.startswith("still waiting")), ""), port
    finally:
        process.kill()
        process.wait()


def test_a_training_and_an_evaluation_say_what_they_wait_for(tmp_path):
    launch = f"output_dir={str(tmp_path)!r}, precision='fp32', tracker='none'"
    for where in (
        ("lewm_hf.training.launch", "launched", launch),
        ("lewm_hf.evaluation.common.ranks", "launched_ranks"),
    ):
        said, port = waiting(*where)
        assert f"WORLD_SIZE=2, RANK=1, LOCAL_RANK=1, MASTER_ADDR=localhost, MASTER_PORT={port}" in said
        assert "unset these variables where this one is alone" in said
