"""The folder of a run: it is either complete or absent, whatever moment the process dies at.

recipe.yaml          every value of the recipe and the model
metrics.jsonl        one record per logged step and per evaluation
last/, best/         `from_pretrained` folders
state/               what `--resume` continues from, with a checksum of every file
.lock                held by the process that writes here
"""

import json
import os
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import yaml
from accelerate import Accelerator

from ..files import leftovers, only_one, remove_leftovers, write_atomic
from ..folders import free_bytes, named_write_errors, publish, recover, replacing_folder, staging_of

CHECKSUMS, PROGRESS, LOCK = "checksums.json", "progress.json", ".lock"
RESUME = "continue with --resume, what was saved before is intact"

# A resumed run may differ in these keys: none changes what is trained, though the `eval` ones do which model is judged
# best; or (data set, precision) what they stand for is compared instead of what they say.
FREE_KEYS = frozenset(
    {
        "dataset", "dataset_revision", "frame_cache", "output_dir", "resume", "num_workers", "log_every", "eval_every",
        "save_every", "tracker", "precision", "eval_pairs", "eval_protocol", "eval_planner", "eval_overrides",
        "eval_batches", "recalibration_batches",
    }
)  # fmt: skip


def checksums(folder: Path) -> dict[str, list[int]]:
    """Size and CRC-32 of every file of a folder but those that change after it was written."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name in (CHECKSUMS, PROGRESS):
            continue
        crc = 0
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                crc = zlib.crc32(block, crc)
        found[path.name] = [path.stat().st_size, crc]
    return found


def read_json(path: Path, remedy: str) -> dict:
    """Raises:
    ValueError: one line, where the file holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object; {remedy}")
    return value


def _how_to_restore(key: str, value: Any) -> str:
    """What gives back the value of a recipe's key, or of a fact that is told by another name, or not at all."""
    precision = "fp32" if value == "no" else value
    return {
        "num_processes": f"launch {value} (accelerate launch --num_processes {value})",
        "mixed_precision": f"give --precision {precision}",
        "encoder_in_bf16": f"give {'' if value else 'no '}--precision bf16_encoder",
        "train_fingerprint": "give the episodes that it was started with",
    }.get(key, "restore that value")


def is_evaluation(record: dict) -> bool:
    """Whether a record of metrics.jsonl comes from an evaluation (keys `eval/...`) and not from a training step."""
    return any(key.startswith("eval/") for key in record)


class RunDirectory:
    """The folder of one run.

    Args:
        path: the folder; see `create` and `reopen`.
        main: whether this process is the one that writes.
    """

    def __init__(self, path: str | Path, main: bool = True):
        self.path, self.main = Path(path), main
        self.state, self.metrics = self.path / "state", self.path / "metrics.jsonl"
        self._held, self._locked = ExitStack(), False

    @property
    def _existing(self) -> Path:
        """The folder of the run or, where it is not made yet, the one above it that is there."""
        return next(place for place in (self.path.absolute(), *self.path.absolute().parents) if os.path.exists(place))

    def lock(self) -> None:
        """Keeps every other process from writing here, until the `with` block of this object or this process ends.

        Raises:
            OSError: where another one writes here.
        """
        if self.main and not self._locked:
            self._held.enter_context(only_one(self.path / LOCK))
            self._locked = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()
        self._locked = False

    def check_new(self) -> None:
        """Raises:
        ValueError: where the folder already holds something, or a file is in its place.
        OSError: where nobody may make it.
        """
        place = self._existing
        if not place.is_dir():
            raise ValueError(f"output_dir={self.path}: {place} is a file: give a folder")
        if self.main and not os.access(place, os.W_OK | os.X_OK):
            raise OSError(f"output_dir={self.path}: {place} may not be written to: give another folder")
        if (self.path / "recipe.yaml").exists():
            raise ValueError(
                f"output_dir={self.path} already holds a run: add --resume to continue it, or name another"
            )
        # A run that was killed while it began leaves a lock and a part of its recipe: nothing that anybody made.
        unfinished = {LOCK, *(path.name for path in leftovers(self.path / "recipe.yaml"))}
        if self.path.exists() and {path.name for path in self.path.iterdir()} - unfinished:
            raise ValueError(f"output_dir={self.path} is not empty: name a new folder")

    def check_resumable(self, values: dict, facts: dict, defaults: dict | None = None) -> None:
        """Whether the run in this folder is the one that `values` describe.

        Args:
            values: see `recipe_values`.
            facts: what else must not have changed, such as the number of windows; compared with the saved state's.
            defaults: what keys stand for that the version which started the run did not know.

        Raises:
            FileNotFoundError: where there is no run.
            ValueError: naming the first key that differs and changes what is computed.
        """
        recipe = self.path / "recipe.yaml"
        if not recipe.exists():
            raise FileNotFoundError(f"output_dir={self.path} holds no run to resume: start it without --resume")
        self.lock()
        if self.main:
            for name in ("state", "last", "best"):
                recover(self.path / name)
        try:
            started = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            started = None
        if not isinstance(started, dict):
            raise ValueError(f"{recipe} is damaged: it holds no `key: value` lines; {self._remedy}")
        if self.main:
            self._check_state()
        # Facts that an older version did not record cannot have changed.
        before = (defaults or {}) | started | facts | (self.progress() or {})
        for key, value in (values | facts).items():
            if key not in FREE_KEYS and before.get(key) != value:
                raise ValueError(
                    f"cannot resume {self.path} with {key}={value!r}: it was started with {key}={before.get(key)!r}; "
                    f"{_how_to_restore(key, before.get(key))}, or name a new output_dir"
                )

    @property
    def _remedy(self) -> str:
        return f"restore it from a copy, or start anew in another folder ({self.path}/last and best stay usable)"

    def _check_state(self) -> None:
        """Raises:
        ValueError: one line that names the first file of state/ that is missing or is not what was written.
        """
        if not self.state.exists():
            return
        if self.progress() is None:
            raise ValueError(f"{self.state / PROGRESS} is missing; {self._remedy}")
        if not (self.state / CHECKSUMS).exists():
            return  # saved by a version that wrote none
        now = checksums(self.state)
        for name, (size, crc) in read_json(self.state / CHECKSUMS, self._remedy).items():
            if name not in now:
                raise ValueError(f"{self.state / name} is missing; {self._remedy}")
            if now[name][0] != size:
                raise ValueError(
                    f"{self.state / name} is damaged: it has {now[name][0]:,} of {size:,} bytes; {self._remedy}"
                )
            if now[name][1] != crc:
                raise ValueError(f"{self.state / name} is damaged: its content has changed; {self._remedy}")

    def check_room(self, weight_bytes: int) -> None:
        """Raises:
        OSError: where the disk has no room for the checkpoints of a model of that size.
        """
        place = self._existing
        # state (weights and two Adam moments), last, best, and the one of them that is being replaced.
        needed = (3 + 1 + 1 + 3) * weight_bytes
        if self.main and free_bytes(place) < needed:
            raise OSError(
                f"the disk of output_dir={self.path} has {free_bytes(place) / 2**20:,.0f} MiB free, but the "
                f"checkpoints of this run take {needed / 2**20:,.0f} MiB: make room, or name a folder on another disk"
            )

    def start(self, values: dict) -> None:
        """Makes the folder of a new run.

        Raises:
            ValueError: where another process has begun one here since `check_new`.
        """
        if not self.main:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        self.check_new()
        remove_leftovers(self.path / "recipe.yaml")
        write_atomic(self.path / "recipe.yaml", yaml.safe_dump(values, sort_keys=False))

    def progress(self) -> dict | None:
        """The record of the saved state, or None where nothing was saved yet."""
        path = self.state / PROGRESS
        if not path.exists():
            return None
        progress = read_json(path, self._remedy)
        if missing := {"step", "evaluated", "best", "last", "seconds"} - progress.keys():
            raise ValueError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}; {self._remedy}")
        return progress

    def save_progress(self, progress: dict) -> None:
        if self.main:
            with named_write_errors(self.state, RESUME):
                write_atomic(self.state / PROGRESS, json.dumps(progress, indent=2))

    def save_state(self, accelerator: Accelerator, progress: dict) -> None:
        """Weights, optimizer and random generators of all ranks, and `progress`; every rank must call this."""
        staged = staging_of(self.state)
        if self.main:
            recover(self.state)
            with named_write_errors(self.state, RESUME):
                staged.mkdir()
        accelerator.wait_for_everyone()
        with named_write_errors(self.state, RESUME):
            accelerator.save_state(str(staged))
        accelerator.wait_for_everyone()
        if self.main:
            with named_write_errors(self.state, RESUME):
                write_atomic(staged / PROGRESS, json.dumps(progress, indent=2))
                write_atomic(staged / CHECKSUMS, json.dumps(checksums(staged), indent=2))
                publish(self.state)
        accelerator.wait_for_everyone()

    def save_model(self, name: str, model: Any, image_processor: Any, facts: dict) -> None:
        """Replaces `name` ("last" or "best") by a `from_pretrained` folder, with `facts` in its training.json."""
        with replacing_folder(self.path / name, RESUME) as folder:
            model.save_pretrained(folder)
            image_processor.save_pretrained(folder)
            write_atomic(folder / "training.json", json.dumps(facts, indent=2))

    def log(self, record: dict) -> None:
        """Appends one record to metrics.jsonl."""
        if self.main:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def truncate_metrics(self, step: int, evaluated: int) -> None:
        """Forgets what was logged after `step` and evaluated after `evaluated`; a resumed run logs it again."""
        if not (self.main and self.metrics.exists()):
            return
        kept = []
        for number, line in enumerate(self.metrics.read_text("utf-8", "replace").splitlines(keepends=True), 1):
            if line.endswith("\n"):  # the last line may be cut off
                try:
                    record = json.loads(line)
                    keep = record["step"] <= (evaluated if is_evaluation(record) else step)
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(
                        f"{self.metrics} is damaged: line {number} is not a record; remove that line to go on without "
                        "it"
                    ) from error
                if keep:
                    kept.append(line)
        write_atomic(self.metrics, "".join(kept))
