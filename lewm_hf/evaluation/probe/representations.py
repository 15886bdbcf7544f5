"""What probes read from: the frozen embeddings, and beside them what an untrained encoder and plain pixels give."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...randomness import preserved_randomness
from ..common.embeddings import FrameSample, by_batches, encode_rows
from ..common.inputs import Inputs
from ..common.ranks import Ranks
from .regression import Sketch, pixel_components

WINDOW = 3
PCA_SIZE = 32
UNTRAINED_SEED = 1603

_NAMES = {"features": "encoder", "embeddings": "projected"}
Split = tuple[np.ndarray, np.ndarray]


def representations(
    inputs: Inputs,
    sample: FrameSample,
    windows: bool,
    controls: bool,
    splits: Sequence[Split],
    sketch: Sketch,
    ranks: Ranks,
) -> dict[str, list[np.ndarray]]:
    """Per name and split the vectors of the sampled frames, and of those before them: `(n, WINDOW or 1, width)`.

    Args:
        inputs: model and episodes.
        sample: the frames.
        windows: the `WINDOW - 1` frames before each one too.
        controls: an untrained encoder and the pictures' principal components too.
        splits: training and test frames of each seed, `(n,)` bool.
        sketch: makes large vectors smaller.
        ranks: processes that divide the frames; all of them return all vectors.
    """
    agent, episodes = inputs.agent, inputs.episodes
    rows = sample.rows[:, None] + np.arange(1 - WINDOW if windows else 0, 1)
    encoded = encode_rows(agent.model, agent.processor, episodes, rows, reduce=sketch, ranks=ranks)
    vectors = {_NAMES[name]: part.flatten(2).numpy() for name, part in encoded.items()}
    if controls:
        untrained = _untrained(agent.model)
        blind = encode_rows(untrained, agent.processor, episodes, rows, reduce=sketch, ranks=ranks)
        vectors["untrained encoder"] = next(iter(blind.values())).flatten(2).numpy()
    found = {name: [part] * len(splits) for name, part in vectors.items()}
    if controls:
        pictures, width = _small_pictures(episodes, rows, ranks), vectors["projected"].shape[2]
        flat = pictures.reshape(-1, pictures.shape[2])
        # Components of the training frames themselves: the frames before them show the same.
        last = np.arange(rows.shape[1] - 1, rows.size, rows.shape[1])
        found["pixel PCA"] = [
            pixel_components(flat, last[train], width).reshape(*rows.shape, -1) for train, _ in splits
        ]
    return found


def _untrained(model: torch.nn.Module) -> torch.nn.Module:
    """A fresh model of the same class and config, with random weights, those of a pretrained backbone included."""
    device = next(model.parameters()).device
    config = copy.deepcopy(model.config)
    if hasattr(config, "pretrained"):
        config.pretrained = False
    with preserved_randomness(torch.device("cpu")):
        torch.manual_seed(UNTRAINED_SEED)
        fresh = type(model)(config)
    return fresh.eval().to(device)


def _small_pictures(episodes: Any, rows: np.ndarray, ranks: Ranks) -> np.ndarray:
    """Pictures of 32 x 32 pixels, flattened: `(*rows.shape, 3072)` float32 in [0, 1]."""

    def work(some: np.ndarray) -> dict[str, torch.Tensor]:
        pictures = torch.from_numpy(episodes.frames(some)).permute(0, 3, 1, 2).float() / 255
        size = min(PCA_SIZE, pictures.shape[-1])
        small = torch.nn.functional.interpolate(pictures, size=size, mode="bilinear", antialias=True)
        return {"pixels": small.flatten(1)}

    return by_batches(rows, work, 256, ranks)["pixels"].numpy()
