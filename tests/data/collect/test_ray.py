"""Collecting on a Ray cluster of this machine: the files of one process, whatever dies on the way."""

import sys
import threading
import time
from pathlib import Path

import pytest

from lewm_hf.data.collect import collect

from .test_run import SMALL, content


def test_files_of_a_cluster_are_those_of_one_process(tmp_path):
    """Half of them by a worker of Ray's; this process goes on from there. Two work at once in the long test below."""
    expected = content(collect("two_room", tmp_path / "alone", workers=1, **SMALL))
    out = tmp_path / "set"
    collect("two_room", out, shard=(0, 2), on="ray", ray_address="local", workers=1, **SMALL)
    assert len(list((out / "data").rglob("*.parquet"))) == 3
    collect("two_room", out, workers=1, **SMALL)
    assert content(out) == expected


@pytest.mark.long
def test_a_machine_that_dies_on_the_way_costs_nothing_but_time(tmp_path, monkeypatch):
    """Two machines with one core each, as far as Ray can tell; one loses its power while both work."""
    import ray
    from ray.cluster_utils import Cluster

    arguments = {"episodes": 120, "image_size": 128, "episodes_per_file": 5, "seed": 3, "max_steps": 100}
    expected = content(collect("two_room", tmp_path / "alone", workers=1, **arguments))
    out, seen = tmp_path / "set", {}
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    first, _ = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)

    def lose_one():
        while not len(list(out.rglob("*.parquet"))) > 3:
            time.sleep(0.02)
        cluster.remove_node(first, allow_graceful=False)
        seen["files"] = len(list(out.rglob("*.parquet")))

    try:
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        threading.Thread(target=lose_one, daemon=True).start()
        collect("two_room", out, on="ray", **arguments)
        assert sorted(node["Alive"] for node in ray.nodes()) == [False, True, True]
        assert ray.is_initialized(), "a connection of the caller's stays open"
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert 3 < seen["files"] < len([name for name in expected if name.startswith("data")])
    assert content(out) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"on": "slurm"}, "on='slurm' is no place to work: use one of processes, ray"),
        ({"on": "ray", "workers": 0}, "workers=0 must be at least 1"),
        ({"ray_address": "head:6379"}, "head:6379 is that of a Ray cluster.*--on ray"),
        ({"out": "no-such://bucket/set"}, "no-such://bucket/set is at no kind of place that fsspec knows"),
        ({"out": Path("s3://bucket/set")}, "s3:/bucket/set is an address: give a folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(tmp_path, changed, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        collect("two_room", changed.pop("out", tmp_path / "set"), **SMALL, **changed)
    assert not list(tmp_path.iterdir())


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path):
    for address in ("127.0.0.1:1", "head.invalid:6379", "ray://127.0.0.1:x"):
        with pytest.raises(OSError, match=f"no Ray cluster at {address} .*ray start --head.*--ray-address"):
            collect("two_room", tmp_path / "set", on="ray", ray_address=address, **SMALL)
    assert not (tmp_path / "set").exists()


def test_without_ray_one_line_says_what_to_install_and_everything_else_works(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lewm_hf.engines.ray_cluster", raising=False)
    with pytest.raises(ImportError, match=r"'ray' is missing: install it with `pip install 'lewm-hf\[ray\]'`"):
        collect("two_room", tmp_path / "set", on="ray", **SMALL)
    assert not (tmp_path / "set").exists()
    collect("two_room", tmp_path / "set", workers=1, **SMALL)
