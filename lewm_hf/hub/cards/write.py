"""Cards from measured results only: what is not in a file of the checkpoint or of an evaluation is not claimed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from ...configuration_lewm import LeWMConfig
from ...configuration_lewm_decoder import LeWMDecoderConfig
from ...data.storage.dataset_card import env_tag
from ...files import write_atomic
from ..convert.released import find_release
from ..export.code import export_code
from .checks import (
    CARD_FILE,
    LIBRARY,
    TRAINING_FILE,
    check_card,
    check_folder,
    check_license,
    check_local,
    read_json,
    render,
)  # fmt: skip
from .collected import save_collection
from .decoder import write_decoder_card
from .eval_results import EVAL_RESULTS_FILE, eval_results_text
from .facts import CardFacts, collect_facts
from .results import PIPELINE_TAG, model_index
from .text import conversion_values, model_values
from .training_curves import CURVES_FILE

TAGS = ("lewm", "world-model", "world-model-planning", "jepa", "model-predictive-control")


def write_card(folder: str | Path, **given: Any) -> Path:
    """Writes the card of a checkpoint, a decoder or a data set, whichever `folder` holds.

    Args:
        folder: as for `write_model_card`, `write_decoder_card` or `write_dataset_card`.
        **given: the keywords of these. What is not given may be `None`, empty or missing.

    Raises:
        FileNotFoundError, ValueError: one line; nothing is written then.
    """
    folder, given = Path(folder), {name: value for name, value in given.items() if value}
    if (folder / "episodes.json").exists():
        if other := [name for name in given if name != "license"]:
            raise ValueError(f"{folder} is a data set, whose card is measured on its files: omit {', '.join(other)}")
        return write_dataset_card(folder, **given)
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


def model_card(facts: CardFacts) -> str:
    """The text of a model's `README.md`, metadata included."""
    base = (facts.training or {}).get("base_model") or {}
    started_from = base["source"] if base.get("revision") else None  # only a checkpoint of the Hub has one
    data = ModelCardData(
        license=facts.license,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        tags=[*TAGS, *env_tag(facts.env_id)],
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


def write_dataset_card(folder: str | Path, *, license: str | None = None) -> Path:
    """Writes `README.md` of a directory of episodes, measured again on its files.

    Args:
        folder: of the episodes.
        license: of the episodes, a Hub identifier such as `cc-by-4.0`; `episodes.json` keeps it. Default: what that
            says, which an import has from its source; that of this package for episodes of its own environments.

    Raises:
        FileNotFoundError, ValueError: one line where the description or the files are missing or damaged, or nobody
            has said under which license they stand.
    """
    from ...data.storage import dataset_card as cards  # measuring how many pairs are solved needs the environment
    from ...data.storage.lerobot import is_lerobot
    from ...data.storage.licenses import LICENSE_KEYS

    folder = Path(folder)
    description = cards.read_description(folder)
    if description is None:
        raise ValueError(f"{folder} has no {cards.DESCRIPTION_FILE}: collect or import the episodes with this package")
    needed = ("env_kwargs", "fps", "collector", "versions")
    if missing := [name for name in needed if name not in description]:
        raise ValueError(f"the card of {folder} would lack {', '.join(missing)}: {cards.DESCRIPTION_FILE} has no such")
    if license is not None:
        check_license(license)
        description = {name: value for name, value in description.items() if name not in LICENSE_KEYS}
        description["license"] = license
    cards.check_complete(folder, description)
    facts, _ = cards.measure_directory(folder, description)
    text = cards.render_card(description, facts, is_lerobot(folder))
    check_card(text, "dataset")
    if license is not None:
        cards.write_description(folder, description)
    return write_atomic(folder / CARD_FILE, text)
