"""What was measured besides planning success: every analysis and comparison below a folder."""

from dataclasses import dataclass
from pathlib import Path

from ...records import Result
from ..analyses import all_analyses
from ..common.outputs import read_object


@dataclass(frozen=True)
class FoundAnalysis:
    """One result, ready to be shown.

    Attributes:
        kind: of the analysis: `"probe"`, `"surprise"`, `"health"`, `"decode"`, `"compare"`, or one of the user's own.
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
    result: Result
    path: Path


def find_analyses(folder: str | Path) -> list[FoundAnalysis]:
    """All results below a folder, by kind and path; an empty list where there are none.

    Raises:
        ValueError: for a damaged file.
    """
    found = []
    for analysis in all_analyses():
        kind, result_type = analysis.kind, analysis.result_type
        for path in sorted(Path(folder).rglob(f"{kind}.json")):
            content = read_object(path, f"run `lewm {kind}` again")
            if (content.get("kind"), content.get("format")) != (kind, result_type.format):
                continue  # another program's file
            try:
                result = result_type.from_json(content)
            except ValueError as error:
                raise ValueError(f"{path} {error}: run `lewm {kind}` again") from error
            pictures = tuple(one for pattern in analysis.pictures for one in sorted(path.parent.glob(pattern)))
            found.append(FoundAnalysis(kind, analysis.title, analysis.text(result), pictures, result, path))
    return found
