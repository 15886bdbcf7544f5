"""Where metrics go besides metrics.jsonl: the trackers of Accelerate."""

import importlib.util

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

# The module each needs, and the argument of Accelerate's `init_kwargs` that keeps its files inside the run.
TRACKERS: dict[str, tuple[str, str | None]] = {
    "tensorboard": ("tensorboard", None),
    "wandb": ("wandb", "dir"),
    "trackio": ("trackio", None),
    "mlflow": ("mlflow", None),
    "swanlab": ("swanlab", "logdir"),
    "comet_ml": ("comet_ml", None),
    "clearml": ("clearml", None),
    "dvclive": ("dvclive", "dir"),
    "aim": ("aim", None),
}
EXTRAS = {"tensorboard": "train", "wandb": "wandb", "trackio": "trackio"}


def require_tracker(name: str) -> None:
    """Raises:
    ImportError: one line, where the tracker is not installed; Accelerate alone would train without it.
    """
    if name == "none" or name in map(str, get_available_trackers()):
        return
    module = TRACKERS[name][0]
    package = f"'lewm-hf[{EXTRAS[name]}]'" if name in EXTRAS else module.replace("_", "-")
    what = "is too old" if importlib.util.find_spec(module) else "is missing"
    raise ImportError(
        f"the module {module!r} {what}, but tracker={name} needs it: install it with `pip install -U {package}`, or "
        "give another tracker (none logs to metrics.jsonl alone)",
        name=module,
    )


def start_tracker(accelerator: Accelerator, name: str, project: str, values: dict) -> None:
    """Opens the tracker and gives it the recipe's values; on every rank, writes on the main one alone."""
    if name == "none":
        return
    scalars = {key: value if isinstance(value, int | float) else str(value) for key, value in values.items()}
    folder = TRACKERS[name][1]
    options = {name: {folder: accelerator.logging_dir}} if folder else {}
    accelerator.init_trackers(project, config=scalars, init_kwargs=options)
