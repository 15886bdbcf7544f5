"""The pictures of a page, each written into it: bars of success, films, curves of the training, plots of analyses."""

import base64
import re
from collections.abc import Sequence
from typing import Any

from .analyses import FoundAnalysis
from .evaluations import Shown
from .figures import success_figure, training_figures
from .training_run import sigreg_bounds_of

FILM = re.compile(r"\d+-(?P<verdict>\w+)-seed(?P<seed>\d+)-episode(?P<episode>\d+)-frame(?P<frame>\d+)")


def success_bars(shown: Sequence[Shown]) -> dict[str, str]:
    """Success of every evaluation beside its floors."""
    svg = success_figure({one.title: one.result for one in shown})
    return _image(svg.encode(), "svg+xml", "Success rates beside their floors")


def films_of(shown: Sequence[Shown], limit: int) -> list[dict[str, str]]:
    """At most `limit` films of each evaluation, and what each shows."""
    figures = []
    for one in shown:
        for path in sorted((one.folder / "videos").glob("*-seed*-episode*.gif"))[:limit]:
            named = FILM.fullmatch(path.stem)
            if named is None:
                continue  # somebody else's picture
            caption = (
                f"{one.title}: {named['verdict']}. Episode {named['episode']} from frame {named['frame']}, "
                f"seed {named['seed']}"
            )
            figures.append(_image(path.read_bytes(), "gif", caption))
    return figures


def training_curves(records: Any, recipe: dict[str, Any]) -> list[dict[str, str]]:
    """Plots of what the run logged."""
    figures = training_figures(records, sigreg_bounds_of(recipe), recipe.get("embed_dim"))
    return [_image(svg.encode(), "svg+xml", name) for name, svg in figures.items()]


def shown_analysis(analysis: FoundAnalysis) -> dict[str, Any]:
    """Headline, text and pictures of an analysis."""
    pictures = [
        _image(path.read_bytes(), path.suffix[1:], f"{analysis.title}: {path.stem}") for path in analysis.pictures
    ]
    return {"title": analysis.title, "text": analysis.text, "pictures": pictures}


def _image(data: bytes, kind: str, alt: str) -> dict[str, str]:
    """What the template makes an `img` of that needs no other file."""
    return {"kind": kind, "base64": base64.b64encode(data).decode(), "alt": alt}
