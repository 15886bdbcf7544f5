"""Cards from measured results only: what is not in a file of the checkpoint or of an evaluation is not claimed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import AutoModel

from ...configuration_lewm import LeWMConfig
from ...configuration_lewm_decoder import LeWMDecoderConfig
from ...evaluation.common.provenance import model_fingerprint
from ...evaluation.common.results import read_result
from ...evaluation.success.result import EvaluationResult
from ...files import write_atomic
from ...world_models.base import latent_shape
from ..convert.released import find_release
from ..export.code import export_code
from .analyses import AnalysisText, analyses_of
from .checks import (
    CARD_FILE,
    LIBRARY,
    TRAINING_FILE,
    check_card,
    check_folder,
    check_given,
    check_local,
    check_nothing_missing,
    find_film,
    lacks,
    read_json,
    render,
    weight_hashes,
)  # fmt: skip
from .collected import needed_collection, save_collection
from .decoder import write_decoder_card
from .eval_results import EVAL_RESULTS_FILE, eval_results_text
from .results import PIPELINE_TAG, model_index, relative
from .text import conversion_values, model_values
from .training_curves import draw_training

PROVENANCE_FILE = "conversion.json"
# Remarks of people, which a card takes over as they are.
NOTES_FILE = "NOTES.md"
CURVES_FILE = "assets/training.png"
TAGS = ("lewm", "world-model", "world-model-planning", "jepa", "model-predictive-control")
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
        weights_sha256: of each file with weights, by name.
        remote_code: the folder brings its code along.
        result_files: for each result its path within the folder, `None` where it lies elsewhere.
        local: neither checkpoint nor data are on the Hub.
        collection: how the training episodes of a local checkpoint were collected.
        notes: remarks of people, Markdown.
        film: path within the folder of a GIF of the agent.
        analyses: what else was measured of these weights.
        curves: PNG of the training's curves, `None` where no `metrics.jsonl` of it is at hand.
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


def write_card(folder: str | Path, **given: Any) -> Path:
    """Writes the card of a checkpoint, a decoder or a data set, whichever `folder` holds.

    Args:
        folder: as for `write_model_card`, `write_decoder_card` or `write_dataset_card`.
        **given: the keywords of these; a data set takes none. What is not given may be `None`, empty or missing.

    Raises:
        FileNotFoundError, ValueError: one line; nothing is written then.
    """
    folder, given = Path(folder), {name: value for name, value in given.items() if value}
    if (folder / "episodes.json").exists():
        if given:
            raise ValueError(f"{folder} is a data set, whose card is measured on its files: omit {', '.join(given)}")
        return write_dataset_card(folder)
    check_folder(folder)
    if (read_json(folder / "config.json") or {}).get("model_type") == LeWMDecoderConfig.model_type:
        if "results" in given:
            raise ValueError(f"{folder} is a decoder, whose results stand in its {TRAINING_FILE}: omit --results")
        return write_decoder_card(folder, **given)
    if "world_model" in given:
        raise ValueError(f"{folder} is a world model itself: --world-model is for decoders")
    return write_model_card(folder, **given)


def write_model_card(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    data_license: str | None = None,
    dataset_id: str | None = None,
    dataset_revision: str | None = None,
    results: Sequence[str | Path] = (),
    with_code: bool = False,
    local: bool = False,
    episodes: str | Path | None = None,
) -> Path:
    """Writes `README.md` of a checkpoint's folder, and its results for the Hub's leaderboards to `.eval_results/`.

    Args:
        folder: a `from_pretrained` folder with `training.json` or `conversion.json`. A `NOTES.md` in it, remarks of
            people in Markdown, goes below the table of results as it is. Analyses whose results lie below
            `folder/evaluation` (probe, surprise, health, ...) are shown as `lewm report` shows them. Curves of the
            training are drawn to `assets/training.png` where `metrics.jsonl` lies in the folder, or in the run whose
            `last` or `best` it is. The card begins with `assets/agent.gif`, else with a film that an evaluation in the
            folder left, where there is one.
        repo_id: where the checkpoint will live, `org/name`.
        license: of the weights, a Hub identifier such as `apache-2.0`.
        data_license: of the training episodes.
        dataset_id, dataset_revision: Hub id and commit of the training episodes. Default: those of the recipe.
        results: `results.json` of evaluations of exactly these weights, or folders with such files anywhere below.
            Default: `folder/evaluation`.
        with_code: also put the code into the folder, so that `trust_remote_code=True` does without this package; see
            `export_code`.
        local: neither the checkpoint nor its data are on the Hub: the card calls the folder as it is given here, and
            says how to collect the episodes again. Takes no `repo_id`, `dataset_id` and `dataset_revision`.
        episodes: of a local checkpoint: directory of the training episodes. How they were collected is kept in
            `collection.json` for the next card. Default: that file, or the recipe's directory.

    Raises:
        FileNotFoundError, ValueError: one line that names every missing field, or a result of other weights.
    """
    folder = Path(folder)
    if local:
        check_local(repo_id=repo_id, dataset_id=dataset_id, dataset_revision=dataset_revision)
    elif episodes is not None:
        raise ValueError("--episodes is for --local: on the Hub, --dataset-id says which episodes")
    facts = collect_facts(
        folder, repo_id, license, data_license, dataset_id, dataset_revision, list(results), local, episodes
    )
    if with_code:
        facts = replace(facts, remote_code=True)
    text = model_card(facts)
    check_card(text, "model")
    sources = enumerate(facts.result_files)
    entries = eval_results_text(facts, {number: file for number, file in sources if file is not None})
    if with_code:
        export_code(folder)
    if facts.collection is not None:
        save_collection(folder, facts.collection)
    if facts.curves is not None:
        write_atomic(folder / CURVES_FILE, facts.curves)
    if entries is None:
        (folder / EVAL_RESULTS_FILE).unlink(missing_ok=True)
        with suppress(OSError):  # not there, or with other files in it
            (folder / EVAL_RESULTS_FILE).parent.rmdir()
    else:
        write_atomic(folder / EVAL_RESULTS_FILE, entries)
    return write_atomic(folder / CARD_FILE, text)


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
    if training is None and conversion is None:
        missing.append(f"{TRAINING_FILE} or {PROVENANCE_FILE}")
    # Recordings have no environment, and plans cannot be tried without one.
    recordings = training is not None and "env_id" in training and training["env_id"] is None
    needed_facts = [name for name in TRAINING_FACTS if not (recordings and name == "env_id")]
    missing += [f"{TRAINING_FILE}: {name}" for name in needed_facts if training is not None and lacks(training, name)]
    missing += [
        f"{PROVENANCE_FILE}: {name}" for name in CONVERSION_FACTS if conversion is not None and lacks(conversion, name)
    ]
    collection, lacking = needed_collection(folder, training, episodes) if local else (None, [])
    missing += lacking
    model = AutoModel.from_pretrained(folder).eval()
    if model.config.action_mean is None:
        missing.append("config.json: action_mean, action_std")
    paths = [path for given in results or [folder / "evaluation"] for path in _result_files(Path(given))]
    if not paths and not recordings:
        missing.append("--results: an evaluation (`lewm eval`)")
    read = []
    for path in paths:
        result = read_result(path)
        missing += [f"{path}: {name}" for name in RESULT_FACTS if lacks(result, name)]
        read.append(result)
    check_nothing_missing(folder, missing)
    fingerprint = model_fingerprint(model)
    for path, result in zip(paths, read, strict=True):
        if result.model.fingerprint != fingerprint:
            raise ValueError(f"{path} was measured on other weights than those of {folder}: evaluate this checkpoint")
    analyses = analyses_of(folder, fingerprint)
    assert repo_id and license and data_license  # else they were among what is missing
    remote_code, notes = (folder / "pipeline_lewm.py").exists(), folder / NOTES_FILE
    return CardFacts(
        repo_id, license, data_license, dataset_id, dataset_revision, model.config, latent_shape(model), *method(model),
        hasattr(model, "rollout"), read, weight_hashes(folder), training, conversion, remote_code,
        tuple(_within(folder, path) for path in paths), local, collection,
        notes.read_text(encoding="utf-8").strip() if notes.is_file() else None, find_film(folder), analyses,
        draw_training(folder, training, model.config),
    )  # fmt: skip


def method(model: Any) -> tuple[str, str]:
    """A model's paper as a link, and how it was learned: its attributes `method` and `learned`."""
    name, link = getattr(model, "method", (type(model).__name__, None))
    return f"[{name}]({link})" if link else name, getattr(model, "learned", "learned from pixels and actions")


def model_card(facts: CardFacts) -> str:
    """The text of a model's `README.md`, metadata included."""
    env = [facts.env_id.partition("/")[2].partition("-")[0].lower()] if facts.env_id else []
    base = (facts.training or {}).get("base_model") or {}
    started_from = base["source"] if base.get("revision") else None  # only a checkpoint of the Hub has one
    data = ModelCardData(
        license=facts.license,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        tags=[*TAGS, *env],
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        base_model=facts.conversion["release"] if facts.conversion else started_from,
        base_model_relation="finetune" if started_from else None,
        model_name=facts.name if facts.results else None,
        eval_results=model_index(facts) or None,
    )
    return render(data, "model_card.md", model_values(facts))


def conversion_card(conversion: Mapping[str, Any], config: LeWMConfig, source: str) -> str:
    """The text of `README.md` that `convert` leaves: provenance, and that nothing has been measured yet.

    Args:
        source: the folder, as it was typed.
    """
    release = find_release(repo_id=conversion["release"])
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        tags=[*TAGS, *([release.env] if release else [])],
        base_model=release and release.repo_id,
        datasets=[release.repo_id] if release else None,  # data and weights share an id
    )
    env, env_id = (release.env, release.env_id) if release else (None, None)
    return render(data, "conversion_card.md", conversion_values(conversion, config, env, env_id, source))


def write_dataset_card(folder: str | Path) -> Path:
    """Writes `README.md` of a directory of episodes, measured again on its files.

    Raises:
        FileNotFoundError, ValueError: one line where the description or the files are missing or damaged.
    """
    from ...data.storage import dataset_card as cards  # measuring how many pairs are solved needs the environment
    from ...data.storage.lerobot import is_lerobot

    folder = Path(folder)
    description = cards.read_description(folder)
    if description is None:
        raise ValueError(f"{folder} has no {cards.DESCRIPTION_FILE}: collect or import the episodes with this package")
    needed = ("env_kwargs", "fps", "collector", "versions")
    if missing := [name for name in needed if name not in description]:
        raise ValueError(f"the card of {folder} would lack {', '.join(missing)}: {cards.DESCRIPTION_FILE} has no such")
    cards.check_complete(folder, description)
    facts, _ = cards.measure_directory(folder, description)
    text = cards.render_card(description, facts, is_lerobot(folder))
    check_card(text, "dataset")
    return write_atomic(folder / CARD_FILE, text)


def _result_files(path: Path) -> list[Path]:
    """A file, the one in a folder, or all below a folder that holds none itself."""
    if path.is_dir() and not (path / "results.json").is_file():
        return sorted(path.rglob("results.json"))
    return [path] if path.exists() or path.name != "evaluation" else []


def _within(folder: Path, path: Path) -> str | None:
    """The name of a result within the folder."""
    path = (path / "results.json" if path.is_dir() else path).resolve()
    return path.relative_to(folder.resolve()).as_posix() if path.is_relative_to(folder.resolve()) else None
