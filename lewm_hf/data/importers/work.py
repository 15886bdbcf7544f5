"""One import: what decides about its bytes, how that is described, and whether an earlier one can be continued."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ..schema import episode_features
from ..storage.continuing import check_same
from ..storage.dataset_card import FORMAT
from ..storage.licenses import stated_license
from .frames import Conversion
from .mapping import KEPT
from .source import ImportedEpisode, Source, content_sha256

# Counts the changes of this package's own reading: the same source may give other rows or pixels since. 2: pictures and
# videos upright, rows in the order of their frame index.
READING = 2


@dataclass(frozen=True)
class Import:
    """What decides about the bytes of an imported data set."""

    source: Source
    conversion: Conversion
    image_format: str
    fps: float
    env: str | None
    env_kwargs: dict[str, Any]

    def read(self, episode: int) -> ImportedEpisode:
        """One episode of the source.

        Raises:
            ValueError: one line for a damaged episode, or a frame of another size.
        """
        found, rows = self.source.vectors(episode), int(self.source.lengths[episode])
        images = []
        for row, frame in enumerate(self.source.frames(episode)):
            try:
                images.append(self.conversion(frame))
            except ValueError as error:
                raise ValueError(f"frame {row} of episode {episode} of {self.source.path} {error}") from error
        if len(images) != rows:
            raise ValueError(f"episode {episode} of {self.source.path} has {len(images)} frames for {rows} rows")
        states, goals, success = found.get("state"), found.get("goal"), found.get("success")
        if success is not None:
            success = success[:, 0] != 0
        elif self.env and states is not None and goals is not None:
            reached = self._reached(self.env, states, goals)
            success = np.append(reached[1:], reached[-1])
        observations = found.get("observation")
        return ImportedEpisode(
            images=images,
            row_actions=found["action"].astype(np.float32),
            observations=None if observations is None else observations.astype(np.float32),
            states=states,
            goals=goals,
            next_success=success,
            kept={role.removeprefix(KEPT): values for role, values in found.items() if role.startswith(KEPT)},
        )

    def _reached(self, name: str, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        from ...tasks.registry import make_env  # recordings without one need no environment's library

        env = make_env(name, **self.env_kwargs)
        env.reset(seed=0, options={"goal_image": False})
        reached = env.reached(states, goals)
        env.close()
        return reached


def describe(
    work: Import, format: str, sizes: dict[str, int], kept: np.ndarray, test_fraction: float, seed: int,
    episodes_per_file: int,
) -> dict[str, Any]:  # fmt: skip
    """The part of `episodes.json` that is known before the first frame is written."""
    source = work.source
    versions = {"lewm-hf": __version__}
    for package in ("numpy", "pillow", *source.packages):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    success = "success" in sizes or bool(work.env and "goal" in sizes)
    columns = episode_features(
        sizes["action"], sizes.get("state"), sizes.get("observation"), "goal" in sizes, success,
        kept={role.removeprefix(KEPT): size for role, size in sizes.items() if role.startswith(KEPT)},
    )  # fmt: skip
    collector = {
        "imported_from": format,
        # Its name alone: a path tells more about the machine than about the data.
        "source": source.path.resolve().name,
        "source_episodes": len(source.lengths),
        "source_rows": int(source.lengths.sum()),
        "skipped_episodes": len(source.lengths) - len(kept),
        **source.metadata,
        "sha256": {**source.metadata["sha256"], "all files": content_sha256(source)},
        "mapping": source.mapping.as_dict(),
        "reading": READING,
        "image_format": work.image_format,
        "frames": "unchanged" if work.conversion.fit is None else f"{work.conversion.fit} to a square, resized",
        "test_fraction": test_fraction,
        "seed": seed,
        "episodes_per_file": episodes_per_file,
    }
    names = {}
    if work.env:
        from ...tasks.registry import make_env
        from ..collect.settings import action_bounds

        env = make_env(work.env)
        names = {"state_names": list(env.state_names), "action_bounds": action_bounds(env)}
        env.close()
    return {
        "format": FORMAT,
        "env": work.env,
        "env_kwargs": work.env_kwargs,
        "image_size": work.conversion.side,
        "fit": work.conversion.fit,
        "every": source.mapping.every or 1,
        "fps": work.fps,
        "action_dim": sizes["action"] // (source.mapping.every or 1),
        **({"action_choices": list(source.mapping.action_choices)} if source.mapping.action_choices else {}),
        **names,
        **({"cameras": list(source.mapping.image)} if isinstance(source.mapping.image, tuple) else {}),
        "columns": list(columns),
        **stated_license(source.path),
        "collector": collector,
        "versions": versions,
    }


def check_continues(out: Path, work: Import, known: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Refuses to go on with an import of another source, or one that was read otherwise.

    Raises:
        ValueError: one line.
    """
    there, here = known["collector"], description["collector"]
    if there.get("imported_from") == here["imported_from"] and there.get("source") == here["source"]:
        before, now = there.get("sha256") or {}, here["sha256"]
        changed = [name for name in now if before.get(name) != now[name]]
        if changed and before.keys() >= now.keys():
            raise ValueError(
                f"{work.source.path} has changed since it was imported into {out} (sha256 of {changed[0]}): import it "
                "into another directory, and take the old one away"
            )
    if there.get("reading") != READING:
        raise ValueError(
            f"{out} was imported by a version that read sources in another way: import into another directory"
        )
    check_same(out, known, description)
    decoders = {
        name: (known["versions"].get(name), description["versions"].get(name))
        for name in ("pillow", *work.source.packages)
    }
    differing = next((name for name, (then, now) in decoders.items() if then != now), None)
    if differing and "splits" not in known:
        then, now = decoders[differing]
        raise ValueError(
            f"{out} was begun with {differing} {then}, this is {now}, which may decode otherwise: continue with the "
            "version before, or import into another directory"
        )
