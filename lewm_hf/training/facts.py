"""What a model card must say about a training run, written beside every saved model."""

import torch

from ..evaluation.provenance import hardware, library_versions


def training_facts(values: dict, progress: dict, per_epoch: float, num_parameters: int, device: torch.device) -> dict:
    """Plain values for training.json.

    Args:
        values: see `recipe_values`; without what concerns this machine alone.
        progress: record of the run's state: steps, seconds, processes, precision, the data's facts.
        per_epoch: optimizer steps of one epoch.
    """
    facts = ("env_id", "dataset_fingerprint", "train_windows", "num_processes", "mixed_precision")
    return {
        "steps": progress["step"],
        "epochs": progress["step"] / per_epoch,
        "seconds": round(progress["seconds"], 1),
        "parameters": num_parameters,
        **{name: progress[name] for name in facts},
        "recipe": {key: value for key, value in values.items() if key not in ("output_dir", "resume")},
        "hardware": hardware(device),
        "versions": library_versions(),
    }
