"""The evaluations of a page, each under a name that tells it from the others, in the order of their protocols."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.results import read_result
from ..success.result import EvaluationResult

ORDER = ("paper", "clean")


@dataclass(frozen=True)
class Shown:
    """One evaluation on the page: what it is called, its result and its folder."""

    title: str
    result: EvaluationResult
    folder: Path

    @property
    def protocol(self) -> str:
        return self.result.protocol["name"]


def read_evaluations(folders: Sequence[str | Path]) -> list[Shown]:
    """What `evaluate(out=...)` wrote into these folders.

    Raises:
        FileNotFoundError: where one holds no evaluation.
        ValueError: for damaged files.
    """
    read = [(read_result(folder), Path(folder)) for folder in folders]
    shown = [Shown(name, *entry) for name, entry in zip(_titles(read), read, strict=True)]
    return sorted(shown, key=lambda one: (*ORDER, one.protocol).index(one.protocol))


def _titles(results: Sequence[tuple[EvaluationResult, Path]]) -> list[str]:
    """What to call each result: its protocol, then its goal offset, then its folder, as far as needed to tell them
    apart."""
    names, offsets, folders, paths = [], [], [], []
    for result, folder in results:
        protocol = result.protocol
        names.append(protocol["name"])
        offsets.append(f"{names[-1]}, goals {protocol['goal_offset']} steps away")
        folders.append(f"{offsets[-1]}, {folder.name}")
        paths.append(f"{offsets[-1]}, {folder}")
    for named in (names, offsets, folders):
        if len(set(named)) == len(named):
            return named
    return paths
