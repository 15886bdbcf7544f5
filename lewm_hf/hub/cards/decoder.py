"""The card of a decoder: what it is for, which world model it belongs to, and how well it draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ...configuration_lewm_decoder import LeWMDecoderConfig
from ...data.storage.dataset_card import env_tag
from ...data.storage.local_paths import published, relative
from ...files import write_atomic
from ...modeling_lewm_decoder import LeWMDecoder
from ..export.code import export_code
from .checks import (
    CARD_FILE,
    LIBRARY,
    TRAINING_FILE,
    cameras_of,
    check_card,
    check_folder,
    check_given,
    check_local,
    check_nothing_missing,
    lacks,
    read_json,
    render,
    weight_hashes,
    weights_text,
)  # fmt: skip
from .collected import needed_collection, save_collection
from .snippets import BIBTEX, decoder_snippet, install
from .text import PAPER, collected_text, precision_text

# The Hub's closest task: pictures in, through the world model's encoder, pictures out.
PIPELINE_TAG = "image-to-image"
TAGS = ("lewm", "world-model", "decoder")
FACTS = (
    "steps", "seconds", "parameters", "env_id", "world_model", "train_fingerprint", "train_frames", "num_processes",
    "mixed_precision", "evaluation.step", "hardware.device_name", "versions", "recipe.seed", "recipe.batch_size",
    "recipe.learning_rate", "recipe.eval_frames",
)  # fmt: skip
METRICS = {
    "eval/mse": ("mse", "mean squared pixel error, colors in [0, 1]"),
    "eval/psnr": ("psnr", "peak signal-to-noise ratio in dB"),
    "eval/over_mean_picture": ("mse_over_mean_picture", "error as a share of what the mean picture gets"),
}
_NOT_RECIPE = ("model", "model_revision", "dataset", "dataset_revision", "frame_cache", "num_workers", "tracker")


def write_decoder_card(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    world_model: str | None = None,
    license: str | None = None,
    data_license: str | None = None,
    dataset_id: str | None = None,
    dataset_revision: str | None = None,
    with_code: bool = False,
    local: bool = False,
    episodes: str | Path | None = None,
) -> Path:
    """Writes `README.md` of a decoder's folder, as `training/train_decoder.py` leaves it.

    Args:
        folder: a `from_pretrained` folder with `training.json`, which holds the decoder's evaluation.
        repo_id: where the decoder will live, `org/name`.
        world_model: Hub id of the model whose embeddings it draws.
        license, data_license: Hub identifiers, of the weights and of the training episodes.
        dataset_id, dataset_revision: Hub id and commit of the training episodes.
        with_code: also put the code into the folder; see `export_code`.
        local, episodes: as for `write_model_card`; the world model is then the folder that `training.json` names.

    Raises:
        FileNotFoundError, ValueError: one line that names every missing field.
    """
    folder = Path(folder)
    check_folder(folder)
    training = read_json(folder / TRAINING_FILE)
    given = {
        "repo-id": repo_id, "world-model": world_model, "license": license, "data-license": data_license,
        "dataset-id": dataset_id, "dataset-revision": dataset_revision,
    }  # fmt: skip
    if local:
        check_local(repo_id=repo_id, world_model=world_model, dataset_id=dataset_id, dataset_revision=dataset_revision)
        for name in ("dataset-id", "dataset-revision"):
            del given[name]
        place = (training or {}).get("world_model_source")
        given |= {"repo-id": relative(folder.as_posix()), "world-model": relative(place) if place else None}
    elif episodes is not None:
        raise ValueError("--episodes is for --local: on the Hub, --dataset-id says which episodes")
    check_given([] if local else [repo_id, world_model, dataset_id], [license, data_license])
    missing = [f"--{name}" for name, value in given.items() if not value] + _lacking_facts(training)
    collection, lacking = needed_collection(folder, training, episodes) if local else (None, [])
    check_nothing_missing(folder, missing + lacking)
    assert training is not None  # else it was among what is missing
    known = {name: value for name, value in given.items() if value}
    config = LeWMDecoder.from_pretrained(folder).config
    if config.world_model_fingerprint != training["world_model"]:
        raise ValueError(
            f"{folder}/config.json and {TRAINING_FILE} name different world models: the files belong to different "
            "decoders, copy the folder again"
        )
    data = ModelCardData(
        license=license,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        tags=[*TAGS, *env_tag(training["env_id"])],
        datasets=[dataset_id] if dataset_id else None,
        base_model=world_model,
        model_name=known["repo-id"].rpartition("/")[2],
        eval_results=_eval_results(training, dataset_id, dataset_revision),
    )
    text = render(data, "decoder_card.md", _values(known, training, config, weight_hashes(folder), collection, folder))
    check_card(text, "model")
    if with_code:
        export_code(folder)
    if collection is not None:
        save_collection(folder, collection)
    return write_atomic(folder / CARD_FILE, text)


def _lacking_facts(training: Mapping[str, Any] | None) -> list[str]:
    """What the card states of the training and no file says, as the message names it."""
    if training is None:
        return [TRAINING_FILE]
    found = training.get("evaluation") or {}
    of_recordings = "env_id" in training and training["env_id"] is None  # which have no environment
    names = [name for name in FACTS if lacks(training, name) and not (of_recordings and name == "env_id")]
    names += [f"evaluation.{name}" for name in METRICS if found.get(name) is None]
    return [f"{TRAINING_FILE}: {name}" for name in names]


def _eval_results(
    training: Mapping[str, Any], dataset_id: str | None, dataset_revision: str | None
) -> list[EvalResult]:
    """The decoder's evaluation as metadata for the Hub."""
    return [
        EvalResult(
            task_type=PIPELINE_TAG,
            task_name="decoding embeddings",
            dataset_type=dataset_id or f"{LIBRARY}-episodes",
            dataset_name=f"{training['env_id'] or 'recorded'} episodes",
            dataset_split="test",
            dataset_revision=dataset_revision,
            metric_type=kind,
            metric_name=name,
            metric_value=round(training["evaluation"][key], 6),
            metric_args={"frames": training["recipe"]["eval_frames"]},
        )
        for key, (kind, name) in METRICS.items()
    ]


def _values(
    given: Mapping[str, str],
    training: Mapping[str, Any],
    config: LeWMDecoderConfig,
    weights: Mapping[str, str],
    collection: Mapping[str, Any] | None,
    folder: Path,
) -> dict[str, Any]:
    """What `templates/decoder_card.md` is filled with."""
    recipe, env_id = training["recipe"], training["env_id"]
    model = f"`{given['world-model']}`"
    if collection is None:
        model = f"[{model}](https://huggingface.co/{given['world-model']})"
        data = f"`{given['dataset-id']}` at revision `{given['dataset-revision']}`. "
    else:
        data = collected_text(collection, relative(recipe["dataset"]))
    look = published(collection["env_kwargs"]) if collection else {}
    strip = next(iter(sorted(folder.glob("evaluation/strips/*.png"))), None)
    return {
        "name": given["repo-id"].rpartition("/")[2],
        "film": strip and strip.relative_to(folder).as_posix(),
        "model": model,
        "paper": PAPER,
        "training": training,
        "learned": f"`{env_id}`" if env_id else "recordings without an environment",
        "recipe": recipe,
        "precision": precision_text(training),
        "results": [(name, f"{training['evaluation'][key]:.4g}") for key, (_, name) in METRICS.items()],
        "install": install(env_id),
        "snippet": decoder_snippet(
            given["repo-id"], given["world-model"], env_id, look, config.image_size, cameras_of(folder)
        ),
        "config": config,
        "hours": training["seconds"] * training["num_processes"] / 3600,
        "settings": [
            (name, value) for name, value in published(recipe).items() if name not in _NOT_RECIPE and value is not None
        ],
        "data": data,
        "licenses": {"weights": given["license"], "data": given["data-license"]},
        "bibtex": BIBTEX,
        "weights": weights_text(weights),
        "versions": ", ".join(f"{name} {version}" for name, version in training["versions"].items()),
    }
