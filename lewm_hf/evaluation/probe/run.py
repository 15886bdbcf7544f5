"""What can be read out of frozen embeddings: ridge and MLP probes on held-out episodes, beside blind controls."""

import copy
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.schema import STATE
from ...measures.correlation import pearson, r_squared
from ...measures.significance import resampled_interval
from ...progress import progress_bar
from ...randomness import preserved_randomness
from ...tasks.measurable import Target
from ...tasks.registry import knows_goals, make_env, task_names
from ..common.analysis import Analysis
from ..common.embeddings import FrameSample, by_batches, encode_rows, sample_frames
from ..common.inputs import Inputs, open_inputs
from ..common.ranks import ALONE, Ranks
from ..success.protocol import content_hash
from .columns import column_values, with_values
from .regression import SKETCHED, Sketch, Standardizer, fit_mlp, fit_ridge, pixel_components
from .report import format_probe, plot_probe
from .result import ProbeResult, ProbeRow, ProbeSettings

WINDOW = 3
TRAIN_SHARE = 0.7
LEAST_EPISODES, LEAST_FRAMES = 5, 50
PCA_SIZE = 32
SAMPLE_SEED = 0
UNTRAINED_SEED = 1603
PROBES = ("linear", "mlp")
SCORES = ("mse", "r", "r2")

_NAMES = {"features": "encoder", "embeddings": "projected"}
Split = tuple[np.ndarray, np.ndarray]


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


def probe(
    model: Any,
    episodes: Any,
    *,
    targets: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    frames: int = 4000,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    probes: Sequence[str] = PROBES,
    mlp_steps: int = 1500,
    controls: bool = True,
    split: str = "test",
    out: str | Path | None = None,
    overwrite: bool = False,
    processor: Any = None,
    revision: str | None = None,
    episodes_revision: str | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    ranks: Ranks = ALONE,
) -> Probing:
    """Fits probes on the frozen embeddings of 70 % of the episodes and scores them on the other 30 %, per seed.

    Inputs and targets are standardized on the training part. Ridge has alpha = 0.01, the MLP 2 x 256 GELU units and
    1,500 steps of AdamW at 1e-3. A seed decides about the split and the MLP; the frames are the same for all, so the
    intervals show the spread of splits and fits.

    Args:
        model: folder, Hub id, or a world model in eval mode (then `processor` is needed).
        episodes: an `EpisodeData`, or a data set's folder or Hub id, of which `split` is loaded.
        targets: names; default: all of the environment, or what was observed where it knows of none.
        columns: instead of targets, columns of numbers of the data set, `observation.state` or some entries of one,
            `observation.state[0:2]`; needs no environment.
        frames: how many, spread evenly over the episodes; all where there are fewer.
        seeds: of splits and MLPs.
        probes: any of `"linear"`, `"mlp"`.
        mlp_steps: optimizer steps of an MLP probe.
        controls: probe an untrained copy of the encoder and the pictures' principal components too.
        out: folder for `probe.json` and `probe.png`. Default: nothing is written.
        overwrite: replace the result of another question that `out` holds.
        revision, episodes_revision: of a Hub checkpoint and data set.
        device: default: the accelerator, else the CPU.
        progress: show a bar.
        ranks: processes that divide frames and fits, each of which calls this; all get the result, the main one writes.

    Raises:
        ValueError, FileNotFoundError: one line, before anything is computed, for unknown targets or probes, episodes
            of an unknown environment or of another one than the model's, too few of them, or `out` with the result of
            another question.
    """
    analysis = ProbeAnalysis.carry_out(
        model, episodes, targets=targets, columns=columns, frames=frames, seeds=seeds, probes=probes,
        mlp_steps=mlp_steps, controls=controls, progress=progress, split=split, processor=processor, revision=revision,
        episodes_revision=episodes_revision, device=device, out=out, overwrite=overwrite, ranks=ranks,
    )  # fmt: skip
    return Probing(analysis.found)


class ProbeAnalysis(Analysis):
    """Arguments as those of `probe`."""

    kind, title, result_type = "probe", "What can be read off the embeddings", ProbeResult
    pictures = ("probe.png",)
    found: ProbeResult

    def __init__(
        self,
        model: Any,
        episodes: Any,
        *,
        targets: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        frames: int = 4000,
        seeds: Sequence[int] = (0, 1, 2, 3, 4),
        probes: Sequence[str] = PROBES,
        mlp_steps: int = 1500,
        controls: bool = True,
        progress: bool = False,
        **opening: Any,
    ):
        self.seeds, self.probes, self.mlp_steps = list(seeds), list(probes), mlp_steps
        self.controls, self.progress = controls, progress
        _check_numbers(frames, self.seeds, self.probes, mlp_steps)
        self.inputs = open_inputs(model, episodes, **opening)
        if targets is not None and columns is not None:
            raise ValueError(f"targets={list(targets)} and columns={list(columns)}: give one of both")
        if targets is None and columns is None and _observes_alone(self.inputs):
            columns = [STATE]
        self.recorded = None if columns is None else column_values(self.inputs.episodes, columns)
        chosen = self.recorded is None
        self.targets = _choose(self.inputs, targets) if chosen else tuple(map(Target, self.recorded))
        usable = int((self.inputs.episodes.lengths >= WINDOW).sum())
        if usable < LEAST_EPISODES:
            found = f"{usable} episode{'s' * (usable != 1)} of {WINDOW} frames or more"
            raise ValueError(
                f"{found} cannot be split into training and test: give at least {LEAST_EPISODES} such episodes"
            )
        self.sample = sample_frames(self.inputs.episodes, frames, SAMPLE_SEED, lead=WINDOW - 1)
        if self.recorded is not None:
            self.sample = with_values(self.sample, self.recorded)

    def question(self) -> dict[str, Any]:
        return {
            "settings.frames": len(self.sample),
            "settings.seeds": self.seeds,
            "settings.mlp_steps": self.mlp_steps,
            "settings.probes": self.probes,
            "settings.controls": self.controls,
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
            mlp_steps=self.mlp_steps, split_by="episode", probes=self.probes, controls=self.controls,
            sketched_to=SKETCHED if sketch.used else None,
        )  # fmt: skip
        return ProbeResult(
            settings=settings, env=self.inputs.env, units=self._units(), rows=rows, rows_hash=content_hash(rows),
            **self.inputs.facts(),
        )  # fmt: skip

    def _rows(self, sketch: Sketch) -> list[ProbeRow]:
        inputs, sample, chosen, seeds = self.inputs, self.sample, self.targets, self.seeds
        if self.recorded is None:
            values = _values(inputs, chosen, sample)
        else:
            values = {name: _varying(name, column[sample.rows]) for name, column in self.recorded.items()}
        kinds = [("frame", target) for target in chosen] + [("window", target) for target in chosen if target.moving]
        splits = [_split(sample, seed) for seed in seeds]
        representations = _representations(
            inputs, sample, any(target.moving for target in chosen), self.controls, splits, sketch, self.ranks
        )
        device = next(inputs.agent.model.parameters()).device

        def fit(kind: str, target: Target, name: str, which: str, number: int) -> tuple[dict[str, float], float]:
            part = representations[name][number]
            x = part[:, -1] if kind == "frame" else part.reshape(len(part), -1)
            return _fit(which, x, values[target.name], splits[number], seeds[number], self.mlp_steps, device)

        asked = list(product(kinds, representations, self.probes))
        fits = [(*kind, name, which, number) for kind, name, which in asked for number in range(len(seeds))]
        bar = progress_bar(fits[self.ranks.share], unit="fit", show=self.progress and self.ranks.main)
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


def _check_numbers(frames: int, seeds: list[int], probes: list[str], mlp_steps: int) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds={seeds} must be different whole numbers from 0, at least one")
    for name in probes:
        if name not in PROBES:
            raise ValueError(f"unknown probe {name!r}: use any of {', '.join(PROBES)}")
    if not probes:
        raise ValueError(f"the list of probes is empty: use any of {', '.join(PROBES)}")
    for name, value, least in (("frames", frames, LEAST_FRAMES), ("mlp_steps", mlp_steps, 1)):
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def _observes_alone(inputs: Inputs) -> bool:
    """Whether an environment knows nothing of probes, and its observations were recorded."""
    return inputs.env is not None and not knows_goals(inputs.env) and STATE in inputs.episodes.column_names


def _choose(inputs: Inputs, names: Sequence[str] | None) -> tuple[Target, ...]:
    """The targets with these names; all that the environment has for `None`."""
    if inputs.env is None:
        raise ValueError(
            f"the episodes are of environment {inputs.episodes.env_id!r}, which is no task: name columns of numbers to "
            f"probe (--columns observation.state), use episodes of {', '.join(task_names())}, or register_task it"
        )
    with closing(make_env(inputs.env, **inputs.episodes.env_kwargs)) as env:
        known = {target.name: target for target in env.probe_targets}
        kind = type(env).__name__
    if not known:
        raise ValueError(f"{kind} has no probe targets: set its `probe_targets` and implement `probe_values`")
    if names is None:
        return tuple(known.values())
    for name in names:
        if name not in known:
            raise ValueError(f"unknown probe target {name!r}: use any of {', '.join(known)}")
    if not names:
        raise ValueError(f"the list of probe targets is empty: use any of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _values(inputs: Inputs, chosen: Sequence[Target], sample: FrameSample):
    """Raw values `(n, k)` of every target, without columns that never change."""
    states = inputs.episodes.states
    with closing(make_env(inputs.env, **inputs.episodes.env_kwargs)) as env:
        env.reset(seed=0, options={"goal_image": False})
        here, before = states[sample.rows], states[sample.rows - 1]
        # Between rows that are several steps apart a velocity is the mean one.
        measured = env.probe_values(here, here - (here - before) / inputs.episodes.every)
    return {target.name: _varying(target.name, measured[target.name]) for target in chosen}


def _varying(name: str, raw: np.ndarray) -> np.ndarray:
    """Those dimensions of raw values `(n, k)` that change at all."""
    if not len(raw):
        raise ValueError(f"{name} has no numbers in these frames: leave it out")
    values = raw[:, raw.std(0) > 1e-9 * (1 + np.abs(raw).max(0))]
    if not values.shape[1]:
        raise ValueError(f"{name} never changes in these {len(raw)} frames: leave it out of targets")
    return values


def _representations(
    inputs: Inputs,
    sample: FrameSample,
    windows: bool,
    controls: bool,
    splits: Sequence[Split],
    sketch: Sketch,
    ranks: Ranks,
) -> dict[str, list[np.ndarray]]:
    """Per name and split the vectors of the sampled frames, and of those before them: `(n, WINDOW or 1, width)`."""
    agent, episodes = inputs.agent, inputs.episodes
    rows = sample.rows[:, None] + np.arange(1 - WINDOW if windows else 0, 1)
    encoded = encode_rows(agent.model, agent.processor, episodes, rows, reduce=sketch, ranks=ranks)
    vectors = {_NAMES[name]: part.flatten(2).numpy() for name, part in encoded.items()}
    if controls:
        untrained = _untrained(agent.model)
        blind = encode_rows(untrained, agent.processor, episodes, rows, reduce=sketch, ranks=ranks)
        vectors["untrained encoder"] = next(iter(blind.values())).flatten(2).numpy()
    found = {name: [part] * len(splits) for name, part in vectors.items()}
    if controls:
        pictures, width = _small_pictures(episodes, rows, ranks), vectors["projected"].shape[2]
        flat = pictures.reshape(-1, pictures.shape[2])
        # Components of the training frames themselves: the frames before them show the same.
        last = np.arange(rows.shape[1] - 1, rows.size, rows.shape[1])
        found["pixel PCA"] = [
            pixel_components(flat, last[train], width).reshape(*rows.shape, -1) for train, _ in splits
        ]
    return found


def _untrained(model: torch.nn.Module) -> torch.nn.Module:
    """A fresh model of the same class and config, with random weights, those of a pretrained backbone included."""
    device = next(model.parameters()).device
    config = copy.deepcopy(model.config)
    if hasattr(config, "pretrained"):
        config.pretrained = False
    with preserved_randomness(torch.device("cpu")):
        torch.manual_seed(UNTRAINED_SEED)
        fresh = type(model)(config)
    return fresh.eval().to(device)


def _small_pictures(episodes, rows: np.ndarray, ranks: Ranks) -> np.ndarray:
    """Pictures of 32 x 32 pixels, flattened: `(*rows.shape, 3072)` float32 in [0, 1]."""

    def work(some: np.ndarray) -> dict[str, torch.Tensor]:
        pictures = torch.from_numpy(episodes.frames(some)).permute(0, 3, 1, 2).float() / 255
        size = min(PCA_SIZE, pictures.shape[-1])
        small = torch.nn.functional.interpolate(pictures, size=size, mode="bilinear", antialias=True)
        return {"pixels": small.flatten(1)}

    return by_batches(rows, work, 256, ranks)["pixels"].numpy()


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
