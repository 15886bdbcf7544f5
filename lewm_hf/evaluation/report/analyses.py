"""What was measured besides planning success: every analysis and comparison below a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.outputs import read_object
from ..decode.report import format_decoding
from ..health.report import format_health
from ..probe.report import format_probe
from ..success.comparison import format_comparison
from ..surprise.report import format_surprise

# File name, headline, words, pictures beside it.
_KINDS: tuple[tuple[str, str, Callable[[dict[str, Any]], str], tuple[str, ...]], ...] = (
    ("probe", "What can be read off the embeddings", format_probe, ("probe.png",)),
    ("surprise", "Violation of expectation", format_surprise, ("surprise.png", "surprise.gif")),
    ("health", "Straightness and health", format_health, ("health.png", "neighbors.png")),
    ("decode", "Decoded imagination", format_decoding, ("decode.png", "strips/*.png")),
    ("compare", "Two agents on the same pairs", format_comparison, ()),
)


@dataclass(frozen=True)
class Analysis:
    """One result, ready to be shown.

    Attributes:
        kind: `"probe"`, `"surprise"`, `"health"`, `"decode"` or `"compare"`.
        title: a headline.
        text: the result as a table of fixed-width text.
        pictures: PNG and GIF files, in the order in which to show them.
        result: the content of its JSON file.
        path: that file.
    """

    kind: str
    title: str
    text: str
    pictures: tuple[Path, ...]
    result: dict[str, Any]
    path: Path


def find_analyses(folder: str | Path) -> list[Analysis]:
    """All results below a folder, by kind and path; an empty list where there are none.

    Raises:
        ValueError: for a damaged file.
    """
    found = []
    for kind, title, describe, patterns in _KINDS:
        for path in sorted(Path(folder).rglob(f"{kind}.json")):
            result = read_object(path, f"run `lewm {kind}` again")
            if (result.get("kind"), result.get("format")) != (kind, 1):
                continue  # another program's file
            try:
                text = describe(result)
            except (KeyError, TypeError, IndexError) as error:
                raise ValueError(f"{path} lacks a field ({error}): run `lewm {kind}` again") from None
            pictures = tuple(picture for pattern in patterns for picture in sorted(path.parent.glob(pattern)))
            found.append(Analysis(kind, title, text, pictures, result, path))
    return found
