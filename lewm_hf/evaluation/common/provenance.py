"""What a result depended on: library versions, hardware, the model's and the data's fingerprints."""

import hashlib
import os
import platform
from collections.abc import Collection
from importlib import metadata
from typing import Any

import numpy as np
import torch

from ...data.schema import SIM_STATE

LIBRARIES = (
    "lewm-hf", "torch", "transformers", "accelerate", "datasets", "huggingface-hub", "safetensors", "numpy", "pillow",
    "gymnasium", "mujoco", "dm-control", "ogbench", "pymunk", "opencv-python-headless",
)  # fmt: skip


def library_versions() -> dict[str, str]:
    """Versions of what is installed of the libraries that can move a success rate, and Python's."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware(device: torch.device | str) -> dict[str, Any]:
    """The device that planned, the processor, threads, and the render back end asked for."""
    device = torch.device(device)
    facts = {
        "device": str(device),
        "device_name": torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "render_backend": os.environ.get("MUJOCO_GL", "default"),
    }
    if device.type != "cpu":
        name_of = getattr(getattr(torch, device.type, None), "get_device_name", None)
        if name_of is not None:
            facts["device_name"] = name_of(device)
    return facts


def model_fingerprint(model: torch.nn.Module, without: Collection[str] = ()) -> str:
    """SHA-256 over names, shapes and values of all parameters and buffers; equal weights give equal fingerprints.

    Args:
        model: any module.
        without: children of the model that are left out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.split(".")[0] in without:
            continue
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def latents_fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over the weights without the model's `optional_heads`: what its latents and imagined futures come from.

    An actor that is fitted on frozen embeddings leaves it as it was.
    """
    return model_fingerprint(model, getattr(model, "optional_heads", ()))


def dataset_fingerprint(episodes: Any) -> str:
    """SHA-256 over the environment, episode ids, lengths, actions and, where there are any, simulator states.

    Pictures are left out, so that it does not depend on their format.
    """
    digest = hashlib.sha256(str(episodes.env_id).encode())
    for name, dtype in (
        ("episode_ids", np.int64), ("lengths", np.int64), ("actions", np.float32), ("states", np.float64),
    ):  # fmt: skip
        if name == "states" and not has_states(episodes):
            continue
        values = np.ascontiguousarray(getattr(episodes, name), dtype=dtype)
        digest.update(f"{name}:{values.shape};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def has_states(episodes: Any) -> bool:
    """Whether episodes hold the simulator states that restore an environment; recordings of a robot do not."""
    # Episodes in memory that name no columns have all of them.
    return SIM_STATE in getattr(episodes, "column_names", (SIM_STATE,))
