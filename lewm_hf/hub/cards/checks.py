"""Reading what cards state, checking and writing them; shared by all kinds of cards."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CardData, DatasetCard, ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import safe_open
from transformers import CONFIG_MAPPING, MODEL_MAPPING
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ...evaluation.common.agent import check_processor
from ...modeling_lewm_decoder import LeWMDecoder
from ..convert.weights import sha256

CARD_FILE = "README.md"
FILM_FILE = "assets/agent.gif"
TRAINING_FILE = "training.json"
LIBRARY = "lewm-hf"
# What safetensors calls them.
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
REQUIRED_METADATA = {
    "model": ("license", "library_name", "pipeline_tag"),
    "dataset": ("license", "configs", "task_categories"),
}


def render(data: CardData, template: str, values: Mapping[str, Any]) -> str:
    """The text of a card: a template of this package, its metadata and what it is filled with."""
    with as_file(files("lewm_hf.hub.cards") / "templates" / template) as path:
        card = ModelCard.from_template(data, template_path=str(path), **values)
    return f"{card}\n"


def find_film(folder: Path) -> str | None:
    """Path within a checkpoint's folder of the GIF that its card shows, `None` where there is none: one chosen by
    people, else the first of an evaluation, those that end well before others."""
    if (folder / FILM_FILE).is_file():
        return FILM_FILE
    for kind in ("*-reached-*.gif", "*-missed-*.gif"):
        for path in sorted(folder.glob(f"evaluation/**/videos/{kind}")):
            return path.relative_to(folder).as_posix()
    return None


def check_card(text: str, kind: str) -> None:
    """Validates a card without a network: what `huggingface_hub` can check by itself, and that nothing is missing.

    Args:
        text: the whole `README.md`.
        kind: `"model"` or `"dataset"`.

    Raises:
        ValueError: one line.
    """
    try:
        card = (ModelCard if kind == "model" else DatasetCard)(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the {kind} card's metadata is invalid: {' '.join(str(error).split())}") from error
    metadata = card.data.to_dict()
    if missing := [name for name in REQUIRED_METADATA[kind] if not metadata.get(name)]:
        remedy = "`lewm card --license ID`" if missing == ["license"] else "`lewm card`"
        raise ValueError(f"the {kind} card's metadata lacks {', '.join(missing)}: write it again with {remedy}")


def check_folder(folder: Path) -> None:
    """Whether a folder holds a world model or decoder that loads, with the image processor that it needs.

    Raises:
        FileNotFoundError, ValueError: one line.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the folder of a checkpoint, such as RUN/best")
    for name in ("config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: give the folder of a checkpoint, such as RUN/best")
    weight_files(folder)
    config, processor = (read_json(folder / name) or {} for name in ("config.json", "preprocessor_config.json"))
    known = config.get("model_type") in CONFIG_MAPPING
    kind = MODEL_MAPPING.get(CONFIG_MAPPING[config["model_type"]], None) if known else None
    if kind is None or not (hasattr(kind, "encode") or kind is LeWMDecoder):
        raise ValueError(
            f"{folder}/config.json has model_type={config.get('model_type')!r}: only world models and their decoders "
            "have a card here"
        )
    loaded = kind.from_pretrained(folder).config  # strict: all tensors, no others
    check_processor(folder, processor.get("image_size"), loaded.image_size)


def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold a checkpoint's weights: one, or an index and its shards.

    Raises:
        FileNotFoundError, ValueError: one line where there is none, a shard is missing, or the index is damaged or
            names a file outside the folder.
    """
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [SAFE_WEIGHTS_NAME]  # what `from_pretrained` reads where both are there
    index = read_json(folder / SAFE_WEIGHTS_INDEX_NAME)
    if index is None:
        raise FileNotFoundError(
            f"{folder} has no {SAFE_WEIGHTS_NAME} and no {SAFE_WEIGHTS_INDEX_NAME}: give the folder of a checkpoint, "
            "such as RUN/best"
        )
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{folder}/{SAFE_WEIGHTS_INDEX_NAME} has no weight_map: save the checkpoint again")
    shards = sorted({str(name) for name in shards.values()})
    for name in shards:
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ValueError(
                f"{folder}/{SAFE_WEIGHTS_INDEX_NAME} names {name!r}, which is not a shard beside it: save the "
                "checkpoint again"
            )
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} lacks the shard {name}: copy the checkpoint again")
    return [SAFE_WEIGHTS_INDEX_NAME, *shards]


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file with weights, by name."""
    return {name: sha256(folder / name) for name in weight_files(folder) if name != SAFE_WEIGHTS_INDEX_NAME}


def stored_types(folder: Path) -> list[str]:
    """In which types a checkpoint's files hold its weights, counters aside: what is loaded may be of another one."""
    found = set()
    for name in weight_files(folder):
        if name == SAFE_WEIGHTS_INDEX_NAME:
            continue
        with safe_open(folder / name, "pt") as file:
            stored = [file.get_slice(tensor) for tensor in file.keys()]  # noqa: SIM118, a reader and no dict
            found |= {one.get_dtype() for one in stored if one.get_shape()}
    return sorted(FLOATS.get(kind, kind) for kind in found)


def weights_text(hashes: Mapping[str, str]) -> str:
    """`"`model.safetensors`, SHA-256 `...`"`, joined where there are several."""
    return "; ".join(f"`{name}`, SHA-256 `{value}`" for name, value in hashes.items())


def check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("it names no owner")
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is not a repository id ({' '.join(str(error).split())}): write org/name"
        ) from error


def check_license(name: str) -> None:
    """Refuses what cannot be one of the Hub's license identifiers; its list itself is known to the Hub alone."""
    if not re.fullmatch(r"[a-z0-9]+([.+-][a-z0-9]+)*", name):
        raise ValueError(f"{name!r} is not a license identifier of the Hub: write one such as apache-2.0, or other")


def check_local(**given: str | None) -> None:
    """Refuses what only a repository of the Hub has."""
    if wrong := [f"--{name.replace('_', '-')}" for name, value in given.items() if value]:
        raise ValueError(f"{', '.join(wrong)} and --local contradict each other: omit one")


def check_given(repo_ids: Iterable[str | None], licenses: Iterable[str | None]) -> None:
    """Refuses names of repositories and licenses that cannot be; what was not given is missing, not wrong."""
    for name in repo_ids:
        if name:
            check_repo_id(name)
    for name in licenses:
        if name:
            check_license(name)


def cameras_of(folder: Path) -> list[str]:
    """Names of the cameras whose pictures a checkpoint sees side by side; none where there is one."""
    return (read_json(folder / "preprocessor_config.json") or {}).get("cameras") or []


def check_nothing_missing(folder: Path, missing: Sequence[str]) -> None:
    """Refuses a card that would lack something, naming all of it."""
    if missing:
        raise ValueError(f"the card of {folder} would lack {'; '.join(missing)}: measure or give them, then try again")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, `None` without the file."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers or nesting without end
        raise ValueError(f"{path} is not valid JSON ({error}): train or convert again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object: train or convert again")
    return content


def lacks(content: Mapping[str, Any], name: str) -> bool:
    """Whether a dotted name leads nowhere."""
    for part in name.split("."):
        if not isinstance(content, Mapping) or content.get(part) is None:
            return True
        content = content[part]
    return False
