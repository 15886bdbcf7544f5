"""How episodes that are not on the Hub were collected, kept beside the checkpoint that learned from them."""

import inspect
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import write_atomic
from .checks import lacks, read_json

if TYPE_CHECKING:
    from ...data.collect.settings import Collection

COLLECTION_FILE = "collection.json"
_KEPT = ("env", "env_kwargs", "collector", "versions")


def find_collection(folder: Path, training: Mapping[str, Any], episodes: str | Path | None) -> dict[str, Any] | None:
    """How the training episodes of a checkpoint were collected, `None` where nothing says so.

    Args:
        folder: of the checkpoint; its `collection.json` counts where `episodes` is not given.
        training: content of its `training.json`.
        episodes: their directory. Default: that of the recipe, where it is on this machine.

    Raises:
        FileNotFoundError, ValueError: one line, for other episodes than those that were trained on.
    """
    fingerprint = training["train_fingerprint"]
    if episodes is None:
        kept = read_json(folder / COLLECTION_FILE)
        if kept is not None:
            if kept.get("fingerprint") != fingerprint:
                raise ValueError(
                    f"{folder / COLLECTION_FILE} is about other episodes than those of training.json: delete it and "
                    "give --episodes DIR"
                )
            return kept
        used = training.get("recipe", {}).get("dataset")
        if not used or not Path(used).is_dir():
            return None
        episodes = used
    from ...data.episodes import load_episodes
    from ...training.facts import content_fingerprint

    found = load_episodes(episodes, "train")
    if content_fingerprint(found) != fingerprint:
        raise ValueError(
            f"{episodes} holds other episodes than {folder} was trained on (fingerprint {fingerprint[:12]}): give "
            "those with --episodes DIR"
        )
    if missing := [name for name in _KEPT if name not in found.description]:
        raise ValueError(f"{episodes}/episodes.json lacks {', '.join(missing)}: collect or import the episodes again")
    kept = {name: found.description[name] for name in _KEPT}
    return kept | ({"every": found.every} if found.every > 1 else {}) | {"fingerprint": fingerprint}


def needed_collection(
    folder: Path, training: Mapping[str, Any] | None, episodes: str | Path | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """`find_collection` for the card of a local checkpoint, and what that card lacks; arguments and errors as there."""
    if not training or lacks(training, "train_fingerprint"):
        return None, []  # which is missing itself
    collection = find_collection(folder, training, episodes)
    return collection, [] if collection else ["--episodes: the directory of the training episodes"]


def save_collection(folder: Path, collection: Mapping[str, Any]) -> None:
    """Keeps it as `collection.json`, so that the next card does without the episodes."""
    write_atomic(folder / COLLECTION_FILE, json.dumps(collection, indent=1) + "\n")


def collect_command(collection: Mapping[str, Any], out: str) -> str | None:
    """The `lewm collect` that makes the same episodes again, `None` where there is none: imported episodes, or settings
    that only the library's `collect` takes."""
    from ...data.collect.arguments import CollectArguments
    from ...data.collect.settings import settle
    from ...tasks.registry import find_task, lasting_name

    collector, env_kwargs = collection["collector"], dict(collection["env_kwargs"])
    if not collection["env"] or "expert" not in collector:
        return None
    defaults = {name: entry.default for name, entry in inspect.signature(CollectArguments).parameters.items()}
    task, size = find_task(collection["env"]), env_kwargs.pop("image_size")
    env = lasting_name(task.env_id)
    fraction, steps = collector["test_fraction"], collector["max_steps"]
    every = collection.get("every", defaults["every"])
    limit = None if steps == task.max_episode_steps else steps

    def settled(expert: str, expert_kwargs: Mapping[str, Any]) -> "Collection":
        return settle(CollectArguments(
            env, out, collector["episodes"], seed=collector["seed"], image_size=size, expert=expert,
            expert_kwargs=expert_kwargs, env_kwargs=env_kwargs, test_fraction=fraction, max_steps=limit, every=every,
        ))  # fmt: skip

    usual = settled(collector["expert"], {}).expert_kwargs
    changed = {name: value for name, value in collector["expert_kwargs"].items() if usual.get(name) != value}
    again = settled(collector["expert"], changed).settings()
    if again["collector"] != collector or again["env_kwargs"] != collection["env_kwargs"]:
        return None
    words = ["lewm", "collect", env]
    if settled("default", {}).expert != collector["expert"]:
        words += ["--expert", collector["expert"]]
    words += ["--episodes", str(collector["episodes"]), "--image-size", str(size)]
    if fraction != defaults["test_fraction"]:
        words += ["--test-fraction", str(fraction)]
    if limit is not None:
        words += ["--max-steps", str(limit)]
    if every != defaults["every"]:
        words += ["--every", str(every)]
    for flag, values in (("--expert-arg", changed), ("--env-arg", env_kwargs)):
        for name, value in values.items():
            words += [flag, f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*words, "--seed", str(collector["seed"]), "--out", out])
