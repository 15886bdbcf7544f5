"""Temporal straightness: do embeddings of consecutive frames move in one direction?

Nothing in LeWM's loss asks for it; it grows during training all the same (paper, figure 17). SIGReg acts on each time
step by itself and leaves the way from one to the next free.
"""

import json
from pathlib import Path

import torch
from torch import Tensor


def cosines(embeddings: Tensor) -> Tensor:
    """Cosine of the angle between consecutive latent velocities `v_t = z_{t+1} - z_t`.

    Args:
        embeddings: `(B, T, *latent)` of frames at equal spacing.

    Returns:
        `(B, T - 2)` float32 in [-1, 1]; NaN where a velocity is 0 and has no direction.
    """
    velocities = embeddings.float().flatten(2).diff(dim=1)
    lengths = velocities.norm(dim=2)
    products = (velocities[:, 1:] * velocities[:, :-1]).sum(2)
    return (products / (lengths[:, 1:] * lengths[:, :-1])).clamp(-1, 1)


def straightness(embeddings: Tensor) -> float:
    """Mean of `cosines` over batch and time: 1 on a straight line, -0.5 for embeddings that are all independent.

    0 where there is nothing to average: fewer than 3 frames, or no motion.
    """
    found = cosines(embeddings)
    found = found[found.isfinite()]
    return float(found.mean()) if len(found) else 0.0


def straightness_over_training(run: str | Path) -> tuple[list[int], list[float]]:
    """Steps and values that a training run logged.

    Args:
        run: folder of the run, or its `metrics.jsonl`.

    Raises:
        FileNotFoundError: where there is no `metrics.jsonl`.
        ValueError: where none of its records has a straightness.
    """
    path = Path(run)
    path = path / "metrics.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give the folder of a training run")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    logged = [(record["step"], record["straightness"]) for record in records if "straightness" in record]
    if not logged:
        raise ValueError(f"{path} holds no straightness: train with history_size of 2 or more")
    steps, values = zip(*logged, strict=True)
    return list(steps), list(values)


def plot_straightness(path: str | Path, runs: dict[str, str | Path]) -> None:
    """Straightness over training, one line per run, as PNG; `runs` by the names in the legend."""
    from ..evaluation.common.plots import COLORS, figure

    curves = {name: straightness_over_training(run) for name, run in runs.items()}
    with figure(path, 5.2, 3.2) as axes:
        axes.axhline(0, color="#9aa0ac", linewidth=0.8)
        for number, (name, (steps, values)) in enumerate(curves.items()):
            axes.plot(steps, values, color=COLORS[number % len(COLORS)], label=name)
        axes.set_xlabel("training step")
        axes.set_ylabel("cosine of consecutive latent velocities")
        axes.legend()


def pixel_straightness(frames: Tensor) -> float:
    """The same of the pictures themselves, `(B, T, H, W, 3)` uint8: how straight the world looks without an encoder."""
    return straightness(torch.as_tensor(frames).flatten(2))
