"""What a model card shows besides planning success: probes, surprise, health, and whatever else was measured."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AnalysisText:
    """One analysis, as a card shows it.

    Attributes:
        title: a headline.
        text: of fixed width.
        picture: path within the folder of its first picture, `None` where none lies beside the result.
    """

    title: str
    text: str
    picture: str | None


def analyses_of(folder: Path, fingerprint: str) -> tuple[AnalysisText, ...]:
    """All results of analyses below `folder/evaluation`.

    Args:
        folder: of the checkpoint.
        fingerprint: of its weights.

    Raises:
        ValueError: for a damaged file, or a result of other weights.
    """
    from ...evaluation.report.analyses import find_analyses  # brings tasks and data along, which few cards need

    shown = []
    for found in find_analyses(folder / "evaluation"):
        model = getattr(found.result, "model", None)
        if model is not None and model.fingerprint != fingerprint:
            raise ValueError(
                f"{found.path} was measured on other weights than those of {folder}: analyze this checkpoint"
            )
        pictures = [path.relative_to(folder).as_posix() for path in found.pictures]
        shown.append(AnalysisText(found.title, found.text, next(iter(pictures), None)))
    return tuple(shown)
