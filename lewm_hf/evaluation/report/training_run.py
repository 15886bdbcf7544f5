"""What a training run left in its folder, and what that says about it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...configuration_lewm import LeWMConfig
from ...measures.collapse import collapse_warning
from ...sigreg import sigreg_bounds


def read_run(run_dir: str | Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The records of `metrics.jsonl` and the values of `recipe.yaml`, each empty where there is no such file.

    Raises:
        FileNotFoundError: where the folder does not exist.
        ValueError: for a damaged line before the last one, which a running training may be writing.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"there is no run {run_dir}: give the output_dir of a training run")
    records = []
    metrics = run_dir / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError
            records.append(record)
        except ValueError as error:
            if number < len(lines):
                raise ValueError(
                    f"{metrics}, line {number}, is not valid JSON: the file was damaged, restore it"
                ) from error
    path, recipe = run_dir / "recipe.yaml", {}
    if path.is_file():
        try:
            recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not valid YAML ({' '.join(str(error).split())}): restore it") from error
        if not isinstance(recipe, dict):
            raise ValueError(f"{path} holds a {type(recipe).__name__} instead of fields: restore it")
    return records, recipe


def last_collapse(records: Sequence[dict[str, Any]], recipe: dict[str, Any]) -> str | None:
    """What the last evaluation of the run says about collapse."""
    evaluations = [record for record in records if "eval/collapse" in record]
    return collapse_warning(evaluations[-1], recipe) if evaluations else None


def sigreg_bounds_of(recipe: Mapping[str, Any]) -> tuple[float, float] | None:
    """SIGReg of a recipe's batches on Gaussian and on collapsed embeddings; `None` for a recipe without batches."""
    if "batch_size" not in recipe:
        return None
    given = {name: recipe[name] for name in ("sigreg_knots", "sigreg_t_max") if name in recipe}
    return sigreg_bounds(LeWMConfig(**given), recipe["batch_size"])
