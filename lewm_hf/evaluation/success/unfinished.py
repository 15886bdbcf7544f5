"""Seeds that were measured already, kept until their evaluation is complete, so that an interrupted one continues."""

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_atomic
from ..common.results import EpisodeRow
from .manifest import Manifest
from .protocol import Protocol
from .rollouts import Outcome, StoredFrames

logger = logging.getLogger(__name__)

FOLDER = "unfinished"
# What an evaluation writes; first the mark that the folder is complete.
WRITTEN = ("results.json", "episodes.jsonl", "manifests/seed-*.json", "videos/*-seed*-episode*.gif")
# Of a config: where it came from and who wrote it.
_NOT_CONTENT = ("transformers_version", "_name_or_path", "_commit_hash")


@dataclass(frozen=True)
class SeedResult:
    """What was measured with one seed.

    Args:
        rows, outcomes: one per pair, in the manifest's order.
        plans, planning_seconds: made, and spent making them.
        seconds: of everything, the floors included.
    """

    rows: tuple[EpisodeRow, ...]
    outcomes: tuple[Outcome, ...]
    plans: int
    planning_seconds: float
    seconds: float


class Unfinished:
    """The folder `OUT/unfinished`, a file per measured seed.

    Args:
        out: folder of the evaluation.
        contents: for each seed everything that its outcomes depend on, as plain values by name; what was measured for
            other contents is never taken.
    """

    def __init__(self, out: str | Path, contents: Mapping[int, Mapping[str, Any]]):
        self.out, self.folder = Path(out), Path(out) / FOLDER
        self._contents = {seed: json.loads(json.dumps(content, default=str)) for seed, content in contents.items()}

    def check(self, overwrite: bool) -> None:
        """Refuses a folder whose files would be lost.

        Raises:
            ValueError: one line, where it holds another evaluation, complete or not, and `overwrite` is not given.
        """
        if overwrite:
            return
        if (self.out / WRITTEN[0]).exists():
            raise ValueError(
                f"{self.out} holds an evaluation already: give another out, or overwrite it (--overwrite); it stays "
                "until the new one is complete"
            )
        kept = self._files()
        for path in kept:
            if differing := self._differing(path):
                raise ValueError(
                    f"{self.out} holds an unfinished evaluation with another {differing}: run its command again to "
                    "finish it, give another out, or overwrite it (--overwrite)"
                )
        written = [path for pattern in WRITTEN for path in self.out.glob(pattern)]
        if written and not kept:
            raise ValueError(
                f"{written[0]} would be overwritten: give another out, or overwrite the files there (--overwrite)"
            )

    def discard_others(self) -> None:
        """Removes what was kept of evaluations with other contents."""
        for path in self._files():
            if self._differing(path):
                path.unlink()

    def load(self, seed: int) -> SeedResult | None:
        """What was measured before with this seed, `None` where nothing was."""
        path = self._path(seed)
        if not path.is_file() or self._differing(path):
            return None
        with np.load(path, allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            steps = np.array([row["steps"] for row in facts["rows"]])
            states = np.split(arrays["states"], np.cumsum(steps + 1)[:-1])
            actions = np.split(arrays["actions"], np.cumsum(steps)[:-1])
        rows = tuple(EpisodeRow(**row) for row in facts["rows"])
        outcomes = tuple(
            Outcome(
                success=row.success,
                first_success_step=row.first_success_step,
                solved_at_start=row.solved_at_start,
                final_distance=row.final_distance,
                plan_steps=tuple(plan_steps),
                states=way,
                actions=acted,
                seconds=row.wall_time,
            )
            for row, plan_steps, way, acted in zip(rows, facts["plan_steps"], states, actions, strict=True)
        )
        logger.info("seed %d was measured before the interruption", seed)
        return SeedResult(rows, outcomes, facts["plans"], facts["planning_seconds"], facts["seconds"])

    def save(self, seed: int, result: SeedResult) -> None:
        """Keeps what was measured with a seed."""
        facts = {
            "content": self._contents[seed],
            "rows": [vars(row) for row in result.rows],
            "plan_steps": [outcome.plan_steps for outcome in result.outcomes],
            "plans": result.plans,
            "planning_seconds": result.planning_seconds,
            "seconds": result.seconds,
        }
        file = io.BytesIO()
        np.savez_compressed(
            file,
            facts=np.array(json.dumps(facts)),
            states=np.concatenate([outcome.states for outcome in result.outcomes]),
            actions=np.concatenate([outcome.actions for outcome in result.outcomes]),
        )
        write_atomic(self._path(seed), file.getvalue())

    def remove(self) -> None:
        """Removes everything; to be called when the evaluation is complete."""
        for path in [*self._files(), *self.folder.glob(".seed-*.npz.*")]:  # a kill may leave a half-written one
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("seed-*.npz"))

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.npz"

    def _differing(self, path: Path) -> str:
        """Names of what a kept file was measured with and this evaluation was not; empty where they agree."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                content = json.loads(str(arrays["facts"]))["content"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged: remove it and run the same command again") from error
        wanted = self._contents.get(content.get("seed"))
        if wanted is None:
            return "set of seeds"
        return ", ".join(name for name in wanted if content.get(name) != wanted[name])


def shown_pictures(episodes: Any, manifest: Manifest, protocol: Protocol) -> str | None:
    """SHA-256 of the data set's own pictures that the agent sees, `None` where all are rendered."""
    if episodes is None:
        return None
    stored, digest = StoredFrames(episodes), hashlib.sha256()
    for name, frames in (("first_frame", stored.starts), ("goal_frame", stored.goals)):
        if getattr(protocol, name) == "stored":
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(frames(list(manifest.pairs))).tobytes())
    return digest.hexdigest()


def model_content(model: Any, processor: Any) -> dict[str, Any]:
    """What of a model's and its image processor's configuration can move an outcome."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in _NOT_CONTENT}
    return {"class": type(model).__name__, "config": config, "processor": processor.to_dict()}
