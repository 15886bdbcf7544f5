"""Temporal straightness over a training run, as its log tells it, and as a plot (paper, figure 17)."""

import json
from pathlib import Path

from ..common.plots import COLORS, figure


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
    curves = {name: straightness_over_training(run) for name, run in runs.items()}
    with figure(path, 5.2, 3.2) as axes:
        axes.axhline(0, color="#9aa0ac", linewidth=0.8)
        for number, (name, (steps, values)) in enumerate(curves.items()):
            axes.plot(steps, values, color=COLORS[number % len(COLORS)], label=name)
        axes.set_xlabel("training step")
        axes.set_ylabel("cosine of consecutive latent velocities")
        axes.legend()
