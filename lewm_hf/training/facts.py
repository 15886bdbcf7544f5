"""What a model card must say about a training run, written beside every saved model."""

import hashlib

import torch

from ..data.episode_data import EpisodeData
from ..evaluation.common.provenance import hardware, library_versions

STANDING = ("step", "evaluated", "seconds", "best", "last")


def content_fingerprint(episodes: EpisodeData) -> str:
    """SHA-256 of episode ids, lengths and actions: the same wherever the files lie."""
    digest = hashlib.sha256()
    for values in (episodes.episode_ids, episodes.lengths, episodes.actions):
        digest.update(f"{values.dtype}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def training_facts(values: dict, progress: dict, per_epoch: float, num_parameters: int, device: torch.device) -> dict:
    """Plain values for training.json.

    Args:
        values: see `recipe_values`; without what concerns this machine alone.
        progress: where the run stands, beside the facts of its data, processes and precision.
        per_epoch: optimizer steps of one epoch.
    """
    return {
        "steps": progress["step"],
        "epochs": progress["step"] / per_epoch,
        "seconds": round(progress["seconds"], 1),
        "parameters": num_parameters,
        **{name: value for name, value in progress.items() if name not in STANDING},
        "recipe": {key: value for key, value in values.items() if key not in ("output_dir", "resume")},
        "hardware": hardware(device),
        "versions": library_versions(),
    }
