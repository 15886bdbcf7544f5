"""One self-contained HTML page about a run: success beside its floors, films, curves, settings, versions, commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ...files import write_atomic
from ..success.summary import planner_values, protocol_values, success_words
from .analyses import FoundAnalysis, find_analyses
from .evaluations import Shown, read_evaluations
from .pictures import films_of, shown_analysis, success_bars, training_curves
from .tables import beside_the_tables, folded_tables, results_table, settings_table
from .training_run import last_collapse, read_run

_MIDDLE = {
    "decoded": "the imagined embedding, decoded",
    "nearest frames": "the known picture whose embedding is nearest to the imagined one",
}


def write_report(
    run_dir: str | Path | None = None,
    out: str | Path | None = None,
    *,
    evaluations: Sequence[str | Path] | None = None,
    analyses: Sequence[FoundAnalysis] | None = None,
    commands: Sequence[str] = (),
    title: str | None = None,
    films_per_evaluation: int = 4,
) -> Path:
    """Writes the page; everything is inside it, nothing is fetched.

    Args:
        run_dir: folder of a training run (`metrics.jsonl`, `recipe.yaml`), for its curves and its recipe.
        out: the file, or a folder that gets `index.html`. Default: `report/` inside the run.
        evaluations: folders that `evaluate(out=...)` wrote. Default: all below `run_dir`.
        analyses: what `find_analyses` returns: probes, surprise, health, decoded rollouts, comparisons. Default: all
            below `run_dir`.
        commands: what made it, shown as they are.
        title: default: the environment.
        films_per_evaluation: at most so many GIFs of each.

    Raises:
        FileNotFoundError: where there is neither a run nor an evaluation nor an analysis.
        ValueError: for damaged files.
    """
    if out is None:
        if run_dir is None:
            raise ValueError("there is no place for the report: give out=FILE.html or a folder")
        out = Path(run_dir) / "report"
    out = Path(out)
    out = out if out.suffix == ".html" else out / "index.html"
    records, recipe = read_run(run_dir) if run_dir is not None else ([], {})
    if evaluations is None:
        evaluations = sorted(path.parent for path in Path(run_dir).rglob("results.json")) if run_dir is not None else []
    shown = read_evaluations(evaluations)
    if analyses is None:
        analyses = find_analyses(run_dir) if run_dir is not None else []
    if not records and not shown and not analyses:
        raise FileNotFoundError(
            f"there is nothing to report: {run_dir} holds no metrics.jsonl, no evaluation and no analysis"
        )

    if title is None:
        title = f"LeWM on {_short(shown[0].result.env.id)}" if shown else "LeWM training run"
    page = _template().render(
        title=title,
        subtitle=_subtitle(shown, records),
        evaluations=[beside_the_tables(one) for one in shown],
        bars=success_bars(shown) if shown else None,
        films=films_of(shown, films_per_evaluation),
        imagined=" or ".join(_MIDDLE[way] for way in _MIDDLE if way in {one.result.films for one in shown}),
        results=results_table(shown),
        judged=[(one.title, success_words(one.result)) for one in shown],
        analyses=[shown_analysis(analysis) for analysis in analyses],
        curves=training_curves(records, recipe) if records else None,
        warning=last_collapse(records, recipe),
        settings=[
            settings_table(shown, "protocol", protocol_values),
            settings_table(shown, "planner", planner_values),
        ],
        commands="\n".join(commands),
        details=folded_tables(shown, recipe),
    )
    return write_atomic(out, page)


def _template() -> jinja2.Template:
    """The page; whatever is put into it is escaped, since names and results may come from other people's files."""
    loader = jinja2.PackageLoader("lewm_hf.evaluation.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html")


def _short(env_id: str) -> str:
    return env_id.removeprefix("lewm/").partition("-v")[0]


def _subtitle(shown: Sequence[Shown], records: Sequence[dict[str, Any]]) -> str:
    facts = []
    if shown:
        model = shown[0].result.model
        facts += [f"{model.parameters:,} parameters", f"{model.image_size} px pictures"]
    if records:
        facts.append(f"{max(record['step'] for record in records):,} training steps")
    if shown:
        result = shown[0].result
        facts += [result.hardware["device_name"], result.finished[:10]]
    return " · ".join(facts)
