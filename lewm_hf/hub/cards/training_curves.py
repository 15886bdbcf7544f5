"""How a training went, as a card shows it: the curves of the run's `metrics.jsonl`."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
CURVES_FILE = "assets/training.png"  # within a checkpoint's folder, as its card names it
# Folders of a run that hold checkpoints; the run's own files lie above them.
CHECKPOINTS = ("last", "best")


def find_metrics(folder: Path) -> Path | None:
    """A checkpoint's `metrics.jsonl`: in its folder, else in the run whose `last` or `best` it is; `None` for none."""
    places = [folder, *([folder.resolve().parent] if folder.resolve().name in CHECKPOINTS else [])]
    return next((place / METRICS_FILE for place in places if (place / METRICS_FILE).is_file()), None)


def draw_training(folder: Path, training: Mapping[str, Any] | None, config: Any) -> bytes | None:
    """The curves of the training that a checkpoint comes from, up to its own step, as one PNG.

    Args:
        folder: of the checkpoint.
        training: the content of its `training.json`.
        config: the checkpoint's.

    Returns:
        `None` where there is no `metrics.jsonl`, nothing in it can be drawn, or matplotlib is not installed.

    Raises:
        ValueError: where `metrics.jsonl` is damaged, or its last evaluation until the checkpoint's step is not the one
            that `training.json` tells of: it is of another training.
    """
    path = find_metrics(folder)
    if path is None or training is None or find_spec("matplotlib") is None:
        return None
    from ...evaluation.report.figures import training_picture
    from ...evaluation.report.training_run import read_run, sigreg_bounds_of

    records, _ = read_run(path.parent)
    records = [record for record in records if record["step"] <= training["steps"]]
    judged = [record for record in records if "eval/prediction_loss" in record]
    found, told = judged[-1] if judged else {}, training.get("evaluation") or {}
    if different := [key for key, value in told.items() if found.get(key) != value]:
        key = different[0]
        raise ValueError(
            f"{path} is of another training than {folder}: it says {key}={found.get(key)}, training.json {told[key]}; "
            "put the metrics.jsonl of its own run there, or take this one away"
        )
    return training_picture(records, sigreg_bounds_of(training["recipe"]), getattr(config, "embed_dim", None))
