"""What can be read out of frozen embeddings: ridge and MLP probes on held-out episodes, beside blind controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...arguments_of import arguments_of
from ...data.schema import STATE
from ...measures.correlation import pearson, r_squared
from ...measures.significance import resampled_interval
from ...progress import progress_bar
from ...tasks.measurable import Target
from ..common.analysis import Analysis
from ..common.embeddings import FrameSample, sample_frames
from ..success.protocol import content_hash
from .arguments import PROBES, ProbeArguments
from .columns import column_values, with_values
from .regression import SKETCHED, Sketch, Standardizer, fit_mlp, fit_ridge
from .report import format_probe, plot_probe
from .representations import WINDOW, Split, representations
from .result import ProbeResult, ProbeRow, ProbeSettings
from .values import choose_targets, observes_alone, target_values, varying

TRAIN_SHARE = 0.7
LEAST_EPISODES, LEAST_FRAMES = 5, 50
SAMPLE_SEED = 0
SCORES = ("mse", "r", "r2")


@dataclass(frozen=True)
class Probing:
    """What `probe` returns.

    Attributes:
        result: the content of `probe.json`.
        rows: one per target, representation, input and probe.
    """

    result: ProbeResult

    @property
    def rows(self) -> list[ProbeRow]:
        return self.result.rows


@arguments_of(ProbeArguments)
def probe(given: ProbeArguments) -> Probing:
    """Fits probes on the frozen embeddings of 70 % of the episodes and scores them on the other 30 %, per seed.

    Inputs and targets are standardized on the training part. Ridge has alpha = 0.01, the MLP 2 x 256 GELU units and
    1,500 steps of AdamW at 1e-3. A seed decides about the split and the MLP; the frames are the same for all, so the
    intervals show the spread of splits and fits. The files are `probe.json` and `probe.png`.

    Returns:
        The result and its rows.

    Raises:
        ValueError, FileNotFoundError: one line, before anything is computed, for unknown targets or probes, episodes
            of an unknown environment or of another one than the model's, too few of them, or `out` with the result of
            another question.
    """
    return Probing(given.carry_out(ProbeAnalysis).found)


class ProbeAnalysis(Analysis):
    """See `probe`."""

    kind, title, result_type = "probe", "What can be read off the embeddings", ProbeResult
    pictures = ("probe.png",)
    found: ProbeResult

    def __init__(self, given: ProbeArguments):
        _check_numbers(given)
        self.given, self.seeds = given, list(given.seeds)
        self.inputs = given.open_inputs(given.episodes)
        targets, columns = given.targets, given.columns
        if targets is not None and columns is not None:
            raise ValueError(f"targets={list(targets)} and columns={list(columns)}: give one of both")
        if targets is None and columns is None and observes_alone(self.inputs):
            columns = [STATE]
        self.recorded = None if columns is None else column_values(self.inputs.episodes, columns)
        if self.recorded is None:
            self.targets = choose_targets(self.inputs, targets)
        else:
            self.targets = tuple(map(Target, self.recorded))
        usable = int((self.inputs.episodes.lengths >= WINDOW).sum())
        if usable < LEAST_EPISODES:
            found = f"{usable} episode{'s' * (usable != 1)} of {WINDOW} frames or more"
            raise ValueError(
                f"{found} cannot be split into training and test: give at least {LEAST_EPISODES} such episodes"
            )
        self.sample = sample_frames(self.inputs.episodes, given.frames, SAMPLE_SEED, lead=WINDOW - 1)
        if self.recorded is not None:
            self.sample = with_values(self.sample, self.recorded)

    def question(self) -> dict[str, Any]:
        return {
            "settings.frames": len(self.sample),
            "settings.seeds": self.seeds,
            "settings.mlp_steps": self.given.mlp_steps,
            "settings.probes": list(self.given.probes),
            "settings.controls": self.given.controls,
            "units": self._units(),
            **self.inputs.question(),
        }

    def _units(self) -> dict[str, str]:
        return {target.name: target.unit for target in self.targets}

    def run(self) -> ProbeResult:
        sketch = Sketch()
        rows = self._rows(sketch)
        settings = ProbeSettings(
            frames=len(self.sample), seeds=self.seeds, train_share=TRAIN_SHARE, window=WINDOW,
            mlp_steps=self.given.mlp_steps, split_by="episode", probes=list(self.given.probes),
            controls=self.given.controls,
            sketched_to=SKETCHED if sketch.used else None,
        )  # fmt: skip
        return ProbeResult(
            settings=settings, env=self.inputs.env, units=self._units(), rows=rows, rows_hash=content_hash(rows),
            **self.inputs.facts(),
        )  # fmt: skip

    def _rows(self, sketch: Sketch) -> list[ProbeRow]:
        inputs, sample, chosen, seeds = self.inputs, self.sample, self.targets, self.seeds
        if self.recorded is None:
            values = target_values(inputs, chosen, sample)
        else:
            values = {name: varying(name, column[sample.rows]) for name, column in self.recorded.items()}
        kinds = [("frame", target) for target in chosen] + [("window", target) for target in chosen if target.moving]
        splits = [_split(sample, seed) for seed in seeds]
        vectors = representations(
            inputs, sample, any(target.moving for target in chosen), self.given.controls, splits, sketch, self.ranks
        )
        device = next(inputs.agent.model.parameters()).device

        def fit(kind: str, target: Target, name: str, which: str, number: int) -> tuple[dict[str, float], float]:
            part = vectors[name][number]
            x = part[:, -1] if kind == "frame" else part.reshape(len(part), -1)
            return _fit(which, x, values[target.name], splits[number], seeds[number], self.given.mlp_steps, device)

        asked = list(product(kinds, vectors, self.given.probes))
        fits = [(*kind, name, which, number) for kind, name, which in asked for number in range(len(seeds))]
        bar = progress_bar(fits[self.ranks.share], unit="fit", show=self.given.progress and self.ranks.main)
        found = iter(self.ranks.together([fit(*one) for one in bar]))
        rows = []
        for (kind, target), name, which in asked:
            scores, sd = zip(*islice(found, len(seeds)), strict=True)
            rows.append(_row(target, values[target.name], name, kind, which, splits[0], scores, sd))
        return rows

    @classmethod
    def text(cls, result: ProbeResult) -> str:
        return format_probe(result)

    def draw(self, out: Path) -> None:
        plot_probe(out / "probe.png", self.found)


def _check_numbers(given: ProbeArguments) -> None:
    seeds = list(given.seeds)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds={seeds} must be different whole numbers from 0, at least one")
    for name in given.probes:
        if name not in PROBES:
            raise ValueError(f"unknown probe {name!r}: use any of {', '.join(PROBES)}")
    if not given.probes:
        raise ValueError(f"the list of probes is empty: use any of {', '.join(PROBES)}")
    for name, value, least in (("frames", given.frames, LEAST_FRAMES), ("mlp_steps", given.mlp_steps, 1)):
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def _split(sample: FrameSample, seed: int) -> Split:
    """Training and test frames `(n,)` bool; no episode is in both."""
    order = np.random.default_rng(seed).permutation(np.unique(sample.episodes))
    train = np.isin(sample.episodes, order[: round(TRAIN_SHARE * len(order))])
    return train, ~train


def _fit(
    which: str, x: np.ndarray, values: np.ndarray, split: Split, seed: int, steps: int, device: torch.device
) -> tuple[dict[str, float], float]:
    """Scores of one probe on the test frames, and the standard deviation of a frame's squared error."""
    train, test = split
    y = Standardizer.of(values[train])(values)
    if which == "linear":
        predict = fit_ridge(x[train], y[train])
    else:
        predict = fit_mlp(x[train], y[train], seed=seed, steps=steps, device=device)
    predicted = predict(x[test])
    errors = np.square(predicted - y[test]).mean(1)
    score = {
        "mse": float(errors.mean()),
        "r": float(pearson(predicted, y[test]).mean()),
        "r2": float(r_squared(predicted, y[test]).mean()),
    }
    return score, float(errors.std())


def _row(
    target: Target,
    values: np.ndarray,
    name: str,
    kind: str,
    which: str,
    split: Split,
    scores: Sequence[dict[str, float]],
    sd: Sequence[float],
) -> ProbeRow:
    per_seed = {score: [one[score] for one in scores] for score in SCORES}
    summary: dict[str, Any] = {}
    for score, found in per_seed.items():
        summary[score] = float(np.mean(found))
        summary[f"{score}_interval"] = resampled_interval(found, split[1].sum() / split[0].sum())
    return ProbeRow(
        target=target.name,
        dimensions=values.shape[1],
        representation=name,
        input=kind,
        probe=which,
        train_frames=int(split[0].sum()),
        test_frames=int(split[1].sum()),
        mse_sd=float(np.mean(sd)),
        per_seed=per_seed,
        **summary,
    )
