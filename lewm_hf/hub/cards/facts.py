"""What a model card states, read from the checkpoint's own files and from evaluations of exactly its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModel

from ...data.storage.local_paths import relative
from ...evaluation.common.provenance import model_fingerprint
from ...evaluation.common.results import read_result
from ...evaluation.success.result import EvaluationResult
from ...world_models.base import latent_shape
from .analyses import AnalysisText, analyses_of
from .checks import (
    TRAINING_FILE,
    cameras_of,
    check_folder,
    check_given,
    check_nothing_missing,
    find_film,
    lacks,
    read_json,
    stored_types,
    weight_hashes,
)
from .collected import needed_collection
from .training_curves import draw_training

PROVENANCE_FILE = "conversion.json"
# Remarks of people, which a card takes over as they are.
NOTES_FILE = "NOTES.md"
TRAINING_FACTS = (
    "steps", "epochs", "seconds", "parameters", "env_id", "train_windows", "train_fingerprint", "num_processes",
    "mixed_precision", "hardware.device_name", "versions", "recipe.seed", "recipe.batch_size", "recipe.learning_rate",
)  # fmt: skip
CONVERSION_FACTS = ("source", "weights_sha256", "tensors", "parameters", "converter")
# What `EvaluationResult` leaves open.
RESULT_FACTS = (
    "protocol.label", "protocol.name", "protocol.hash", "protocol.split", "protocol.goal_offset", "protocol.budget",
    "protocol.drop_solved", "planner.label", "planner.name", "planner.hash", "floors.random", "excess.random",
    "hardware.device_name",
)  # fmt: skip


@dataclass(frozen=True)
class CardFacts:
    """Everything a model card states.

    Args:
        repo_id: where the checkpoint will live; for a local one its folder, as it was typed.
        license: of the weights; `data_license`: of the episodes they were trained on.
        dataset_id, dataset_revision: of those episodes, on the Hub; `None` for a local checkpoint.
        config: the checkpoint's; `latent` the shape of one of its latents.
        method, learned, plans: what the model says of itself: its paper as a link, how it was learned, and whether it
            plans or only imitates.
        training: content of `training.json`, for a checkpoint trained with this package.
        conversion: content of `conversion.json`, for a converted one.
        results: of its evaluations; none where the training episodes have no environment.
        weights_sha256: of each file with weights, by name; `stored_types` the types that they are stored in.
        remote_code: the folder brings its code along.
        result_files: for each result its path within the folder, `None` where it lies elsewhere.
        local: neither checkpoint nor data are on the Hub.
        collection: how the training episodes of a local checkpoint were collected.
        notes: remarks of people, Markdown.
        film: path within the folder of a GIF of the agent.
        analyses: what else was measured of these weights.
        curves: PNG of the training's curves, `None` where no `metrics.jsonl` of it is at hand.
        cameras: their names, of a model that sees several.
    """

    repo_id: str
    license: str
    data_license: str
    dataset_id: str | None
    dataset_revision: str | None
    config: Any
    latent: tuple[int, ...]
    method: str
    learned: str
    plans: bool
    results: list[EvaluationResult]
    weights_sha256: dict[str, str]
    stored_types: list[str]
    training: dict[str, Any] | None = None
    conversion: dict[str, Any] | None = None
    remote_code: bool = False
    result_files: tuple[str | None, ...] = ()
    local: bool = False
    collection: dict[str, Any] | None = None
    notes: str | None = None
    film: str | None = None
    analyses: tuple[AnalysisText, ...] = ()
    curves: bytes | None = None
    cameras: Sequence[str] = ()

    @property
    def env_id(self) -> str | None:
        """Of its evaluations, else of its training episodes; `None` for recordings without an environment."""
        return self.results[0].env.id if self.results else (self.training or {}).get("env_id")

    @property
    def origin(self) -> dict[str, Any]:
        """Content of `training.json`, else of `conversion.json`."""
        return self.training or self.conversion or {}

    @property
    def name(self) -> str:
        return self.repo_id.rpartition("/")[2]


def collect_facts(
    folder: Path,
    repo_id: str | None,
    license: str | None,
    data_license: str | None,
    dataset_id: str | None,
    dataset_revision: str | None,
    results: Sequence[str | Path],
    local: bool = False,
    episodes: str | Path | None = None,
) -> CardFacts:
    """Reads and checks what a card states; see `write_model_card`."""
    check_folder(folder)
    check_given([repo_id, dataset_id], [license, data_license])
    training, conversion = (read_json(folder / name) for name in (TRAINING_FILE, PROVENANCE_FILE))
    recipe = (training or {}).get("recipe", {})
    needed = {"license": license, "data_license": data_license}
    if local:
        repo_id, dataset_id, dataset_revision = relative(folder.as_posix()), None, None
    else:
        if recipe.get("dataset_revision"):  # only a data set of the Hub has one
            dataset_id = dataset_id or recipe.get("dataset")
            dataset_revision = dataset_revision or recipe["dataset_revision"]
        if conversion and conversion.get("release"):
            dataset_id = dataset_id or conversion["release"]  # data and weights share an id
        needed = {"repo_id": repo_id, **needed, "dataset_id": dataset_id, "dataset_revision": dataset_revision}
    missing = [f"--{name.replace('_', '-')}" for name, value in needed.items() if not value]
    # Recordings have no environment, and plans cannot be tried without one.
    recordings = training is not None and "env_id" in training and training["env_id"] is None
    missing += _lacking_facts(training, conversion, recordings)
    collection, lacking = needed_collection(folder, training, episodes) if local else (None, [])
    missing += lacking
    model = AutoModel.from_pretrained(folder).eval()
    if model.config.action_mean is None:
        missing.append("config.json: action_mean, action_std")
    read = _read_results(results or [folder / "evaluation"])
    if not read and not recordings:
        missing.append("--results: an evaluation (`lewm eval`)")
    missing += [f"{path}: {name}" for path, result in read.items() for name in RESULT_FACTS if lacks(result, name)]
    check_nothing_missing(folder, missing)
    fingerprint = model_fingerprint(model)
    for path, result in read.items():
        if result.model.fingerprint != fingerprint:
            raise ValueError(f"{path} was measured on other weights than those of {folder}: evaluate this checkpoint")
    analyses = analyses_of(folder, fingerprint)
    assert repo_id and license and data_license  # else they were among what is missing
    remote_code, notes = (folder / "pipeline_lewm.py").exists(), folder / NOTES_FILE
    return CardFacts(
        repo_id, license, data_license, dataset_id, dataset_revision, model.config, latent_shape(model), *method(model),
        hasattr(model, "rollout"), list(read.values()), weight_hashes(folder), stored_types(folder), training,
        conversion, remote_code, tuple(_within(folder, path) for path in read), local, collection,
        notes.read_text(encoding="utf-8").strip() if notes.is_file() else None, find_film(folder), analyses,
        draw_training(folder, training, model.config), cameras_of(folder),
    )  # fmt: skip


def _lacking_facts(training: Mapping | None, conversion: Mapping | None, recordings: bool) -> list[str]:
    """What a card states of its checkpoint's origin and no file says, as the message names it."""
    if training is None and conversion is None:
        return [f"{TRAINING_FILE} or {PROVENANCE_FILE}"]
    of_training = [name for name in TRAINING_FACTS if not (recordings and name == "env_id")]
    needed = ((TRAINING_FILE, training, of_training), (PROVENANCE_FILE, conversion, CONVERSION_FACTS))
    return [
        f"{file}: {name}"
        for file, content, names in needed
        for name in names
        if content is not None and lacks(content, name)
    ]


def _read_results(places: Sequence[str | Path]) -> dict[Path, EvaluationResult]:
    """Results of evaluations by their paths: given files, those in given folders, or all below these.

    Protocols as they ship come before changed ones, near goals before far ones.
    """
    read = {path: read_result(path) for place in places for path in _result_files(Path(place))}
    return dict(sorted(read.items(), key=lambda entry: _from_the_usual(entry[1].protocol)))


def _from_the_usual(protocol: Mapping[str, Any]) -> tuple[bool, int]:
    return bool(protocol.get("overrides")), protocol.get("goal_offset") or 0


def method(model: Any) -> tuple[str, str]:
    """A model's paper as a link, and how it was learned: its attributes `method` and `learned`."""
    name, link = getattr(model, "method", (type(model).__name__, None))
    return f"[{name}]({link})" if link else name, getattr(model, "learned", "learned from pixels and actions")


def _result_files(path: Path) -> list[Path]:
    """A file, the one in a folder, or all below a folder that holds none itself."""
    if path.is_dir() and not (path / "results.json").is_file():
        return sorted(path.rglob("results.json"))
    return [path] if path.exists() or path.name != "evaluation" else []


def _within(folder: Path, path: Path) -> str | None:
    """The name of a result within the folder."""
    path = (path / "results.json" if path.is_dir() else path).resolve()
    return path.relative_to(folder.resolve()).as_posix() if path.is_relative_to(folder.resolve()) else None
