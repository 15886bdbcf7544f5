"""How a run is launched: Accelerate as the recipe says, and nothing from its environment in silence.

`accelerate launch`, `accelerate config` and containers leave variables behind that an `Accelerator` obeys unasked. Each
is either what the recipe says, or takes part and is recorded with the run, or is refused before any work starts.
"""

import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import (
    DistributedType,
    DynamoBackend,
    GradientAccumulationPlugin,
    ProjectConfiguration,
    TorchDynamoPlugin,
    get_cpu_distributed_information,
    parse_flag_from_env,
)

from ..engines.workers import usable_cores
from ..meeting import STARTED, telling_of_a_wait
from .freed_memory import keep_freed_memory
from .precision import mixed_precision, training_device
from .trackers import require_tracker

logger = logging.getLogger(__name__)

SHARDING = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}


@dataclass(frozen=True)
class Launch:
    """What a run computes with.

    Args:
        accelerator: of this process.
        precision: `"no"` or `"bf16"`, Accelerate's names.
        compile_options: of `torch.nn.Module.compile`, or `None` where nothing is compiled.
    """

    accelerator: Accelerator
    precision: str
    compile_options: dict[str, Any] | None

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same when the run is resumed."""
        backend = "no" if self.compile_options is None else self.compile_options.get("backend", "inductor")
        return {
            "num_processes": self.accelerator.num_processes,
            "mixed_precision": self.precision,
            "dynamo_backend": backend,
        }


@contextmanager
def launched(
    *, output_dir: str, precision: str, tracker: str, compile: bool = False, accumulation: int | None = None
) -> Iterator[Launch]:
    """Sets Accelerate up, and takes it down again such that every rank ends, however the block ends.

    Args:
        output_dir: of the run; trackers write into its `logs/`.
        precision: `"auto"`, `"fp32"` or `"bf16"`.
        tracker: a key of `trackers.TRACKERS`, or `"none"`.
        compile: compile the model, whatever the environment says.
        accumulation: batches per optimizer step; `None` where the recipe has no such key, which is 1.

    Raises:
        ValueError: one line, where the environment asks for what the recipe contradicts or training does not support.
        ImportError: one line, where the tracker is not installed.
    """
    refuse_sharding()
    refuse_other_accumulation(accumulation)
    precision = mixed_precision(with_launched_precision(precision), training_device())
    compile_options = launched_compilation(compile)
    require_tracker(tracker)
    with telling_of_a_wait():
        accelerator = Accelerator(
            mixed_precision=precision,
            # Otherwise each of several processes on a machine without an accelerator would train alone.
            cpu=training_device().type == "cpu",
            gradient_accumulation_plugin=GradientAccumulationPlugin(accumulation or 1, sync_with_dataloader=False),
            # Accelerate would wrap the model, which renames its weights; it is compiled in place instead.
            dynamo_plugin=TorchDynamoPlugin(backend="no"),
            log_with=None if tracker == "none" else tracker,
            project_config=ProjectConfiguration(output_dir, logging_dir=os.path.join(output_dir, "logs")),
            kwargs_handlers=[
                # BatchNorm's statistics are those of the global batch already, on every rank.
                DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
                InitProcessGroupKwargs(timeout=timedelta(hours=2)),  # the others wait while one evaluates
            ],
        )
    try:
        _refuse_copies(accelerator)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
            if accelerator.is_main_process:
                tell_of_idle_cores()
        yield Launch(accelerator, precision, compile_options)
        accelerator.wait_for_everyone()
    except BaseException as error:
        # The frames of an error would keep DistributedDataParallel alive.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        # Its reducer uses the process group until it is collected: a group that goes first leaves ranks that never end.
        accelerator.free_memory()
        accelerator.end_training()


def tell_of_idle_cores() -> None:
    """Says where cores of this machine have no part: `accelerate launch` and torchrun give a process one thread unless
    `OMP_NUM_THREADS` says how many, which nobody who trains on a CPU expects.
    """
    cores = usable_cores()
    processes, threads = _processes_here(), torch.get_num_threads()
    if processes * threads < cores and "OMP_NUM_THREADS" in os.environ:
        logger.info(
            "%d of %d cores compute: OMP_NUM_THREADS is %s, which `accelerate launch` makes it where nothing is said; "
            "for all cores say OMP_NUM_THREADS=%d before the command",
            processes * threads, cores, os.environ["OMP_NUM_THREADS"], max(1, cores // processes),
        )  # fmt: skip


def _processes_here() -> int:
    """How many processes of this launch run on the machine of the main one, whoever started them."""
    # A job step of Slurm lists its nodes' tasks, "2(x3),1", of which the main process's node is the first.
    of_slurm = re.match(r"\d+", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return max(get_cpu_distributed_information().local_world_size, int(of_slurm[0]) if of_slurm else 1, 1)


def refuse_sharding() -> None:
    """Raises:
    ValueError: where the environment asks for a model that is spread over processes.
    """
    for name, what in SHARDING.items():
        if parse_flag_from_env(name):
            raise ValueError(
                f"{name}={os.environ[name]} asks for {what}, but here every process holds the whole model: launch with "
                "`accelerate launch --multi_gpu` or torchrun, or run `accelerate config` again without it"
            )


def refuse_other_accumulation(accumulation: int | None) -> None:
    """Raises:
    ValueError: where the environment asks for another accumulation than the recipe.
    """
    name = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
    asked = os.environ.get(name, "").strip()
    if asked in ("", str(accumulation or 1)):
        return
    said = "no recipe of this kind accumulates" if accumulation is None else (
        f"the recipe says gradient_accumulation_steps={accumulation}"
    )  # fmt: skip
    remedy = "" if accumulation is None or not asked.isdigit() else f", or add --gradient_accumulation_steps {asked}"
    raise ValueError(f"the environment says {name}={asked}, but {said}: unset the variable{remedy}")


def with_launched_precision(precision: str) -> str:
    """The recipe's `precision`, made definite by what the launcher asked for.

    Raises:
        ValueError: where they contradict each other, or the launcher asks for another type than bf16.
    """
    # `accelerate launch` always sets the variable: "no" says nothing.
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").strip().lower()
    if asked == "no":
        return precision
    if asked != "bf16":
        raise ValueError(
            f"ACCELERATE_MIXED_PRECISION={asked} is not supported: launch with --mixed_precision no, and set precision "
            "(auto, fp32 or bf16) in the recipe"
        )
    if precision not in ("auto", "bf16"):
        raise ValueError(
            f"the environment says ACCELERATE_MIXED_PRECISION=bf16, but the recipe says precision={precision}: launch "
            "with --mixed_precision no, or add --precision bf16"
        )
    return "bf16"


def launched_compilation(compile: bool) -> dict[str, Any] | None:
    """Options of `torch.nn.Module.compile` that recipe and launcher ask for, or `None`.

    Raises:
        ValueError: for a backend that does not exist, and for regional compilation.
    """
    name = "ACCELERATE_DYNAMO_BACKEND"
    backend = os.environ.get(name, "no")
    if backend.upper() not in DynamoBackend.list():
        known = ", ".join(value.lower() for value in DynamoBackend.list())
        raise ValueError(f"{name}={backend} is unknown: use one of {known}")
    if backend.lower() == "no":
        return {} if compile else None
    plugin = TorchDynamoPlugin()
    if plugin.use_regional_compilation:
        raise ValueError(
            "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION is not supported: launch without "
            "--dynamo_use_regional_compilation"
        )
    return plugin.to_kwargs()


def _refuse_copies(accelerator: Accelerator) -> None:
    """Raises:
    ValueError: where several processes were started, but each would train by itself.
    """
    supported = accelerator.distributed_type == DistributedType.NO or accelerator.distributed_type.value.startswith(
        "MULTI_"
    )
    if not supported:
        raise ValueError(
            f"{accelerator.distributed_type.value} is not supported: launch on CPUs or GPUs, one whole model each"
        )
    for name in STARTED:
        count = os.environ.get(name, "")
        if count.isdigit() and int(count) > accelerator.num_processes:
            raise ValueError(
                f"{name}={count} processes were started, but each of them would train alone in the same folder: start "
                f"one, or let them share the batch with `torchrun --nproc_per_node {count}`"
            )
    # `accelerate launch` starts one process on a CPU whatever --num_processes says, and leaves this behind.
    several = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if accelerator.num_processes == 1 and several and not any(name in os.environ for name in STARTED):
        logger.warning(
            "one process trains: `accelerate launch --num_processes` starts no more than one on a CPU. Two share the "
            "batch with `torchrun --nproc_per_node 2 %s`", shlex.join(sys.argv),
        )  # fmt: skip
