"""What went into a file is what comes out of it: compared before the file takes its name."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ..schema import ACTION, IMAGE, SIM_GOAL, SIM_STATE, STATE
from ..storage.encoding import decode
from ..storage.parquet import matrix, read_columns
from .source import ImportedEpisode


@dataclass
class Written:
    """What went into a file, to compare it with: all numbers, and digests of sampled frames by row."""

    vectors: dict[str, list[np.ndarray]] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)
    rows: int = 0

    def remember(self, episode: ImportedEpisode) -> ImportedEpisode:
        """Takes note of the next episode, and hands it on."""
        for column, values in (
            (ACTION, episode.row_actions), (STATE, episode.observations), (SIM_STATE, episode.states),
            (SIM_GOAL, episode.goals), *episode.kept.items(),
        ):  # fmt: skip
            if values is not None:
                self.vectors.setdefault(column, []).append(values)
        for row in {0, len(episode) // 2, len(episode) - 1}:
            self.digests[self.rows + row] = _digest(episode.images[row])
        self.rows += len(episode)
        return episode

    def compare(self, path: Path) -> None:
        """Raises `OSError` where the file does not hold what was written."""
        wrong = [
            column
            for column, parts in self.vectors.items()
            if not np.array_equal(matrix(read_columns([path], [column]).column(0)), np.concatenate(parts), True)
        ]
        row = 0
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                stored = file.read_row_group(group, columns=[IMAGE]).column(0)
                for at in range(len(stored)):
                    digest = self.digests.get(row + at)
                    if digest is not None and _digest(decode(stored[at].as_py()["bytes"])) != digest:
                        wrong.append(f"{IMAGE} at row {row + at}")
                row += len(stored)
        if wrong or row != self.rows:
            raise OSError(
                f"{path} does not hold what was written ({wrong[0] if wrong else f'{row} rows'}): memory or disk is "
                "failing; check them and run the same command again"
            )


def _digest(frame: np.ndarray) -> bytes:
    return hashlib.sha256(repr(frame.shape).encode() + np.ascontiguousarray(frame).tobytes()).digest()
