"""One self-contained HTML page about a run: success beside its floors, films, curves, settings, versions, commands."""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ...files import write_atomic
from ...measures.collapse import collapse_warning
from ..common.results import read_result
from ..success.result import EvaluationResult, Rate
from ..success.summary import planner_values, protocol_values, success_words
from .analyses import FoundAnalysis, find_analyses
from .figures import success_figure, training_figures

ORDER = ("paper", "clean")
FILM = re.compile(r"\d+-(?P<verdict>\w+)-seed(?P<seed>\d+)-episode(?P<episode>\d+)-frame(?P<frame>\d+)")
_MIDDLE = {
    "decoded": "the imagined embedding, decoded",
    "nearest frames": "the known picture whose embedding is nearest to the imagined one",
}


@dataclass(frozen=True)
class Shown:
    """One evaluation on the page: what it is called, its result and its folder."""

    title: str
    result: EvaluationResult
    folder: Path

    @property
    def protocol(self) -> str:
        return self.result.protocol["name"]


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
    read = [(read_result(folder), Path(folder)) for folder in evaluations]
    shown = [Shown(name, *entry) for name, entry in zip(titles(read), read, strict=True)]
    shown.sort(key=lambda one: (*ORDER, one.protocol).index(one.protocol))
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
        evaluations=[_evaluation(one) for one in shown],
        bars=_bars(shown) if shown else None,
        films=_films(shown, films_per_evaluation),
        imagined=" or ".join(_MIDDLE[way] for way in _MIDDLE if way in {one.result.films for one in shown}),
        results=_results_table(shown),
        judged=[(one.title, success_words(one.result)) for one in shown],
        analyses=[_analysis(analysis) for analysis in analyses],
        curves=_curves(records, recipe) if records else None,
        warning=_collapse(records, recipe),
        settings=[
            _settings(shown, "protocol", protocol_values),
            _settings(shown, "planner", planner_values),
        ],  # fmt: skip
        commands="\n".join(commands),
        details=_details(shown, recipe),
    )
    return write_atomic(out, page)


def _template() -> jinja2.Template:
    """The page; whatever is put into it is escaped, since names and results may come from other people's files."""
    loader = jinja2.PackageLoader("lewm_hf.evaluation.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html")


def read_run(run_dir: str | Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The records of `metrics.jsonl` and the values of `recipe.yaml`, each empty where there is no such file.

    Raises:
        FileNotFoundError: where the folder does not exist.
        ValueError: for a damaged line before the last one, which a running training may be writing.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"there is no run {run_dir}: give the output_dir of a training run")
    records = []
    metrics = run_dir / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError
            records.append(record)
        except ValueError as error:
            if number < len(lines):
                raise ValueError(
                    f"{metrics}, line {number}, is not valid JSON: the file was damaged, restore it"
                ) from error
    path, recipe = run_dir / "recipe.yaml", {}
    if path.is_file():
        try:
            recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not valid YAML ({' '.join(str(error).split())}): restore it") from error
        if not isinstance(recipe, dict):
            raise ValueError(f"{path} holds a {type(recipe).__name__} instead of fields: restore it")
    return records, recipe


def titles(results: Sequence[tuple[EvaluationResult, Path]]) -> list[str]:
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


def _bars(shown: Sequence[Shown]) -> dict[str, str]:
    svg = success_figure({one.title: one.result for one in shown})
    return _image(svg.encode(), "svg+xml", "Success rates beside their floors")


def _image(data: bytes, kind: str, alt: str) -> dict[str, str]:
    return {"kind": kind, "base64": base64.b64encode(data).decode(), "alt": alt}


def _evaluation(one: Shown) -> dict[str, Any]:
    """What the page says about one evaluation outside the tables."""
    result = one.result
    split = {"test": "held-out episodes", "train": "training episodes"}[result.dataset.split]
    return {
        "title": one.title,
        "label": result.protocol["label"],
        "hash": result.protocol["hash"][:12],
        "pairs_from": "pairs that ship with the package" if result.pairs == "shipped" else split,
        "success": result.success,
        "random": result.floors.get("random"),
        "excess": result.excess.get("random"),
        "solved_at_start": result.solved_at_start.share,
    }


def _films(shown: Sequence[Shown], limit: int) -> list[dict[str, str]]:
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


def _pairs(result: EvaluationResult) -> str:
    n, distinct = result.success.n, result.distinct.pairs
    return str(n) if distinct == n else f"{n} ({distinct} distinct)"


def _results_table(shown: Sequence[Shown]) -> dict[str, list]:
    def interval(value: Rate) -> str:
        return f"{100 * value.rate:.1f} ({100 * value.interval[0]:.1f}–{100 * value.interval[1]:.1f})"

    rows = []
    for one in shown:
        result = one.result
        floors, test = result.floors, result.mcnemar_against_random
        rows.append(
            [
                one.title + (" (modified)" if result.protocol["overrides"] else ""),
                result.planner["label"],
                _pairs(result),
                interval(result.success),
                *(interval(floors[name]) if name in floors else "–" for name in ("random", "zero_action")),
                f"{100 * result.excess['random']:+.1f}" if "random" in floors else "–",
                f"{test.p_value:.1g}" if test else "–",
                f"{100 * result.solved_at_start.share:.1f}",
                f"{result.planning.seconds_per_plan:.3f}",
            ]
        )
    head = [
        "protocol",
        "planner",
        "pairs",
        "success, %",
        "random, %",
        "zero actions, %",
        "excess",
        "McNemar p",
        "solved at start, %",
        "s/plan",
    ]
    return {"head": head, "rows": rows}


def _curves(records: Any, recipe: dict[str, Any]) -> list[dict[str, str]]:
    figures = training_figures(records, sigreg_bounds_of(recipe), recipe.get("embed_dim"))
    return [_image(svg.encode(), "svg+xml", name) for name, svg in figures.items()]


def _collapse(records: Sequence[dict[str, Any]], recipe: dict[str, Any]) -> str | None:
    """What the last evaluation of the run says about collapse."""
    evaluations = [record for record in records if "eval/collapse" in record]
    return collapse_warning(evaluations[-1], recipe) if evaluations else None


def sigreg_bounds_of(recipe: Mapping[str, Any]) -> tuple[float, float] | None:
    """SIGReg of a recipe's batches on Gaussian and on collapsed embeddings; `None` for a recipe without batches."""
    from ...configuration_lewm import LeWMConfig
    from ...sigreg import sigreg_bounds

    if "batch_size" not in recipe:
        return None
    given = {name: recipe[name] for name in ("sigreg_knots", "sigreg_t_max") if name in recipe}
    return sigreg_bounds(LeWMConfig(**given), recipe["batch_size"])


def _analysis(analysis: FoundAnalysis) -> dict[str, Any]:
    pictures = [
        _image(path.read_bytes(), path.suffix[1:], f"{analysis.title}: {path.stem}") for path in analysis.pictures
    ]
    return {"title": analysis.title, "text": analysis.text, "pictures": pictures}


def _settings(
    shown: Sequence[Shown], kind: str, values_of: Callable[[EvaluationResult], dict[str, tuple[Any, bool]]]
) -> dict[str, Any]:
    """For each value of the protocols or planners its text in every result, and whether it differs from their file."""
    columns = [values_of(one.result) for one in shown]
    described = [one.result[kind] for one in shown]

    def text(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    def cell(column: dict[str, tuple[Any, bool]], name: str) -> tuple[str, bool]:
        value, changed = column.get(name, ("–", False))
        return text(value), changed

    names = dict.fromkeys(name for column in columns for name in column)
    return {
        "kind": kind,
        "heads": [f"{one.title} ({part['label']})" for one, part in zip(shown, described, strict=True)],
        "hashes": [part["hash"][:12] for part in described],
        "rows": [(name, [cell(column, name) for column in columns]) for name in names],
    }


def _details(shown: Sequence[Shown], recipe: dict[str, Any]) -> list[tuple[str, list[str], list]]:
    """Tables that are folded at first: headline, head, rows."""
    details = []
    if shown:
        result = shown[0].result
        facts = {
            "model": result.model.source,
            "model fingerprint": result.model.fingerprint[:16],
            "data set fingerprint": result.dataset.fingerprint[:16],
            **{f"manifest hash, {one.title}": one.result.manifests[0].hash[:16] for one in shown},
            **{name.replace("_", " "): value for name, value in result.hardware.items()},
        }
        details.append(("Fingerprints and hardware", ["", ""], list(facts.items())))
        details.append(("Versions", ["library", "version"], list(result.versions.items())))
    if recipe:
        details.append(("Recipe and model", ["field", "value"], list(recipe.items())))
    return details
