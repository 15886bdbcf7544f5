"""`lewm eval` in several real processes: the rows and hashes of one."""

import json
import os
import subprocess
import sys

import pytest

from lewm_cli import main
from lewm_hf import LeWMImageProcessor
from lewm_hf.evaluation.common.results import read_result, read_rows
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.planning import load_planner

from ..processes import start

QUICK = {"samples": 8, "iterations": 1, "elites": 2}


@pytest.fixture
def checkpoint(tiny_model, tiny_config, tmp_path):
    tiny_model.config.action_mean, tiny_model.config.action_std = [0.0, 0.0], [0.6, 0.6]
    tiny_model.save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def arguments(checkpoint, out):
    settings = [f"--set={name}={value}" for name, value in QUICK.items()]
    pairs = ["--env", "two_room", "-n", 5, "--seeds", 42, 43, "--num-envs", 2]
    command = ["-m", "lewm_hf.cli", "eval", checkpoint, "--planner", "paper", *settings]
    return [*command, *pairs, "--video", 1, "--out", out]


def agree(checkpoint, out, count, *more):
    alone = evaluate(
        str(checkpoint), env="two_room", planner=load_planner("paper", QUICK), n=5, seeds=[42, 43], num_envs=2
    )
    statuses, printed = start(count, [*arguments(checkpoint, out), *more])
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
    assert statuses == [2, 2, 2] and "holds an evaluation already" in printed[0][1]
    assert not any(errors for _, errors in printed[1:]), "one process speaks"
    assert (tmp_path / "shared" / "results.json").read_bytes() == before
    assert json.loads(before)["rows_hash"]


@pytest.mark.long
def test_a_ray_cluster_gives_the_rows_and_hashes_of_one_process(checkpoint, tmp_path):
    more = ["--on", "ray", "--ray-address", "local", "--workers", 2]
    agree(checkpoint, tmp_path / "shared", 1, *more)


MEET = """
import os
from lewm_hf.evaluation.common.ranks import launched_ranks
from lewm_hf.evaluation.common.engine_ranks import ranks_on

def meet():
    with launched_ranks() as ranks:
        ranks.every((os.getpid(), os.getcwd()))

with ranks_on("ray", meet, 3, "local") as ranks:
    met = ranks.every((os.getpid(), os.getcwd()))
    assert ranks.main and met[0][0] == os.getpid() and len({pid for pid, _ in met}) == 3, met
    assert {folder for _, folder in met} == {os.getcwd()}
assert "WORLD_SIZE" not in os.environ
"""


@pytest.mark.long
def test_processes_of_a_ray_cluster_meet_this_one():
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    subprocess.run([sys.executable, "-c", MEET], check=True, env=environment)


def test_options_of_a_cluster_without_one_are_refused(checkpoint, capsys):
    assert main(["health", str(checkpoint), "--episodes", "nowhere", "--workers", "2"]) == 2
    assert "--workers 2 is of a Ray cluster: add --on ray" in capsys.readouterr().err
