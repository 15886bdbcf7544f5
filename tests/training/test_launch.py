"""What Accelerate's environment says is what the recipe says, takes part, or is refused before any file is touched."""

import fcntl
import json
import os
import sys

import numpy as np
import pytest
import torch
from accelerate.utils import LoggerType
from safetensors.torch import load_file

from lewm_hf import files
from lewm_hf.training import trackers
from lewm_hf.training.launch import launched_compilation, tell_of_idle_cores
from lewm_hf.training.trackers import TRACKERS, require_tracker


@pytest.fixture
def command(train_module, tiny_arguments, run_training, tmp_path, capsys):
    """The command's status and what it says on standard error."""

    def run(*flags: str, **overrides):
        status = train_module.main([*tiny_arguments(tmp_path / "run", **overrides), *flags])
        return status, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]

    return run


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "add --gradient_accumulation_steps 4"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "auto"}, "STEPS=auto, but the recipe says"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "asks for DeepSpeed"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "asks for FSDP"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "asks for Megatron-LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "asks for a parallelism config"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "ACCELERATE_MIXED_PRECISION=fp16 is not supported"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "ACCELERATE_MIXED_PRECISION=fp8 is not supported"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "but the recipe says precision=fp32"),
        ({"ACCELERATE_DYNAMO_BACKEND": "fast"}, "ACCELERATE_DYNAMO_BACKEND=fast is unknown: use one of no, eager"),
        (
            {"ACCELERATE_DYNAMO_BACKEND": "EAGER", "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "true"},
            "without --dynamo_use_regional_compilation",
        ),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "2 processes were started, but each of them would train alone"),
    ],
)
def test_what_contradicts_the_recipe_is_refused(command, monkeypatch, tmp_path, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    status, lines = command()
    assert status == 2 and len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "run").exists()


def test_what_agrees_with_the_recipe_or_leaves_it_open_takes_part(run_training, monkeypatch, tmp_path, caplog):
    for name, value in {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "MASTER_ADDR": "127.0.0.1",  # accelerate launch --cpu --num_processes 2 starts one process and leaves this
    }.items():
        monkeypatch.setenv(name, value)
    done = run_training(tmp_path / "run", max_steps=1, precision="auto", gradient_accumulation_steps=2)
    assert done["step"] == 1
    facts = json.loads((tmp_path / "run" / "last" / "training.json").read_text())
    assert facts["mixed_precision"] == "bf16"
    assert "torchrun --nproc_per_node 2" in caplog.text


@pytest.mark.parametrize(
    ("threads", "processes", "cores", "said"),
    [("1", None, 4, "1 of 4 cores compute"), ("1", "2", 8, "2 of 8"), ("1", "4", 4, None), (None, None, 4, None)],
)
def test_cores_that_have_no_part_are_told_of(monkeypatch, caplog, threads, processes, cores, said):
    for name, value in (("OMP_NUM_THREADS", threads), ("LOCAL_WORLD_SIZE", processes)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    with caplog.at_level("INFO", "lewm_hf"):
        tell_of_idle_cores()
    if said is None:
        assert caplog.text == ""
    else:
        assert said in caplog.text and "for all cores say OMP_NUM_THREADS=4 before" in caplog.text


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, "2 of 8"),  # mpirun of Open MPI
        ({"MPI_LOCALNRANKS": "4", "PMI_SIZE": "8"}, "4 of 8"),  # and of MPICH and Intel
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}, "2 of 8"),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "LOCAL_WORLD_SIZE": "8"}, None),  # torchrun on each node
        ({"SLURM_NTASKS_PER_NODE": "8"}, "1 of 8"),  # a batch script that starts one process
    ],
)
def test_processes_of_other_launchers_count(monkeypatch, caplog, variables, said):
    for name, value in ({"OMP_NUM_THREADS": "1"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    with caplog.at_level("INFO", "lewm_hf"):
        tell_of_idle_cores()
    assert caplog.text == "" if said is None else f"{said} cores compute" in caplog.text


def test_the_launcher_may_ask_for_a_compiled_model(run_training, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    options = {"max_steps": 2, "eval_every": 1, "encoder_layers": 1, "predictor_layers": 1}
    run_training(tmp_path / "compiled", **options)
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND")
    run_training(tmp_path / "plain", **options)
    compiled, plain = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("compiled", "plain"))
    assert compiled.keys() == plain.keys()
    # Weights would not do: AdamW's first steps have the size of the learning rate where a gradient is only rounding.
    losses = [
        [
            line[key]
            for line in map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
            if "loss" in line
            for key in ("prediction_loss", "sigreg_loss")
        ]
        for name in ("compiled", "plain")
    ]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=1e-3)
    with pytest.raises(ValueError, match="dynamo_backend='no': it was started with dynamo_backend='eager'"):
        run_training(tmp_path / "compiled", "--resume", **options)


def test_recipe_and_launcher_decide_together_what_is_compiled(monkeypatch):
    assert launched_compilation(False) is None and launched_compilation(True) == {}
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "AOT_EAGER")
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_FULLGRAPH", "true")
    assert launched_compilation(False) == {"backend": "aot_eager", "fullgraph": True}


def test_a_second_process_in_the_folder_of_a_run_is_refused(run_training, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    folder = tmp_path / "run"
    run_training(folder, max_steps=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(OSError, match="another command is at work in .*run: wait until it is done"):
            run_training(folder, "--resume", max_steps=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before
    run_training(folder, "--resume", max_steps=1)


def test_every_tracker_of_accelerate_is_known_and_a_missing_one_is_refused(command, monkeypatch, tmp_path):
    assert set(TRACKERS) == {str(name) for name in LoggerType.list()} - {"all"}
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    for name, package in {"wandb": "lewm-hf[wandb]", "comet_ml": "comet-ml", "tensorboard": "lewm-hf[train]"}.items():
        status, lines = command("--tracker", name)
        assert status == 2 and len(lines) == 1 and f"tracker={name}" in lines[0] and package in lines[0]
    assert not (tmp_path / "run").exists()
    require_tracker("none")


@pytest.mark.skipif(sys.platform == "linux", reason="Linux forks, so that memory is shared")
def test_frames_in_memory_and_workers_are_refused_where_processes_are_spawned(command):
    status, lines = command(frame_cache="ram", num_workers=1)
    assert status == 2 and "use frame_cache=memmap, or num_workers=0" in lines[0]
