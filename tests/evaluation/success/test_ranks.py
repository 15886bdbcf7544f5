"""`lewm eval` in several real processes: the rows and hashes of one."""

import json
import os
import socket
import subprocess
import sys

import pytest

from lewm_hf import LeWMImageProcessor
from lewm_hf.evaluation.common.results import read_result, read_rows
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.planning import load_planner

QUICK = {"samples": 8, "iterations": 1, "elites": 2}


@pytest.fixture
def checkpoint(tiny_model, tiny_config, tmp_path):
    tiny_model.config.action_mean, tiny_model.config.action_std = [0.0, 0.0], [0.6, 0.6]
    tiny_model.save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def start(count, arguments):
    """The command, as a launcher starts it `count` times; returns exit statuses and what each printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(count):
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "lewm_hf.cli", "eval", *map(str, arguments)], env=os.environ | shared | own,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    printed = [process.communicate(timeout=240) for process in processes]
    return [process.returncode for process in processes], printed


def arguments(checkpoint, out):
    settings = [f"--set={name}={value}" for name, value in QUICK.items()]
    return [checkpoint, "--env", "two_room", "--planner", "paper", "-n", 5, "--seeds", 42, 43, "--num-envs", 2,
            "--video", 1, "--out", out, *settings]  # fmt: skip


def agree(checkpoint, out, count):
    alone = evaluate(
        str(checkpoint), env="two_room", planner=load_planner("paper", QUICK), n=5, seeds=[42, 43], num_envs=2
    )
    statuses, printed = start(count, arguments(checkpoint, out))
    assert statuses == [0] * count, printed
    assert "reached" in printed[0][0] or "success" in printed[0][0].lower()
    assert not any(text for text, _ in printed[1:]), "one process speaks"
    shared = read_result(out)
    assert shared["rows_hash"] == alone.result["rows_hash"]
    assert [one["hash"] for one in shared["manifests"]] == [one["hash"] for one in alone.result["manifests"]]
    assert shared["planning"]["plans"] == alone.result["planning"]["plans"]

    def facts(rows):
        return [{key: value for key, value in vars(row).items() if key != "wall_time"} for row in rows]

    assert facts(read_rows(out)) == facts(alone.rows)
    assert list((out / "videos").iterdir()) and not (out / "unfinished").exists()


def test_two_processes_give_the_rows_and_hashes_of_one(checkpoint, tmp_path):
    agree(checkpoint, tmp_path / "shared", 2)


@pytest.mark.long
def test_three_processes_share_unevenly(checkpoint, tmp_path):
    agree(checkpoint, tmp_path / "shared", 3)
    before = (tmp_path / "shared" / "results.json").read_bytes()
    statuses, printed = start(3, arguments(checkpoint, tmp_path / "shared"))
    assert 0 not in statuses and "holds an evaluation already" in printed[0][1]
    assert (tmp_path / "shared" / "results.json").read_bytes() == before
    assert json.loads(before)["rows_hash"]
