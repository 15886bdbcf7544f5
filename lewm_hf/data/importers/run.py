"""Importing: episodes of a foreign format become a data set of this package, losslessly, resumable, checked.

Like a collection, an import is cut into files of whole episodes, each of which appears under its name when it is
complete and compared with what was read. So an import that was killed continues where it stopped.
"""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...engines.workers import Report, run_tasks, usable_cores
from ...files import duration_text, local_folder, remove_leftovers, size_text
from ...plain_numbers import plain
from ...progress import progress_bar
from ...tasks.registry import find_task
from ..storage.continuing import at_work, check_layout, is_complete, known_description
from ..storage.dataset_card import finish_dataset, write_description
from ..storage.encoding import FrameEncoder
from ..storage.layout import FILES, earlier_file_names, file_names
from ..storage.parquet import content_key, write_episodes
from .division import ImportFile, kept_episodes, plan_files
from .formats import FORMATS, open_source
from .mapping import ColumnMapping
from .settling import choices_of, settle
from .source import ImportedEpisode
from .work import Import, check_continues, describe
from .written import Written

logger = logging.getLogger(__name__)

PROBE_FRAMES = 16
# Numbers and bookkeeping take some 100 bytes a row.
ROW_BYTES = 100


def import_dataset(
    format: str,
    source: str | Path,
    out: str | Path,
    *,
    mapping: str | Path | ColumnMapping | None = None,
    env: str | None = None,
    image_size: int | None = None,
    largest: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    image_format: str | None = None,
    episodes_per_file: int = 100,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Imports a data set into a directory, or continues one; a finished one is left as it is.

    Every number of the source is read and checked before the first file is touched; frames are checked on the way, and
    a sample of each episode's is compared bit for bit once it is written.

    Args:
        format: `"hdf5"` and `"lance"` (the released layouts), `"robomimic"` (its demonstrations and LIBERO's, a file or
            a folder of them), `"lerobot"` (2.0, 2.1, 3.0), `"mp4csv"` (a video per episode and CSV) or `"table"`
            (whatever `datasets` loads, with columns as mapped).
        source: file or directory.
        out: the directory, new, empty, or holding the same import.
        mapping: which columns are what: a YAML file, see `lewm_hf.data.importers.mapping`, or its content; default:
            the format's usual names.
        env: short name or id of the environment that the episodes come from: fixes sizes and frames per second, and
            tells which columns are its state. Without one nothing can be restored or called a success.
        image_size: side of the frames; default: the source's. Another size is refused unless the mapping says `fit`.
        largest: where the mapping says `fit`: frames are resized to this side if they are larger.
        test_fraction: share of the episodes that makes the test split, unless the source sets some apart itself.
        seed: draws these episodes.
        image_format: lossless format of the frames, see `FrameEncoder`; default: the environment's.
        episodes_per_file: what a killed import has to repeat, at most, per worker.
        workers: processes; default: one per core.
        progress: show a progress bar.

    Returns:
        `out`.

    Raises:
        FileNotFoundError, ValueError: one line for a source that is missing, damaged or contradictory, or arguments
            that are impossible or differ from those of the import in `out`. Files that are finished stay usable.
        ImportError: where the format's library is missing, naming the pip extra.
        OSError: one line where the disk is or would be full.
    """
    source, out = Path(source), local_folder(out)
    image_size = None if image_size is None else _whole("image_size", image_size)
    seed, episodes_per_file = _whole("seed", seed), _whole("episodes_per_file", episodes_per_file)
    workers = usable_cores() if workers is None else _whole("workers", workers)
    test_fraction = float(test_fraction)
    _check_arguments(format, env, image_size, test_fraction, seed, episodes_per_file, workers)
    task = None if env is None else find_task(env)
    known = known_description(out)
    opened = open_source(format, source, mapping, task)
    try:
        if task is not None and not opened.mapping.action_choices:
            opened.mapping = replace(opened.mapping, action_choices=choices_of(task))
        kept = kept_episodes(opened)
        sizes = opened.check_vectors(kept)
        work = settle(opened, sizes, kept, task, image_size, image_format, largest)
        description = describe(work, format, sizes, kept, test_fraction, seed, episodes_per_file)
        if known is not None:
            check_continues(out, work, known, description)
        files = plan_files(
            opened.lengths, kept, test_fraction, seed, episodes_per_file, opened.held_out,
            names=earlier_file_names if known is not None and FILES not in known else file_names,
        )  # fmt: skip
        description[FILES] = dict(Counter(file.split for file in files))
        decisive = ("env", "env_kwargs", "image_size", "every", "collector")
        key = content_key({name: description[name] for name in decisive})
        missing = [file for file in files if not is_complete(out / file.name, key)]
        if not missing and known is not None and "splits" in known:
            logger.info("%s is complete: %d episodes, nothing to do", out, len(kept))
            return out
        if known is not None:
            check_layout(out, known)
        _announce(out, work, missing, workers)
    finally:
        opened.close()  # no handle may cross a fork
    with at_work(out):
        known = known_description(out)  # somebody may have begun, or finished, in the meantime
        if known is None:
            write_description(out, description)
        else:
            check_continues(out, work, known, description)
        missing = [file for file in files if not is_complete(out / file.name, key)]
        for file in files:
            remove_leftovers(out / file.name)
        count = sum(len(file.episodes) for file in missing)
        with progress_bar(total=count, desc="episodes", unit="episode", show=progress) as bar:
            run_tasks(partial(_import_file, work, out, key), missing, workers, bar.update, opened.survives_fork)
        facts = finish_dataset(out, description)
    expected = len(kept), int(opened.lengths[kept].sum())
    if (facts.episodes, facts.rows) != expected:
        raise ValueError(
            f"{out} has {facts.episodes} episodes of {facts.rows} rows, the source {expected[0]} of {expected[1]}: "
            "other files were put into data/; remove them and run the same command again"
        )
    logger.info("%s is complete: %d episodes, %d frames", out, facts.episodes, facts.rows)
    return out


def _check_arguments(
    format: str,
    env: str | None,
    image_size: int | None,
    test_fraction: float,
    seed: int,
    episodes_per_file: int,
    workers: int,
) -> None:
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: use one of {', '.join(sorted(FORMATS))}")
    if env is not None:
        find_task(env)
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} must lie in [0, 1)")
    for name, value, least in (
        ("image_size", image_size, 8), ("seed", seed, 0), ("episodes_per_file", episodes_per_file, 1),
        ("workers", workers, 1),
    ):  # fmt: skip
        if value is not None and value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def _whole(name: str, value: Any) -> int:
    """A whole number as JSON knows it, NumPy's among them."""
    number = plain(value)
    if type(number) is not int:
        raise ValueError(f"{name}={value!r} must be a whole number")
    return number


def _announce(out: Path, work: Import, missing: Sequence[ImportFile], workers: int) -> None:
    """Logs the size and time to expect; refuses where the disk is too small."""
    if not missing:
        return
    encoder, clock, sample = FrameEncoder(work.image_format), time.perf_counter(), []
    episode = missing[0].episodes[0]
    for frame in islice(work.source.frames(episode), PROBE_FRAMES):
        try:
            sample.append(len(encoder(work.conversion(frame))))
        except ValueError as error:
            raise ValueError(f"frame {len(sample)} of episode {episode} of {work.source.path} {error}") from error
    rows = sum(int(work.source.lengths[list(file.episodes)].sum()) for file in missing)
    seconds = (time.perf_counter() - clock) / len(sample) * rows / min(workers, len(missing))
    size = rows * (float(np.mean(sample)) + ROW_BYTES)
    logger.info("about %s frames: %s, %s", f"{rows:,}", size_text(size), duration_text(seconds))
    existing = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise OSError(
            f"the episodes need about {size_text(size)}, but {existing} has {size_text(free)} left: make room, or "
            "import to another disk"
        )


def _import_file(work: Import, out: Path, key: str, file: ImportFile, report: Report) -> None:
    written = Written()

    def episodes() -> Iterator[ImportedEpisode]:
        for number in file.episodes:
            yield written.remember(work.read(number))

    try:
        write_episodes(
            out / file.name, episodes(), file.episodes, FrameEncoder(work.image_format), work.fps, file.starts, report,
            check=written.compare, key=key,
        )  # fmt: skip
    finally:
        work.source.close()
